"""The balance loss of a mixture of experts, and what a run says of its experts: the same for every routed layer.

aux = E sum_e f_e P_e (Switch, arXiv 2101.03961, eq. 4): f_e the share of all choices that fell on expert e, P_e its
mean probability; 1 where every expert gets the same. The mean over the routers is added with a coefficient. Padding
does not count; a prompt does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from llmtool.core.model.carry import Carry
from llmtool.core.model.config import Config
from llmtool.core.model.experts import CHOSEN, FREE, SCORES
from llmtool.core.run.errors import UserError, closest
from llmtool.core.run.numbers import real
from llmtool.core.train.objective import Batch, Figures, Term

COEFFICIENT = 0.01


def coefficient(name: str, options: Mapping[str, str], default: float = COEFFICIENT) -> float:
    """The value of --set NAME.coefficient=X; another option is refused."""
    for key in options:
        if key != "coefficient":
            raise UserError(
                f"{name}.{key} is not known", where="--set", hint=closest(key, ["coefficient"]) or "coefficient"
            )
    return real(options.get("coefficient", default), f"{name}.coefficient", low=0, high=1e6, where="--set")


def load_of(chosen: torch.Tensor, counted: torch.Tensor, experts: int) -> torch.Tensor:
    """Share of the choices that fell on each expert [E]: chosen [B, T, k], -1 for none; counted bool [B, T]."""
    valid = (chosen >= 0) & counted[..., None]
    counts = torch.zeros(experts, dtype=torch.float32, device=chosen.device)
    counts.scatter_add_(0, chosen.clamp(min=0).flatten(), valid.flatten().to(torch.float32))
    load: torch.Tensor = counts / counts.sum().clamp(min=1)
    return load


def entropy(load: torch.Tensor) -> torch.Tensor:
    """Of the loads [E], as a share of the most there can be: 1 where all are equal, 0 where one expert has all."""
    most = torch.log(torch.tensor(float(max(2, len(load))), device=load.device))
    share: torch.Tensor = torch.special.entr(load).sum() / most
    return share


class Balance(Term):
    """The loss and the figures of some routers.

    NAME.balance: the loss before its coefficient. By router: NAME.fullest and NAME.emptiest, shares of the choices of
    all tokens that fell on the fullest and on the emptiest expert of a micro-batch; NAME.entropy of these shares.
    """

    def __init__(
        self,
        name: str,
        places: Sequence[str],
        coefficient: float = COEFFICIENT,
        more: Callable[[Figures, Carry, torch.Tensor], None] | None = None,
    ) -> None:
        self.name, self.places, self.coefficient, self.more = name, tuple(places), coefficient, more

    def add(self, loss: torch.Tensor, figures: Figures, carry: Carry, batch: Batch) -> torch.Tensor:
        """The loss with the mean over the routers; a router without a free token in the batch adds nothing."""
        counted = batch.counted
        penalties, fullest, emptiest, spread = [], [], [], []
        for place in self.places:
            scores, chosen = carry.shared[SCORES + place], carry.shared[CHOSEN + place]
            experts = scores.shape[-1]
            free = counted & carry.shared[FREE + place] if FREE + place in carry.shared else counted
            among = load_of(chosen, free, experts)
            mean = (scores * free[..., None]).sum((0, 1)) / free.sum().clamp(min=1)
            penalties.append(experts * (among * mean).sum())
            load = load_of(chosen, counted, experts)
            fullest.append(load.max())
            emptiest.append(load.min())
            spread.append(entropy(load))
        penalty = torch.stack(penalties).mean()
        figures[f"{self.name}.balance"] = penalty.detach()
        for key, values in (("fullest", fullest), ("emptiest", emptiest), ("entropy", spread)):
            figures[f"{self.name}.{key}"] = torch.stack(values)
        if self.more:
            self.more(figures, carry, counted)
        return loss + self.coefficient * penalty


def term(config: Config, settings: Mapping[str, Any], options: Mapping[str, str]) -> Term:  # noqa: ARG001 - a contract
    """The term of a family with experts; options: coefficient."""
    return Balance(
        "experts",
        [str(n) for n in range(config.num_hidden_layers) if n not in config.dense_layers],
        coefficient("experts", options),
    )
