"""`llmtool eval`, callable from Python: loss on held-out text, needles in haystacks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.model import Model, load_model
from llmtool.sources import HeldOut, count, find_tokenizer, open_source, parse_sources, token_bytes
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch

    from llmtool.core.corpus.token_files import TokenFile
    from llmtool.core.eval.loss import PositionLoss

MICRO_TOKENS = 8192
LENGTHS, DEPTHS = 4, (0.0, 0.25, 0.5, 0.75, 1.0)


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
    device: str = "cpu",
    threads: int | None = None,
    plot: Path | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Nats a token and bits a byte of each source, by position in rows of `length` tokens, and over all sources.

    settings: of the checkpoint's methods, instead of config.json's.
    """
    require("torch", extra="models", why="to run models")
    from llmtool.core.eval.plot import check_plot, draw_positions
    from llmtool.core.train.world import World

    check_plot(plot)
    console = console or Console(verbosity=-1)
    named = parse_sources(data)
    if not named:
        raise UserError("no text to score", hint="give --data")
    model = load_model(checkpoint, dtype, device, settings=settings)
    codec = find_tokenizer(tokenizer, model.path, console)
    if length is not None and length > model.config.max_position_embeddings:
        console.warn(f"rows of {length:,} tokens, but the model was made for {model.config.max_position_embeddings:,}")
    length = length or min(model.config.max_position_embeddings, 2048)
    files = [open_source(source, codec, console, threads) for source in named]
    _refuse_out_of_range(files, model)
    sizes = token_bytes(codec, model.config.vocab_size)
    micro = max(1, MICRO_TOKENS // length)
    found: dict[str, PositionLoss] = {}
    for file in files:
        held = HeldOut(file, length, count(tokens, "--tokens"), mask_documents=mask_documents)
        with console.progress(f"scoring {file.name}", held.rows, "rows") as bar:
            found[file.name] = held.score(losses_of(model), micro, World(), sizes, bar.advance)
    if plot:
        draw_positions({name: total.positions() for name, total in found.items()}, plot)
    rows = {name: {**total.figures(), "tokens": total.tokens} for name, total in found.items()}
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


def needles(
    checkpoint: str | Path,
    data: Sequence[str] = (),
    *,
    tokenizer: str | None = None,
    lengths: Sequence[int] = (),
    depths: Sequence[float] = DEPTHS,
    samples: int = 16,
    kind: str = "auto",
    key: int = 4,
    value: int = 4,
    seed: int = 0,
    settings: Mapping[str, dict[str, str]] | None = None,
    dtype: str | None = None,
    device: str = "cpu",
    plot: Path | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Needle in a haystack over lengths and depths.

    data: text or tokens to hide needles in; without it the haystack is random ids. kind: "words" (needs a tokenizer),
    "ids", or "auto": words where the haystack is text.
    """
    require("torch", extra="models", why="to run models")
    import torch

    from llmtool.core.eval import niah
    from llmtool.core.eval.plot import check_plot, draw_needles

    check_plot(plot)
    console = console or Console(verbosity=-1)
    model = load_model(checkpoint, dtype, device, settings=settings)
    codec = find_tokenizer(tokenizer, model.path, console)
    kind = ("words" if codec is not None and data else "ids") if kind == "auto" else kind
    size = model.config.vocab_size if codec is None else min(model.config.vocab_size, codec.vocab_size)
    if kind == "words" and codec is None:
        raise UserError("needles of words need a tokenizer", where=str(checkpoint), hint="--kind ids, or --tokenizer")
    if kind == "ids" and size < key + value + 1:
        raise UserError(f"a vocabulary of {size} is too small for needles of {key + value} different ids")
    draw_needle = niah.spelled_needle(codec.encode) if kind == "words" and codec else niah.random_needle(
        range(size), key, value)  # fmt: skip
    longest = model.config.max_position_embeddings
    lengths = lengths or [longest * (part + 1) // LENGTHS for part in range(LENGTHS)]
    import numpy as np

    least = max(niah.shortest(draw_needle(np.random.default_rng((seed, number)))) for number in range(samples))
    for length in lengths:
        if length < least:
            raise UserError(f"{length} tokens do not hold a needle and its question", hint=f"{least} at least")
    if max(lengths) > longest:
        console.warn(f"{max(lengths):,} tokens, but the model was made for {longest:,}")
    haystack = _haystack(data, codec, model, console, max(lengths), size)

    @torch.inference_mode()
    def last_logits(ids: "torch.Tensor", last: int) -> "torch.Tensor":
        h, _ = model.decoder.hidden(ids.to(model.device))
        logits: torch.Tensor = model.decoder.lm_head(h[:, -last:])
        return logits

    with console.progress("searching", samples * len(lengths) * len(depths), "needles") as bar:
        cells = niah.search(last_logits, haystack, draw_needle, lengths, depths, samples=samples, seed=seed,
                            rows=max(1, MICRO_TOKENS // max(lengths)), done=bar.advance)  # fmt: skip
    if plot:
        draw_needles(cells, plot, f"needles of {kind} found, % of {samples}")
    return {
        "schema": "llmtool.eval-niah/1", "checkpoint": str(checkpoint), "kind": kind, "samples": samples,
        "recall": sum(cell.recall for cell in cells) / len(cells), "cells": [asdict(cell) for cell in cells],
    }  # fmt: skip


def needle_table(report: dict[str, Any], console: Console) -> None:
    """Recall for people: depths down, lengths across."""
    cells = report["cells"]
    lengths = sorted({cell["length"] for cell in cells})
    depths = sorted({cell["depth"] for cell in cells})
    at = {(cell["depth"], cell["length"]): cell for cell in cells}
    rows = [[f"{100 * depth:.0f}%", *(f"{100 * at[depth, n]['recall']:.0f}% ({at[depth, n]['loss']:.2f})"
             for n in lengths)] for depth in depths]  # fmt: skip
    note = f"needles of {report['kind']} found whole, of {report['samples']} (nats a token of the value)"
    console.table(str(report["checkpoint"]), ["depth", *(f"{n:,}" for n in lengths)], rows, note, result=True)


def losses_of(model: Model) -> "Callable[[Any], torch.Tensor]":
    """The loss of each position of a batch [B, T], in nats."""
    import torch

    from llmtool.core.train.objective import linear_cross_entropy

    @torch.inference_mode()
    def losses(batch: Any) -> "torch.Tensor":
        batch = batch.to(model.device)
        h, _ = model.decoder.hidden(batch.ids, documents=batch.documents)
        flat = linear_cross_entropy(h.flatten(0, 1), model.decoder.lm_head.weight, batch.labels.flatten())
        return flat.view(batch.labels.shape).float()

    return losses


def _refuse_out_of_range(files: "Sequence[TokenFile]", model: Model) -> None:
    from llmtool.core.corpus.token_files import refuse_out_of_range

    for file in files:
        refuse_out_of_range(file, model.config.vocab_size)


def _haystack(
    data: Sequence[str], codec: Tokenizer | None, model: Model, console: Console, longest: int, size: int
) -> "Callable[[int, np.random.Generator], np.ndarray[Any, Any]]":
    """A function (length, random) -> ids [length]: a passage of the data, or random ids."""
    import numpy as np

    if not data:
        return lambda length, random: random.integers(0, size, length)
    files = [open_source(source, codec, console, None) for source in parse_sources(data)]
    _refuse_out_of_range(files, model)
    ids = np.concatenate([np.asarray(file.ids[: 1 << 24], np.int64) for file in files])
    if len(ids) < longest:
        raise UserError(f"holds {len(ids):,} tokens, fewer than {longest:,}", where=", ".join(data))

    def passage(length: int, random: "np.random.Generator") -> "np.ndarray[Any, Any]":
        start = int(random.integers(0, len(ids) - longest + 1))
        return ids[start : start + length]

    return passage
