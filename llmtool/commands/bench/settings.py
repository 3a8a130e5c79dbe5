"""The settings of `llmtool bench`, each said once: name, type, default, help, bounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from llmtool.commands.options import Device, Dtype, Force, Kernels, Plot
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.settings import Option, Settings

ARCHITECTURES = "sm_80,sm_90,sm_100"
PARTS = "env,ceilings,tests,big,ops,decode,train,tune"
Cpu = Annotated[bool, Option("The CPU, also where there is a GPU.", "--cpu")]
Rows = Annotated[Path | None, Option("A new file of JSON lines: rows go there as they come.", metavar="FILE")]
Budget = Annotated[float | None, Option("Begin nothing new after so many seconds.", min=1, metavar="S")]
Markdown = Annotated[bool, Option("Print the table as Markdown.", "--markdown")]


@dataclass(frozen=True, kw_only=True)
class KernelSettings(Settings):
    """Which cases are timed, against what, and what is made of the times.

    sizes: a kind of core.kernels.spec.Sizes, or "rows=4096,width=5120" for the ops that know these names.
    """

    sizes: Annotated[str | None, Option("odd, small (a CPU's), large (a GPU's), or rows=4096,...", metavar="SIZES")] = (
        None
    )
    dtype: Annotated[Literal["bf16", "fp16", "fp32"] | None, Option("Default: bf16 on a GPU, fp32 on a CPU.")] = None
    cpu: Cpu = False
    direction: Annotated[
        Literal["forward", "training"] | None, Option("forward alone, or with its gradients; default: both.")
    ] = None
    seconds: Annotated[float, Option("Time for each measurement.", min=0.01, metavar="S")] = 1.0
    compiled: Annotated[
        bool | None, Option("Time torch.compile too; on a GPU by default.", "--compile/--no-compile")
    ] = None
    checks: Annotated[bool, Option("Without a GPU: interpret and compile our kernels.", "--checks/--no-checks")] = True
    markdown: Markdown = False
    plot: Annotated[Path | None, Option("Draw OP.png for each op here.", metavar="DIR")] = None
    force: Force = False
    tune: Annotated[bool, Option("Measure launch configurations instead; rows for tuning.json.", "--tune")] = False
    baseline: Annotated[Path | None, Option("An earlier --json of this device.", metavar="FILE")] = None
    max_slowdown: Annotated[float, Option("Exit with 3 where ours takes so many times longer.", min=1)] = 1.05
    rows: Rows = None
    budget: Budget = None


@dataclass(frozen=True, kw_only=True)
class CompileSettings(Settings):
    """For what the kernels are compiled."""

    arch: Annotated[str, Option("GPU architectures, with commas between.", metavar="sm_NN,...")] = ARCHITECTURES
    first: Annotated[bool, Option("One configuration of each kernel, for CI.", "--first")] = False
    check: Annotated[bool, Option("Exit with 3 where code is not what it must be.", "--check")] = False


@dataclass(frozen=True, kw_only=True)
class MachineSettings(Settings):
    """What is measured."""

    cpu: Cpu = False


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(Settings):
    """What is run on a device, and how long."""

    budget: Annotated[float, Option("Seconds in all; parts share them.", min=10, metavar="S")] = 300.0
    parts: Annotated[str, Option("Parts, with commas between.", metavar="PART,...")] = PARTS
    cpu: Cpu = False


@dataclass(frozen=True, kw_only=True)
class DecodingSettings(Settings):
    """What checkpoints decode, and how often."""

    batch: Annotated[str, Option("Rows decoded together: 1,8.", metavar="N,...")] = "1"
    context: Annotated[str, Option("Tokens of a prompt: 128,1024.", metavar="N,...")] = "128"
    new: Annotated[int, Option("Tokens decoded after each prompt.", min=2, metavar="N")] = 32
    rounds: Annotated[int, Option("Runs of each; medians are shown.", min=2, metavar="N")] = 5
    kernels: Kernels = "auto"
    dtype: Dtype = None
    device: Device = "auto"
    markdown: Markdown = False
    plot: Plot = None
    force: Force = False
    rows: Rows = None
    budget: Budget = None


@dataclass(frozen=True, kw_only=True)
class PeersSettings(Settings):
    """What of tokenizers is measured, and beside whom."""

    task: Annotated[Literal["encode", "train", "hostile"], Option("What is measured.")] = "encode"
    threads: Annotated[int, Option("Threads of every contender.", min=1, metavar="N")] = 1
    repeats: Annotated[int, Option("Runs, of which medians are shown.", min=1)] = 5
    only: Annotated[Sequence[str], Option("Measure this one; may be given again.", metavar="NAME")] = ()
    pretokenizer: Annotated[
        Literal["gpt2", "cl100k", "o200k", "llama3", "qwen2"],
        Option("Style of the tokenizers that are trained for encoding."),
    ] = "llama3"
    keep: Annotated[Path | None, Option("Keep the trained tokenizers here, and use them again.", metavar="DIR")] = None
    force: Force = False
