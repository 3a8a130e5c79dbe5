"""How many activations of gated feed-forward layers are not near zero: NSAR, by layer (Finedeep, arXiv 2502.12928).

NSAR_tau is the share of (token, neuron) with |silu(gate x)| above tau. The paper's threshold is not published, so three
are given. It depends on the scale of the gate's input: compare models that were trained alike, not families.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from llmtool.core.model.decoder import Decoder
from llmtool.core.run.errors import UserError

TAUS = (0.05, 0.1, 0.2)
GATE = "gate_proj"
LOW, HIGH = 0.15, 0.5
"""NSAR at 0.1 under which, and over which, the figures speak for and against cutting a layer into sparse experts."""


@dataclass
class Layer:
    """Counts of one gate: a layer's, or a sub-layer's."""

    name: str
    total: int = 0
    above: list[int] = field(default_factory=lambda: [0] * len(TAUS))
    sample: list[torch.Tensor] = field(default_factory=list)

    def add(self, gate: torch.Tensor) -> None:
        """gate [..., I], what gate_proj gives."""
        size = torch.nn.functional.silu(gate.float()).abs().flatten()
        self.total += size.numel()
        for place, tau in enumerate(TAUS):
            self.above[place] += int((size > tau).sum())
        self.sample.append(size[:: max(1, size.numel() // 2000)])

    def facts(self) -> dict[str, object]:
        """Shares above each tau, and deciles of the size."""
        shares = {str(tau): count / max(1, self.total) for tau, count in zip(TAUS, self.above, strict=True)}
        deciles = torch.cat(self.sample).quantile(torch.linspace(0.1, 0.9, 9)).tolist()
        return {"layer": self.name, "nsar": shares, "deciles": deciles}


@torch.inference_mode()
def measure(decoder: Decoder, rows: Iterable[list[int]], where: str) -> list[dict[str, object]]:
    """Run rows of ids and count at every dense gate, in the order of the layers."""
    device = decoder.lm_head.weight.device
    layers: list[Layer] = []
    handles = []
    for name, module in decoder.model.layers.named_modules():
        if name.rpartition(".")[2] == GATE and ".shared." not in f".{name}.":
            layer = Layer(name.removesuffix(f".{GATE}"))
            layers.append(layer)
            handles.append(module.register_forward_hook(lambda _, __, gate, layer=layer: layer.add(gate)))
    if not layers:
        raise UserError("has no dense feed-forward layer to look into", where=where)
    try:
        for row in rows:
            decoder.hidden(torch.tensor([row], device=device))
    finally:
        for handle in handles:
            handle.remove()
    return [layer.facts() for layer in layers]
