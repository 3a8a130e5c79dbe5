"""Rows of ids from text, for calibration and for reports: equally many from each input, drawn at random.

Twenty novels in front of sixty programs are two inputs and give half of the rows each; within an input rows are drawn
over the whole of it, whatever stands first.
"""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from random import Random

from llmtool.core.corpus.inputs import find_inputs, split_weight
from llmtool.core.corpus.readers import Reading, read_documents
from llmtool.core.run.errors import UserError

Encode = Callable[[str], list[int]]
LEAST = 8
"""Tokens of the shortest row that says something: the end of a document may leave one or two."""

DRAWN, ENCODED = 256, 32
"""Bytes of text that are drawn, and encoded, for each token that is wanted: a token of the sparest script is 8 bytes,
and rows are to be of many documents. Of long documents excerpts are taken, each from anywhere."""


def text_rows(
    encode: Encode, inputs: Sequence[str], tokens: int, length: int, *, seed: int = 0, joined: bool = False
) -> list[list[int]]:
    """About `tokens` ids, fewer only where there is no more text, in rows of up to `length`.

    joined: documents stand one after another and every row is full; else each row is of one document. An input that
    has too few rows leaves its share to the others. Raises UserError where there is not one row.
    """
    return [row for row, _ in rows_by_input(encode, inputs, tokens, length, seed=seed, joined=joined)]


def rows_by_input(
    encode: Encode, inputs: Sequence[str], tokens: int, length: int, *, seed: int = 0, joined: bool = False
) -> list[tuple[list[int], int]]:
    """The rows of text_rows, each with the number of the input that it is from."""
    wanted = -(-tokens // max(1, len(inputs)))
    found = [_drawn(encode, name, wanted, length, seed, joined) for name in inputs]
    rows: list[tuple[list[int], int]] = []
    left = tokens
    for turn in zip_longest(*(rows for rows, _ in found)):
        for source, row in enumerate(turn):
            if row is None or left < (length if joined else min(LEAST, tokens)):
                continue
            rows.append((row[:left], source))
            left -= len(rows[-1][0])
    if not rows:
        met = sum(size for _, size in found)
        short = f"the window of {length:,}" if joined else f"a row of {LEAST}"
        what = f"calibration text of {met:,} tokens is shorter than {short}"
        raise UserError(what, where=", ".join(inputs), hint="give more text, or shorter rows")
    return rows


def _drawn(encode: Encode, name: str, tokens: int, length: int, seed: int, joined: bool) -> tuple[list[list[int]], int]:
    """(rows of one input in random order, tokens that were looked at)."""
    random = Random(f"{seed}:{name}")
    texts = _texts(name, max(1 << 16, DRAWN * tokens), seed)
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


def _texts(name: str, size: int, seed: int) -> list[str]:
    """Documents of one input, drawn from all of it; of a pipe the first ones."""
    place = [split_weight(name)[0]]
    first = Reading(broken="replace")
    drawn = Reading(broken="replace", sample=size, seed=seed)
    readings = [first] if find_inputs(place)[0].size is None else [drawn, first]
    for reading in readings:  # a few long documents may all have missed the draw
        try:
            return [document.text.decode() for document in read_documents(place, reading, limit_bytes=4 * size)]
        except UserError:
            if reading is first:
                raise
    raise AssertionError("the last reading returns or raises")
