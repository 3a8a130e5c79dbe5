"""`llmtool.convert`: checkpoints inspected, copied, rewritten; one function a command, each returning its report."""

from pathlib import Path
from typing import Any

from llmtool.commands.convert.copy import copy_checkpoint as copy
from llmtool.commands.convert.dsmoe import convert_dense as dense
from llmtool.commands.convert.dsmoe import convert_dsmoe
from llmtool.commands.convert.dsmoe_baseline import convert_baseline
from llmtool.commands.convert.export import export_model as export
from llmtool.commands.convert.gguf import convert_gguf as gguf
from llmtool.commands.convert.inspect import inspect
from llmtool.commands.convert.lora import merge_lora
from llmtool.commands.convert.rope import convert_rope
from llmtool.commands.convert.settings import (
    BaselineSettings,
    DsmoeSettings,
    RotarySettings,
    UniattnSettings,
)
from llmtool.commands.convert.uniattn import convert_uniattn
from llmtool.commands.convert.upcycle import convert_cartesian, convert_finedeep, convert_mask, convert_topk
from llmtool.commands.convert.upcycle_settings import CartesianSettings, FinedeepSettings, MaskSettings, TopKSettings
from llmtool.commands.convert.vocab import convert_vocab as vocab
from llmtool.commands.places import TABLE, beside
from llmtool.core.run.console import QUIET, Console

__all__ = [
    "cartesian",
    "copy",
    "dense",
    "dsmoe",
    "dsmoe_baseline",
    "export",
    "finedeep",
    "gguf",
    "inspect",
    "mask",
    "merge_lora",
    "rope",
    "topk",
    "uniattn",
    "vocab",
]


def __dir__() -> list[str]:
    return __all__


def dsmoe(
    checkpoint: str | Path,
    output: str | Path | None = None,
    settings: DsmoeSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Cut the feed-forward layers into experts that a router switches (DSMoE).

    >>> import llmtool
    >>> llmtool.convert.dsmoe("model", "sparse", experts=4)["verified"]["layers"]
    2
    """
    return convert_dsmoe(
        Path(checkpoint), beside(checkpoint, "dsmoe", output), settings, console=console, **named_settings
    )


def dsmoe_baseline(
    kind: str,
    checkpoint: str | Path,
    output: str | Path | None = None,
    settings: BaselineSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """What DSMoE is compared with, at the same share of active weights: topk, static, channels, or 2:4.

    >>> import llmtool
    >>> llmtool.convert.dsmoe_baseline("topk", "model", "topk", experts=4, share=0.5)["share"]
    0.5
    """
    place = beside(checkpoint, kind.replace(":", "-"), output)
    return convert_baseline(kind, Path(checkpoint), place, settings, console=console, **named_settings)


def uniattn(
    checkpoint: str | Path,
    output: str | Path | None = None,
    settings: UniattnSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Let layers share a softmax (UniAttn).

    >>> import llmtool
    >>> llmtool.convert.uniattn("model", "shared", groups="2:0:2", init="zero")["followers"]
    1
    """
    place = beside(checkpoint, "uniattn", output)
    return convert_uniattn(Path(checkpoint), place, settings, console=console, **named_settings)


def rope(
    checkpoint: str | Path,
    output: str | Path | None = None,
    settings: RotarySettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Rotary frequencies for a longer context: HARPE and its rivals.

    >>> import llmtool
    >>> llmtool.convert.rope("model", "longer", method="yarn", target=128)["schema"]
    'llmtool.convert-rope/1'
    """
    place = beside(checkpoint, "rope", output)
    return convert_rope(Path(checkpoint), place, settings, console=console, **named_settings)


def topk(
    checkpoint: str | Path,
    output: str | Path | None = None,
    settings: TopKSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Feed-forward layers as routed copies: a Mixtral or a Qwen3-MoE, which stock programs load.

    >>> import llmtool
    >>> llmtool.convert.topk("model", "mixtral", experts=4)["method"]
    'mixtral'
    """
    place = beside(checkpoint, "topk", output)
    return convert_topk(Path(checkpoint), place, settings, console=console, **named_settings)


def cartesian(
    checkpoint: str | Path,
    output: str | Path | None = None,
    settings: CartesianSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Feed-forward layers as two routed sub-layers that compute the same (CartesianMoE).

    >>> import llmtool
    >>> llmtool.convert.cartesian("model", "cartesian", experts=4)["schema"]
    'llmtool.convert-upcycle/1'
    """
    place = beside(checkpoint, "cartesian", output)
    return convert_cartesian(Path(checkpoint), place, settings, console=console, **named_settings)


def finedeep(
    checkpoint: str | Path,
    output: str | Path | None = None,
    settings: FinedeepSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Feed-forward layers as experts that all run, gated by their own outputs (Finedeep).

    >>> import llmtool
    >>> llmtool.convert.finedeep("model", "finedeep", experts=4)["schema"]
    'llmtool.convert-upcycle/1'
    """
    place = beside(checkpoint, "finedeep", output)
    return convert_finedeep(Path(checkpoint), place, settings, console=console, **named_settings)


def mask(
    checkpoint: str | Path,
    output: str | Path | None = None,
    table: str | Path | None = None,
    settings: MaskSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Feed-forward layers as copies that token ids choose among, by a table of `data.token_experts` (MaskMoE).

    >>> import llmtool
    >>> chosen = llmtool.data.token_experts(["corpus.txt"], "table.safetensors", model="model", experts=4)
    >>> llmtool.convert.mask("model", "masked", "table.safetensors")["schema"]
    'llmtool.convert-upcycle/1'
    """
    place, chosen = beside(checkpoint, "mask", output), Path(table or TABLE)
    return convert_mask(Path(checkpoint), place, chosen, settings, console=console, **named_settings)
