"""The settings of `llmtool tokenizer extend` and `trim`, each said once: name, type, default, help, bounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from llmtool.commands.options import Force, Threads
from llmtool.core.run.settings import Option, Settings

Control = Annotated[
    Sequence[str],
    Option("Text whose bytes a token are shown at each cut-off; again for more.", metavar="TEXT", matters=False),
]
LimitBytes = Annotated[str | None, Option("Only the first text of this size: 500M.", metavar="SIZE")]
MaxMemory = Annotated[
    str | None,
    Option("Spill counts to disk beyond this: 8G. Default: half of RAM.", metavar="SIZE", matters=False),
]


@dataclass(frozen=True, kw_only=True)
class ExtendSettings(Settings):
    """How many tokens are added, and which may be."""

    add: Annotated[int, Option("Tokens to add at most.", min=1, metavar="N")]
    algorithm: Annotated[
        Literal["bpe", "scaffold"],
        Option("bpe, or scaffold: new tokens that only help to build others get no id."),
    ] = "bpe"
    veto: Annotated[
        Sequence[str],
        Option("No token in which this pattern is found, or that a file names; again for more.", metavar="REGEX|FILE"),
    ] = ()
    scripts: Annotated[str | None, Option("Only tokens of these scripts: Greek,Cyrillic.", metavar="NAMES")] = None
    min_count: Annotated[int, Option("Merge no pair that is rarer.", min=1, metavar="K")] = 2
    max_token_bytes: Annotated[int, Option("Merge nothing into a longer token.", min=2, metavar="N")] = 1024
    multiple: Annotated[int, Option("All ids together are rounded down to a multiple.", min=1, metavar="N")] = 1
    fit_rows: Annotated[
        str | None,
        Option("No more ids than an embedding has rows: a checkpoint, or a number.", metavar="CKPT|N"),
    ] = None
    control: Control = ()
    held_out: Annotated[
        Sequence[str],
        Option("Text, not learned from, that shows which new tokens are used; again for more.", metavar="TEXT",
               matters=False),
    ] = ()  # fmt: skip
    limit_bytes: LimitBytes = None
    max_memory: MaxMemory = None
    threads: Threads = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class TrimSettings(Settings):
    """How many tokens go, and which may."""

    to: Annotated[int | None, Option("Ids that stay at most, added tokens included.", min=1, metavar="N")] = None
    min_count: Annotated[int | None, Option("Tokens that occur less often in INPUT go.", min=1, metavar="K")] = None
    keep: Annotated[
        Path | None, Option("File of tokens that stay, one a line; all others go that may.", metavar="FILE")
    ] = None
    encoder: Annotated[
        Literal["lbpe"] | None,
        Option("lbpe: any token may go, for it needs no merges. Default: as the file says."),
    ] = None
    multiple: Annotated[int, Option("Ids that stay are rounded up to a multiple.", min=1, metavar="N")] = 1
    limit_bytes: LimitBytes = None
    threads: Threads = None
    force: Force = False
