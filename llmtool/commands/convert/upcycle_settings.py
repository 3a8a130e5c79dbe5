"""The settings of `llmtool convert topk|cartesian|mask|finedeep`, each said once."""

from typing import Annotated, Literal

from llmtool.commands.options import DryRun, Force, Override, Seed, TorchThreads
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.settings import Option, Settings

Layers = Annotated[str | None, Option("Layers to convert: 4-20, or 0,3,8-11. Default: all.", metavar="A-B")]
Noise = Annotated[
    float, Option("Multiply each copied number by 1 + S N(0, 1); 0 keeps the start exact.", metavar="S", min=0, max=1)
]
Experts = Annotated[int, Option("Copies of a feed-forward layer.", min=2, max=256, metavar="N")]
TopK = Annotated[int, Option("Experts that a token takes.", min=1, metavar="K")]


@dataclass(frozen=True, kw_only=True)
class TopKSettings(Settings):
    """Plain upcycling, in the form of Mixtral or Qwen3-MoE."""

    experts: Experts = 8
    top_k: TopK = 2
    noise: Noise = 0.0
    layers: Annotated[
        str | None,
        Option("Layers to convert: 4-20, or 0,3,8-11; of a Qwen3 only, a Mixtral has experts in all. Default: all.",
               metavar="A-B"),
    ] = None  # fmt: skip
    form: Annotated[
        Literal["auto", "mixtral", "qwen3_moe"],
        Option("Whose form is written; auto: Qwen3-MoE's for Qwen3, Mixtral's for Llama and Mistral."),
    ] = "auto"
    override: Override = ()
    seed: Seed = 0
    threads: TorchThreads = None
    dry_run: DryRun = False
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class CartesianSettings(Settings):
    """Two routed sub-layers in place of a feed-forward layer."""

    experts: Annotated[int, Option("Routed experts of each sub-layer.", min=1, max=256, metavar="N")] = 16
    top_k: TopK = 2
    noise: Noise = 0.0
    layers: Annotated[
        str | None, Option("Layers to convert: 4-20, or 1,3,5. Default: every other one, from 1.", metavar="A-B")
    ] = None
    override: Override = ()
    seed: Seed = 0
    threads: TorchThreads = None
    dry_run: DryRun = False
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class MaskSettings(Settings):
    """Copies of a feed-forward layer, routed by token id; how many is the table's."""

    top_k: TopK = 1
    noise: Noise = 0.0
    shared: Annotated[bool, Option("A dense expert beside the chosen ones, zero at the start.", "--shared")] = False
    layers: Layers = None
    override: Override = ()
    seed: Seed = 0
    threads: TorchThreads = None
    dry_run: DryRun = False
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class FinedeepSettings(Settings):
    """A feed-forward layer cut into M x K experts, all of which run."""

    sublayers: Annotated[int, Option("M, one after another; 1 starts exactly.", min=1, metavar="M")] = 1
    experts: Annotated[int, Option("K, side by side in each.", min=1, metavar="K")] = 8
    router: Annotated[
        Literal["output-dot", "output-linear", "input", "none"], Option("What an expert's score is made from.")
    ] = "output-dot"
    bias: Annotated[bool, Option("A bias in each score.", "--bias/--no-bias")] = True
    layers: Layers = None
    override: Override = ()
    seed: Seed = 0
    threads: TorchThreads = None
    dry_run: DryRun = False
    force: Force = False
