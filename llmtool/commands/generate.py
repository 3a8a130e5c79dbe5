"""`llmtool generate`: prompts from the command line or stdin, text or ids, streamed to stdout."""

import json
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmtool.core.run.console import Console, binary_stdout
from llmtool.core.run.extras import require
from llmtool.model import Settings, load_model, read_ids


def generate_texts(
    path: Path,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    settings: dict[str, Any],
    ids: bool = False,
    dtype: str | None = None,
    device: str = "auto",
    kernels: str = "auto",
    compiled: bool | None = None,
    ignore_eos: bool = False,
    method_settings: Settings | None = None,
    as_json: bool = False,
    console: Console,
) -> None:
    """One prompt streams to stdout; several are decoded together and printed one after the other."""
    require("torch", extra="models", why="to run models")
    from llmtool.core.model.generate import Sampling

    texts = [sys.stdin.read() if prompt == "-" else prompt for prompt in prompts or ["-"]]
    # A compiled step holds no branch on what a gate says, as the CPU's own code has.
    wish = "torch" if compiled and kernels == "auto" else kernels
    model = load_model(path, dtype, device, wish, settings=method_settings)
    console.detail(f"kernels: {model.kernels}")
    compiled = model.device.type == "cuda" and model.kernels == "torch" if compiled is None else compiled
    rows = [read_ids(text) if ids else model.tokenizer.encode(text) for text in texts]
    longest = max(map(len, rows)) + max_new_tokens
    if longest > model.config.max_position_embeddings:
        console.warn(f"{longest:,} tokens, but the model was made for {model.config.max_position_embeddings:,}")
    kind = str(model.decoder.lm_head.weight.dtype).removeprefix("torch.")
    console.detail(f"{path}: {kind} on {model.device}{', compiled' if compiled else ''}; kernels {model.kernels}")
    stop = frozenset[int]() if ignore_eos else model.stop_ids
    started = time.perf_counter()
    steps = model.generate(
        rows, max_new_tokens=max_new_tokens, sampling=Sampling(**settings), stop=stop, compiled=compiled
    )
    decode: Callable[[Sequence[int]], str] = _spell_ids if ids else model.tokenizer.decode
    new = _write_stream(steps, len(rows), decode, stop, shown=len(rows) == 1 and not as_json)
    seconds = time.perf_counter() - started
    count = sum(map(len, new))
    console.info(f"{count} tokens in {seconds:.2f} s, {count / seconds:.1f} tokens/s")
    if len(rows) == 1 and not as_json:
        return
    for text, made in zip(texts, new, strict=True):
        spelled = decode([token for token in made if token not in stop])
        row = {"schema": "llmtool.generate/1", "prompt": text, "text": spelled, "ids": made}
        print(json.dumps(row, ensure_ascii=False) if as_json else spelled)


def _write_stream(
    steps: Iterator[list[int | None]],
    rows: int,
    decode: Callable[[Sequence[int]], str],
    stop: Collection[int],
    *,
    shown: bool,
) -> list[list[int]]:
    """Collect the new ids of each row; with `shown` write the single row's text as it grows."""
    new: list[list[int]] = [[] for _ in range(rows)]
    done = ""
    with binary_stdout() as out:
        for step in steps:
            for made, token in zip(new, step, strict=True):
                if token is not None:
                    made.append(token)
            if shown:
                text = decode([token for token in new[0] if token not in stop])
                if not text.endswith("\ufffd"):
                    out.write(text[len(done) :].encode())
                    out.flush()
                    done = text
        if shown:
            rest = decode([token for token in new[0] if token not in stop])[len(done) :]
            out.write(f"{rest}\n".encode())
    return new


def _spell_ids(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))
