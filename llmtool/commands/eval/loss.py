"""`llmtool eval loss`: nats a token and bits a byte of held-out text, by position."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.sources import HeldOut, count, find_tokenizer, open_source, parse_sources, token_bytes
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.figures import claim_figure
from llmtool.model import Model, load_model

if TYPE_CHECKING:
    from llmtool.core.corpus.token_files import TokenFile
    from llmtool.core.eval.loss import PositionLoss

MICRO_TOKENS = 8192


def loss(
    checkpoint: str | Path,
    data: Sequence[str],
    *,
    tokenizer: str | None = None,
    length: int | None = None,
    tokens: str | int = "1M",
    mask_documents: bool = False,
    settings: Mapping[str, dict[str, str]] | None = None,
    dtype: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    reading: Reading | None = None,
    bin_dtype: str | None = None,
    plot: Path | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Nats a token and bits a byte of each source, by position in rows of `length` tokens, and over all sources.

    settings: of the checkpoint's methods, instead of config.json's. reading: of text; bin_dtype: of a bare .bin.

    >>> import llmtool
    >>> llmtool.eval.loss("model", ["corpus.txt"], tokens=256)["all"]["tokens"]
    256
    """
    require("torch", extra="models", why="to run models")
    from llmtool.core.eval.plot import draw_positions
    from llmtool.core.train.world import World

    claim_figure(plot, read=[checkpoint, *(source.path for source in parse_sources(data))])
    console = console or Console(verbosity=-1)
    named = parse_sources(data)
    if not named:
        raise UserError("no text to score", hint="give --data")
    model = load_model(checkpoint, dtype, device, settings=settings)
    if model.note:
        console.info(model.note)
    codec = find_tokenizer(tokenizer, model.path, console)
    if length is not None and length > model.config.max_position_embeddings:
        console.warn(f"rows of {length:,} tokens, but the model was made for {model.config.max_position_embeddings:,}")
    length = length or min(model.config.max_position_embeddings, 2048)
    files = [open_source(source, codec, console, threads, reading, bin_dtype) for source in named]
    refuse_ids_out_of_range(files, model)
    sizes = token_bytes(codec, model.config.vocab_size)
    micro = max(1, MICRO_TOKENS // length)
    found: dict[str, PositionLoss] = {}
    for file in files:
        held = HeldOut(file, length, count(tokens, "--tokens"), mask_documents=mask_documents)
        with console.progress(f"scoring {file.name}", held.rows, "rows") as bar:
            found[file.name] = held.score(model.losses, micro, World(), sizes, bar.advance)
    if plot:
        draw_positions({name: total.positions() for name, total in found.items()}, plot)
    rows = {
        name: {**total.figures(), "tokens": total.tokens, "buckets": total.buckets()} for name, total in found.items()
    }
    return {"schema": "llmtool.eval-loss/1", "checkpoint": str(checkpoint), "length": length,
            "sources": rows, "all": _over_all(list(found.values()))}  # fmt: skip


def _over_all(found: "Sequence[PositionLoss]") -> dict[str, Any]:
    """Every token of every source counted once."""
    import math

    nats, tokens = sum(float(f.losses.sum()) for f in found), sum(f.tokens for f in found)
    size = sum(f.bytes for f in found)
    return {"loss": nats / max(1, tokens), "tokens": tokens,
            **({"bits_per_byte": nats / math.log(2) / size} if size else {})}  # fmt: skip


def loss_table(report: dict[str, Any], console: Console) -> None:
    """The losses for people, on stdout."""
    rows = []
    for name, found in [*report["sources"].items(), ("all", report["all"])]:
        if name == "all" and len(report["sources"]) == 1:
            continue
        places = found.get("positions", [])
        quarters = [places[len(places) * q // 4 : len(places) * (q + 1) // 4] for q in range(4)]
        means = [f"{sum(part) / len(part):.4f}" if part else "" for part in quarters]
        bits = f"{found['bits_per_byte']:.4f}" if "bits_per_byte" in found else "-"
        rows.append([name, f"{found['tokens']:,}", f"{found['loss']:.4f}", bits, *means])
    heads = [f"{part} quarter" for part in ("first", "second", "third", "last")]
    console.table(
        f"{report['checkpoint']}, rows of {report['length']:,} tokens",
        ["source", "tokens", "nats/token", "bits/byte", *heads], rows,
        "quarters: nats a token by position in the row", result=True,
    )  # fmt: skip
    by_place: dict[int, dict[str, float]] = {}
    for name, found in report["sources"].items():
        for first, mean in found["buckets"]:
            by_place.setdefault(first, {})[name] = mean
    console.table(
        "By position",
        ["positions", *report["sources"]],
        [
            [_span(first, min(2 * first - 1, report["length"])),
             *(f"{means[name]:.4f}" if name in means else "" for name in report["sources"])]
            for first, means in sorted(by_place.items())
        ], "nats a token", result=True,
    )  # fmt: skip


def _span(first: int, last: int) -> str:
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def refuse_ids_out_of_range(files: "Sequence[TokenFile]", model: Model) -> None:
    """Refuse tokens that the model has no embedding for."""
    from llmtool.core.corpus.token_files import refuse_out_of_range

    for file in files:
        refuse_out_of_range(file, model.config.vocab_size)
