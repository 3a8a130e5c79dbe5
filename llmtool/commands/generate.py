"""`llmtool generate`: prompts from the command line or stdin, text or ids, streamed to stdout."""

import json
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from llmtool.commands.options import method_settings
from llmtool.core.run.console import QUIET, Console, binary_stdout
from llmtool.core.run.extras import require
from llmtool.model import load_model, read_ids

SCHEMA = "llmtool.generate/1"


def generate(
    checkpoint: str | Path,
    prompts: Sequence[str],
    *,
    max_tokens: int = 128,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    ignore_eos: bool = False,
    ids: bool = False,
    dtype: str | None = None,
    device: str = "auto",
    kernels: str = "auto",
    compiled: bool | None = None,
    set: Sequence[str] = (),  # noqa: A002 - the option's name
    out: IO[bytes] | None = None,
    console: Console = QUIET,
) -> list[dict[str, Any]]:
    """Continue texts, decoded together: {"prompt", "text", "ids"} for each.

    ids: the prompts are token ids with spaces between. out: where the text of a single prompt is written as it grows.

    >>> import llmtool
    >>> [row] = llmtool.generate("model", ["the cat"], max_tokens=3, ignore_eos=True)
    >>> len(row["ids"])
    3
    """
    require("torch", extra="models", why="to run models")
    from llmtool.core.model.generate import Sampling

    # A compiled step holds no branch on what a gate says, as the CPU's own code has.
    wish = "torch" if compiled and kernels == "auto" else kernels
    model = load_model(checkpoint, dtype, device, wish, settings=method_settings(set))
    console.detail(f"kernels: {model.kernels}")
    compiled = model.device.type == "cuda" and model.kernels == "torch" if compiled is None else compiled
    rows = [read_ids(text) if ids else model.tokenizer.encode_prompt(text) for text in prompts]
    longest = max(map(len, rows)) + max_tokens
    if longest > model.config.max_position_embeddings:
        console.warn(f"{longest:,} tokens, but the model was made for {model.config.max_position_embeddings:,}")
    kind = str(model.decoder.lm_head.weight.dtype).removeprefix("torch.")
    console.detail(f"{checkpoint}: {kind} on {model.device}{', compiled' if compiled else ''}; kernels {model.kernels}")
    stop = frozenset[int]() if ignore_eos else model.stop_ids
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    started = time.perf_counter()
    steps = model.generate(rows, max_new_tokens=max_tokens, sampling=sampling, stop=stop, compiled=compiled)
    spellings: list[Spelling] = [
        SpelledIds() if ids else model.tokenizer.decode_stream(skip_special=not ignore_eos) for _ in rows
    ]
    new, texts = _write_stream(steps, spellings, stop, out if len(rows) == 1 else None)
    seconds = time.perf_counter() - started
    count = sum(map(len, new))
    console.info(f"{count} tokens in {seconds:.2f} s, {count / seconds:.1f} tokens/s")
    return [
        {"prompt": prompt, "text": text, "ids": made} for prompt, made, text in zip(prompts, new, texts, strict=True)
    ]


def print_texts(checkpoint: Path, prompts: Sequence[str], *, as_json: bool, console: Console, **settings: Any) -> None:
    """One prompt streams to stdout; several are decoded together and printed one after the other. "-" is stdin."""
    texts = [sys.stdin.read() if prompt == "-" else prompt for prompt in prompts or ["-"]]
    streamed = len(texts) == 1 and not as_json
    with binary_stdout() as out:
        rows = generate(checkpoint, texts, out=out if streamed else None, console=console, **settings)
    for row in [] if streamed else rows:
        print(json.dumps({"schema": SCHEMA, **row}, ensure_ascii=False) if as_json else row["text"])


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
    steps: Iterator[list[int | None]], spellings: Sequence[Spelling], stop: Collection[int], out: IO[bytes] | None
) -> tuple[list[list[int]], list[str]]:
    """The new ids of each row and their text without `stop`; with `out` the single row's is written as it grows."""
    new: list[list[int]] = [[] for _ in spellings]
    parts: list[list[str]] = [[] for _ in spellings]
    for step in steps:
        for row, token in enumerate(step):
            if token is None:
                continue
            new[row].append(token)
            text = "" if token in stop else spellings[row].push(token)
            parts[row].append(text)
            if out and text:
                out.write(text.encode())
                out.flush()
    for made, spelling in zip(parts, spellings, strict=True):
        made.append(spelling.finish())
    if out:
        out.write(f"{parts[0][-1]}\n".encode())
    return new, ["".join(made) for made in parts]
