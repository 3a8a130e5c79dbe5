"""`llmtool.eval`: what a checkpoint knows and does on text; one function a command, each returning its report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from llmtool.commands.convert.uniattn import Calibration
from llmtool.commands.eval import experts as sparse
from llmtool.commands.eval.attention import evaluate_attention
from llmtool.commands.eval.loss import loss
from llmtool.commands.eval.niah import needles as niah
from llmtool.commands.options import method_settings
from llmtool.core.run.console import QUIET, Console

__all__ = ["attention", "experts", "loss", "niah"]


def attention(
    checkpoint: str | Path,
    data: Sequence[str],
    *,
    kv_saving: str = "25%",
    measure: Literal["cosine", "js"] = "cosine",
    samples: int = 16,
    window: int = 256,
    tokenizer: Path | None = None,
    output: Path | None = None,
    plot: Path | None = None,
    device: str = "auto",
    force: bool = False,
    console: Console = QUIET,
) -> dict[str, Any]:
    """The layers' attention maps side by side, and which layers can share one for the wanted saving.

    >>> import llmtool
    >>> plan = llmtool.eval.attention("model", ["corpus.txt"], samples=2, window=32)
    >>> len(plan["similarity"])
    2
    """
    return evaluate_attention(
        Path(checkpoint), Calibration(data, samples, window, tokenizer), kv_saving=kv_saving, measure=measure,
        figure=plot, output=output, device=device, force=force, console=console,
    )  # fmt: skip


def experts(
    checkpoint: str | Path,
    data: Sequence[str],
    *,
    taus: str = sparse.TAUS,
    tokens: int = 4096,
    length: int = 256,
    dense: Path | None = None,
    plot: Path | None = None,
    set: Sequence[str] = (),  # noqa: A002 - the option's name
    dtype: str | None = None,
    device: str = "auto",
    console: Console = QUIET,
) -> dict[str, Any]:
    """Which experts a DSMoE checkpoint uses, by layer and by text source, and its loss at other thresholds.

    >>> import llmtool
    >>> converted = llmtool.convert.dsmoe("model", "sparse-for-eval", experts=4)
    >>> found = llmtool.eval.experts("sparse-for-eval", ["corpus.txt"], taus="0.2,0.5", tokens=64, length=16)
    >>> found["schema"]
    'llmtool.eval-experts/1'
    """
    return sparse.experts(
        Path(checkpoint), data, taus=taus, tokens=tokens, length=length, dense=dense, plot=plot,
        settings=method_settings(set), dtype=dtype, device=device, console=console,
    )  # fmt: skip
