"""Options that several commands share, as fields of their settings or as parameters of their own.

Spelled, explained and bounded here once; `Annotated[type, Option(help)]` (core/run/settings.py).
"""

from pathlib import Path
from typing import Annotated, Literal

from llmtool.core.run.settings import Option

Dtype = Annotated[
    Literal["bf16", "fp16", "fp32", "fp64"] | None, Option("Element type of the weights. Default: as they are stored.")
]
Device = Annotated[
    str,
    Option("cpu, cuda or cuda:N; auto takes a GPU where there is one.", metavar="DEVICE", matters=False),
]
Kernels = Annotated[
    Literal["auto", "torch", "triton"],
    Option("Code of the ops: torch, Triton, or auto: Triton where measured on this GPU.", matters=False),
]
Seed = Annotated[int, Option("Seed of everything that is drawn.", metavar="N")]
Threads = Annotated[
    int | None, Option("Threads of the engine; all cores if not given.", min=1, metavar="N", matters=False)
]
Force = Annotated[bool, Option("Replace an output that exists.", "--force", matters=False)]
DryRun = Annotated[bool, Option("Say what would be done, and do nothing.", "--dry-run", matters=False)]
Field = Annotated[str, Option("JSONL or Parquet field that holds the text.", metavar="NAME")]
TextMode = Annotated[Literal["file", "line"], Option("Plain text: one document a file, or one a line.", "--documents")]
InputFormat = Annotated[
    Literal["auto", "text", "jsonl", "parquet"],
    Option("What the inputs are; auto looks at their content.", "--input-format"),
]
Strict = Annotated[bool, Option("Stop at the first row that does not parse.", "--strict")]
Precision = Annotated[Literal["fp32", "bf16"], Option("bf16: products in bf16, weights in fp32.", "--dtype")]
Schedule = Annotated[Literal["cosine", "linear", "wsd", "constant"], Option("Learning rate over the run.")]
EvalEvery = Annotated[int | None, Option("Steps between evaluations. Default: a twentieth of all.", min=0)]
SaveEvery = Annotated[int | None, Option("Steps between states. Default: a fifth of all.", min=0, matters=False)]
Plot = Annotated[Path | None, Option("Draw a figure, PNG or SVG by name.", metavar="FILE", matters=False)]
DataFormat = Annotated[
    Literal["auto", "messages", "sharegpt", "alpaca", "prompt-completion", "text"],
    Option("What the rows are; auto tells it by their fields.", "--format"),
]
Template = Annotated[
    str | None,
    Option("Chat template: a file, plain, or chatml. Default: the tokenizer's.", metavar="TEMPLATE"),
]
Packing = Annotated[bool, Option("Several examples in a row, or one.", "--pack/--no-pack")]
DropOverlong = Annotated[bool, Option("Drop examples that are too long, not cut them.", "--drop-overlong")]
