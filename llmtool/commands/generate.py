"""`llmtool generate`: prompts from the command line or stdin, text or ids, streamed to stdout."""

import json
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

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
    rows = [read_ids(text) if ids else model.tokenizer.encode_prompt(text) for text in texts]
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
    texts_of: list[Spelling] = [
        SpelledIds() if ids else model.tokenizer.decode_stream(skip_special=not ignore_eos) for _ in rows
    ]
    new, spelled = _write_stream(steps, texts_of, stop, shown=len(rows) == 1 and not as_json)
    seconds = time.perf_counter() - started
    count = sum(map(len, new))
    console.info(f"{count} tokens in {seconds:.2f} s, {count / seconds:.1f} tokens/s")
    if len(rows) == 1 and not as_json:
        return
    for prompt, made, text in zip(texts, new, spelled, strict=True):
        row = {"schema": "llmtool.generate/1", "prompt": prompt, "text": text, "ids": made}
        print(json.dumps(row, ensure_ascii=False) if as_json else text)


class Spelling(Protocol):
    """Ids as text, one after the other."""

    def push(self, token: int) -> str:
        """The text that is certain with one more id."""
        ...

    def finish(self) -> str:
        """The rest of it."""
        ...


class SpelledIds:
    """Ids as numbers with spaces between."""

    def __init__(self) -> None:
        self._between = ""

    def push(self, token: int) -> str:
        """The number."""
        between, self._between = self._between, " "
        return f"{between}{token}"

    def finish(self) -> str:
        """Nothing."""
        return ""


def _write_stream(
    steps: Iterator[list[int | None]], spellings: Sequence[Spelling], stop: Collection[int], *, shown: bool
) -> tuple[list[list[int]], list[str]]:
    """The new ids of each row and their text without `stop`; with `shown` the single row's is written as it grows."""
    new: list[list[int]] = [[] for _ in spellings]
    parts: list[list[str]] = [[] for _ in spellings]
    with binary_stdout() as out:
        for step in steps:
            for row, token in enumerate(step):
                if token is None:
                    continue
                new[row].append(token)
                text = "" if token in stop else spellings[row].push(token)
                parts[row].append(text)
                if shown and text:
                    out.write(text.encode())
                    out.flush()
        for made, spelling in zip(parts, spellings, strict=True):
            made.append(spelling.finish())
        if shown:
            out.write(f"{parts[0][-1]}\n".encode())
    return new, ["".join(made) for made in parts]
