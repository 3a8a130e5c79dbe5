"""The settings of `llmtool eval`, each said once: name, type, default, help, bounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from llmtool.commands.options import Device, DryRun, Dtype, Plot, Seed
from llmtool.core.run.settings import Option, Settings

KINDS = ("single", "multikey", "multivalue", "multiquery", "tracking", "common", "qa")


@dataclass(frozen=True, kw_only=True)
class RulerSettings(Settings):
    """What is asked, and of what."""

    tokenizer: Annotated[str | None, Option("For words. Default: the checkpoint's.", metavar="TOK")] = None
    task: Annotated[
        Sequence[str], Option(f"{', '.join(KINDS)}; may be given again. Default: all.", metavar="TASK")
    ] = ()
    length: Annotated[
        Sequence[int], Option("Context; may be given again. Default: quarters of the model's.", min=16)
    ] = ()
    depth: Annotated[
        Sequence[float],
        Option("Place of what is asked for; may be given again. Default: 0, 0.5, 1.", min=0, max=1),
    ] = ()
    samples: Annotated[int, Option("Questions in each cell.", min=1)] = 8
    kind: Annotated[
        Literal["auto", "words", "ids"],
        Option("Words of the tokenizer, or an id a word; auto: words where there is a tokenizer."),
    ] = "auto"
    seed: Seed = 0
    dtype: Dtype = None
    device: Device = "auto"
    plot: Plot = None
    dry_run: DryRun = False
