"""Rows of ids from text, for calibration and for reports: equally many from each input, drawn at random.

Twenty novels in front of sixty programs are two inputs and give half of the rows each; `programs/@3` gives three rows
for each of theirs. Within an input rows are drawn over the whole of it, whatever stands first. The draw hangs on the
seed and the text: where a file lies, how its path is typed and what is named beside it change no row of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from math import ceil
from random import Random

from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.inputs import find_inputs, split_weight
from llmtool.core.corpus.readers import Reading, read_documents
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.errors import UserError

Encode = Callable[[str], list[int]]
LEAST = 8
"""Tokens of the shortest row that says something: the end of a document may leave one or two."""

DRAWN, ENCODED = 256, 32
"""Bytes of text that are drawn, and encoded, for each token that is wanted: a token of the sparest script is 8 bytes,
and rows are to be of many documents. Of long documents excerpts are taken, each from anywhere."""


def text_rows(
    encode: Encode,
    inputs: Sequence[str],
    tokens: int,
    length: int,
    *,
    reading: Reading | None = None,
    seed: int = 0,
    joined: bool = False,
    console: Console = QUIET,
) -> list[list[int]]:
    """About `tokens` ids, fewer only where there is no more text, in rows of up to `length`.

    inputs: PATH or PATH@WEIGHT, rows by weight. reading: how they become documents; broken text is replaced whatever
    it says. joined: documents stand one after another and every row is full; else each row is of one document. An
    input that has too few rows leaves its share to the others. Raises UserError where there is not one row.
    """
    rows = rows_by_input(encode, inputs, tokens, length, reading=reading, seed=seed, joined=joined, console=console)
    return [row for row, _ in rows]


def rows_by_input(
    encode: Encode,
    inputs: Sequence[str],
    tokens: int,
    length: int,
    *,
    reading: Reading | None = None,
    seed: int = 0,
    joined: bool = False,
    console: Console = QUIET,
) -> list[tuple[list[int], int]]:
    """The rows of text_rows, each with the number of the input that it is from."""
    reading = replace(reading or Reading(), broken="replace", sample=None, seed=seed)
    weights = [split_weight(name)[1] for name in inputs]
    wanted = [ceil(tokens * weight / sum(weights)) for weight in weights]
    found = [
        _drawn(encode, name, share, length, reading, joined, console)
        for name, share in zip(inputs, wanted, strict=True)
    ]
    rows: list[tuple[list[int], int]] = []
    left = tokens
    for row, source in _in_turn([rows for rows, _ in found], weights):
        if left >= (length if joined else min(LEAST, tokens)):
            rows.append((row[:left], source))
            left -= len(rows[-1][0])
    if not rows:
        met = sum(size for _, size in found)
        short = f"the window of {length:,}" if joined else f"a row of {LEAST}"
        what = f"calibration text of {met:,} tokens is shorter than {short}"
        raise UserError(what, where=", ".join(inputs), hint="give more text, or shorter rows")
    return rows


def _in_turn(found: Sequence[list[list[int]]], weights: Sequence[float]) -> list[tuple[list[int], int]]:
    """The rows of all inputs, and where each is from: at any place, as many of each as its weight says."""
    places = [((k + 1) / weight, at, k) for at, weight in enumerate(weights) for k in range(len(found[at]))]
    return [(found[at][k], at) for _, at, k in sorted(places)]


def _drawn(
    encode: Encode, name: str, tokens: int, length: int, reading: Reading, joined: bool, console: Console
) -> tuple[list[list[int]], int]:
    """(rows of one input in random order, tokens that were looked at)."""
    place = split_weight(name)[0]
    texts = _texts(place, max(1 << 16, DRAWN * tokens), reading, console)
    random = Random(f"{reading.seed}:{_digest(texts)}")
    share = max(8 * length, -(-ENCODED * tokens // len(texts)))
    ids: list[int] = []
    rows: list[list[int]] = []
    met = 0
    for text in texts:
        start = random.randrange(max(1, len(text) - share + 1))
        found = encode(text[start : start + share])
        met += len(found)
        ids = ids + found if joined else found
        whole = len(ids) - len(ids) % length if joined else len(ids)
        cut = [ids[start : start + length] for start in range(0, whole, length)]
        rows += [row for row in cut if len(row) >= (length if joined else LEAST)]
        ids = ids[whole:]
    random.shuffle(rows)
    return rows, met


def _digest(texts: Sequence[str]) -> str:
    """Of the texts and of where each of them ends."""
    state = blake2b(digest_size=16)
    for text in texts:
        data = text.encode()
        state.update(len(data).to_bytes(8) + data)
    return state.hexdigest()


def _texts(place: str, size: int, reading: Reading, console: Console) -> list[str]:
    """Documents of one input, drawn from all of it; of a pipe the first ones."""
    drawn = replace(reading, sample=size)
    readings = [reading] if find_inputs([place], reading)[0].size is None else [drawn, reading]
    for one in readings:  # a few long documents may all have missed the draw
        report = ReadReport()
        try:
            documents = read_documents([place], one, limit_bytes=4 * size, report=report)
            texts = [document.text.decode() for document in documents]
        except UserError:
            if one is reading:
                raise
        else:
            report.say(console)
            return texts
    raise AssertionError("the last reading returns or raises")
