"""Options that several commands share, as fields of their settings or as parameters of their own.

Spelled, explained and bounded here once; `Annotated[type, Option(help)]` (core/run/settings.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from llmtool.core.corpus.reading import Format
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.settings import Option, Settings

Dtype = Annotated[
    Literal["bf16", "fp16", "fp32", "fp64"] | None, Option("Element type of the weights. Default: as they are stored.")
]
Device = Annotated[
    str,
    Option("cpu, cuda or cuda:N; auto takes a GPU where there is one.", metavar="DEVICE", matters=False),
]
Override = Annotated[
    Sequence[str],
    Option("A field of config.json given anew, as JSON: sliding_window=null. Again for more.", metavar="KEY=VALUE"),
]
Only = Annotated[
    Sequence[str],
    Option("Train these parameters alone: a key of the checkpoint or a pattern, '*.router.*'; again for more.",
           "--only", metavar="NAME"),
]  # fmt: skip
Kernels = Annotated[
    Literal["auto", "torch", "triton"],
    Option("Code of the ops: torch, Triton, or auto: Triton where measured on this GPU.", matters=False),
]
Seed = Annotated[int, Option("Seed of everything that is drawn.", metavar="N")]
Threads = Annotated[
    int | None, Option("Threads of the engine; all cores if not given.", min=1, metavar="N", matters=False)
]
TorchThreads = Annotated[
    int | None,
    Option("Threads that compute; torch's choice if not given.", "--threads", min=1, matters=False),
]
MeasuringThreads = Annotated[
    int | None,
    Option("Threads that compute; as many as cores are free if not given.", "--threads", min=1, matters=False),
]
Force = Annotated[bool, Option("Replace an output that exists.", "--force", matters=False)]
DryRun = Annotated[bool, Option("Say what would be done, and do nothing.", "--dry-run", matters=False)]
BinDtype = Annotated[
    Literal["uint16", "uint32"] | None, Option("Element type of a .bin without a sidecar (nanoGPT: uint16).")
]
Field = Annotated[
    Sequence[str],
    Option("Field of a row that holds the text (a.b for nested ones); again to join several.", metavar="NAME"),
]
IdField = Annotated[str | None, Option("Field that names a row. Default: id, where there is one.", metavar="NAME")]
Include = Annotated[Sequence[str], Option("Of a directory, only files that match; again for more.", metavar="GLOB")]
Exclude = Annotated[Sequence[str], Option("Of a directory, no files that match; again for more.", metavar="GLOB")]
TextMode = Annotated[Literal["file", "line"], Option("Plain text: one document a file, or one a line.", "--documents")]
InputFormat = Annotated[Format, Option("What the inputs are; auto looks at their content.", "--input-format")]
Strict = Annotated[bool, Option("Stop at the first row that does not parse.", "--strict")]
Precision = Annotated[Literal["fp32", "bf16"], Option("bf16: products in bf16, weights in fp32.", "--dtype")]
SaveDtype = Annotated[
    Literal["bf16", "fp16", "fp32"] | None,
    Option("Element type of the finished model. Default: the checkpoint's; fp32 for a new one."),
]
Schedule = Annotated[Literal["cosine", "linear", "wsd", "constant"], Option("Learning rate over the run.")]
EvalEvery = Annotated[
    int | None, Option("Steps between evaluations. Default: a twentieth, more in a short run.", min=0)
]
SaveEvery = Annotated[int | None, Option("Steps between states. Default: a fifth of all.", min=0, matters=False)]
Plot = Annotated[Path | None, Option("Draw a figure, PNG or SVG by name.", metavar="FILE", matters=False)]
DataFormat = Annotated[
    Literal["auto", "messages", "sharegpt", "alpaca", "prompt-completion", "text"],
    Option("What the rows are; auto tells it by their fields.", "--format"),
]
Template = Annotated[
    str | None,
    Option(
        "Chat template: a file, plain, chatml, or a name of the tokenizer's. Default: the tokenizer's.",
        metavar="TEMPLATE",
    ),
]
Ignore = Annotated[
    Sequence[str], Option("A field of rows or turns to leave out; again for more.", "--ignore", metavar="FIELD")
]
Date = Annotated[
    str | None,
    Option("The day that templates write which ask for one. Default: today.", "--date", metavar="YYYY-MM-DD"),
]
Packing = Annotated[bool, Option("Several examples in a row, or one.", "--pack/--no-pack")]
DropOverlong = Annotated[bool, Option("Drop examples that are too long, not cut them.", "--drop-overlong")]
Set = Annotated[
    Sequence[str],
    Option(
        "A method's setting instead of config.json's: dsmoe.tau=0.7. Again for more.", "--set",
        metavar="METHOD.KEY=VALUE",
    ),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Replacing(Settings):
    """All that a command which only writes can be told."""

    force: Force = False


def method_settings(given: Sequence[str]) -> dict[str, dict[str, str]]:
    """--set METHOD.KEY=VALUE -> {METHOD: {KEY: VALUE}}."""
    found: dict[str, dict[str, str]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        method, dot, key = name.strip().partition(".")
        if not (equals and dot and method and key and value.strip()):
            raise UserError(f"--set {text}: wanted METHOD.KEY=VALUE", hint="--set dsmoe.tau=0.7")
        found.setdefault(method, {})[key] = value.strip()
    return found
