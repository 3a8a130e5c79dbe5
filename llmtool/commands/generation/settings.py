"""The settings of `llmtool generate` and `llmtool verify`, each said once: name, type, default, help, bounds."""

from collections.abc import Sequence
from typing import Annotated

from llmtool.commands.options import Device, Dtype, Ignore, Kernels, MeasuringThreads, Override, Seed, Set, Template
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.settings import Option, Settings

Ids = Annotated[bool, Option("The input is token ids, with spaces between, not text.", "--ids")]


@dataclass(frozen=True, kw_only=True)
class GenerateSettings(Settings):
    """What is continued, how tokens are chosen, and where an answer ends."""

    max_tokens: Annotated[int, Option("Tokens to add at most.", min=1, metavar="N")] = 128
    temperature: Annotated[float, Option("0 takes the likeliest token; above, tokens are drawn.", min=0)] = 0.0
    top_k: Annotated[int, Option("Draw among so many; 0 for all.", min=0, metavar="K")] = 0
    top_p: Annotated[float, Option("Draw among the fewest that hold this probability together.", min=0, max=1)] = 1.0
    seed: Seed = 0
    input: Annotated[
        Sequence[str], Option('JSONL rows {"prompt"} or {"messages"} to answer; again for more.', metavar="FILE")
    ] = ()
    chat: Annotated[
        bool, Option("Prompts are a user's messages; without one, a line of stdin is a turn.", "--chat")
    ] = False
    system: Annotated[str | None, Option("The system's message of a chat.", metavar="TEXT")] = None
    template: Template = None
    ignore: Ignore = ()
    stop: Annotated[Sequence[str], Option("End where this is written; again for more.", metavar="TEXT")] = ()
    ignore_eos: Annotated[bool, Option("Go on after the end-of-text token.", "--ignore-eos")] = False
    ids: Ids = False
    dtype: Dtype = None
    device: Device = "auto"
    kernels: Kernels = "auto"
    compiled: Annotated[
        bool | None, Option("torch.compile the step, CUDA graphs; on a GPU by default.", "--compile/--no-compile")
    ] = None
    threads: MeasuringThreads = None
    set: Set = ()
    override: Override = ()


@dataclass(frozen=True, kw_only=True)
class VerifySettings(Settings):
    """On what two checkpoints are compared, and what they must agree to."""

    max_kl: Annotated[float | None, Option("Exit with 3 if the mean KL in nats is larger.", metavar="X")] = None
    tokens: Annotated[int, Option("Tokens to compare on at most.", min=1, metavar="N")] = 4096
    length: Annotated[int, Option("Tokens in a row.", min=1, metavar="N")] = 256
    ids: Ids = False
    seed: Seed = 0
    override: Override = ()
    dtype: Dtype = None
    device: Device = "auto"
    threads: MeasuringThreads = None
