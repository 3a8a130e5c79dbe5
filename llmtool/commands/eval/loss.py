"""`llmtool eval loss`: nats a token and bits a byte of held-out text, by position."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.eval.settings import LossSettings
from llmtool.commands.options import method_settings
from llmtool.commands.sources import HeldOut, count, find_tokenizer, open_source, parse_sources, token_bytes
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.console import QUIET, Console
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
    settings: LossSettings | None = None,
    *,
    reading: Reading | None = None,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """Nats a token and bits a byte of each source, by position in rows of `length` tokens, and over all sources.

    settings: as on the command line, as an object or by their names. reading: of text.

    >>> import llmtool
    >>> llmtool.eval.loss("model", ["corpus.txt"], tokens=256)["all"]["tokens"]
    256
    """
    require("torch", extra="models", why="to run models")
    from llmtool.core.eval.plot import draw_positions
    from llmtool.core.kernels.cpu import use_threads
    from llmtool.core.train.world import World

    reading, named_settings = Reading.split(reading, named_settings)
    asked = LossSettings.of(settings, named_settings)
    use_threads(asked.threads)
    named = parse_sources(data)
    claim_figure(
        asked.plot,
        read=[checkpoint, *(source.path for source in named), *filter(None, [asked.tokenizer, asked.against])],
        force=asked.force,
    )
    if not named:
        raise UserError("no text to score", hint="give --data")
    if asked.against is not None:
        from llmtool.commands.eval.same_text import same_text

        return same_text(checkpoint, named, asked, reading, console)
    model = load_model(checkpoint, asked.dtype, asked.device, settings=method_settings(asked.set))
    if model.note:
        console.info(model.note)
    codec = find_tokenizer(asked.tokenizer, model.path, console)
    longest = model.config.max_position_embeddings
    length = asked.length or min(longest, 2048)
    if length > longest:
        console.warn(f"rows of {length:,} tokens, but the model was made for {longest:,}")
    files = [open_source(source, codec, console, asked.threads, reading, asked.bin_dtype) for source in named]
    refuse_ids_out_of_range(files, model)
    sizes = token_bytes(codec, model.config.vocab_size)
    micro = max(1, MICRO_TOKENS // length)
    found: dict[str, PositionLoss] = {}
    for file in files:
        held = HeldOut(file, length, count(asked.tokens, "--tokens"), mask_documents=asked.mask_documents)
        with console.progress(f"scoring {file.name}", held.rows, "rows") as bar:
            found[file.name] = held.score(model.losses, micro, World(), sizes, bar.advance)
    if asked.plot:
        title = f"{Path(checkpoint).name}: loss by position, rows of {length:,} tokens"
        draw_positions({name: total.positions() for name, total in found.items()}, asked.plot, title)
        console.info(f"{asked.plot}: drawn")
    rows = {
        name: {**total.figures(), "tokens": total.tokens, "buckets": total.buckets()} for name, total in found.items()
    }
    return {"schema": "llmtool.eval-loss/1", "checkpoint": str(checkpoint), "length": length,
            "tokenizer": codec.fingerprint() if codec else None,
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
    if "against" in report:
        from llmtool.commands.eval.same_text import same_text_table

        same_text_table(report, console)
        return
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
