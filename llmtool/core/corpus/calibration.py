"""Rows of ids from text, for calibration and for reports: equally many from each input, drawn at random.

Twenty novels in front of sixty programs are two inputs and give half of the rows each; within an input rows are drawn
over the whole of it, whatever stands first.
"""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from random import Random

from llmtool.core.corpus.inputs import split_weight
from llmtool.core.corpus.readers import Reading, read_documents
from llmtool.core.run.errors import UserError

Encode = Callable[[str], list[int]]
LEAST = 8
"""Tokens of the shortest row that says something: the end of a document may leave one or two."""

DRAWN = 32
"""Bytes of text that are drawn for a token that is wanted: four times what a token is in the sparest script."""


def text_rows(
    encode: Encode, inputs: Sequence[str], tokens: int, length: int, *, seed: int = 0, joined: bool = False
) -> list[list[int]]:
    """About `tokens` ids, fewer only where there is no more text, in rows of up to `length`.

    joined: documents stand one after another and every row is full; else each row is of one document. An input that
    has too few rows leaves its share to the others. Raises UserError where there is not one row.
    """
    wanted = -(-tokens // max(1, len(inputs)))
    found = [_drawn(encode, name, wanted, length, seed, joined) for name in inputs]
    rows: list[list[int]] = []
    left = tokens
    for turn in zip_longest(*(rows for rows, _ in found)):
        for row in turn:
            if row is None or left < (length if joined else min(LEAST, tokens)):
                continue
            rows.append(row[:left])
            left -= len(rows[-1])
    if not rows:
        met = sum(size for _, size in found)
        least, what = (length, f"the row of {length:,}") if joined else (LEAST, f"a row of {LEAST}")
        where = ", ".join(inputs)
        hint = "give more text, or shorter rows" if least > LEAST else "give more text"
        raise UserError(f"text of {met:,} tokens is shorter than {what}", where=where, hint=hint)
    return rows


def _drawn(encode: Encode, name: str, tokens: int, length: int, seed: int, joined: bool) -> tuple[list[list[int]], int]:
    """(rows of one input in random order, tokens that were looked at)."""
    size = max(1 << 16, DRAWN * tokens)
    rows, met = _rows(encode, name, size, length, joined, Reading(broken="replace", sample=size, seed=seed))
    if not rows:  # a few long documents may all have missed the draw
        rows, met = _rows(encode, name, size, length, joined, Reading(broken="replace"))
    Random(f"{seed}:{name}").shuffle(rows)
    return rows, met


def _rows(
    encode: Encode, name: str, size: int, length: int, joined: bool, reading: Reading
) -> tuple[list[list[int]], int]:
    if name == "-":
        reading = Reading(broken="replace")
    ids: list[int] = []
    rows: list[list[int]] = []
    met = 0
    for document in read_documents([split_weight(name)[0]], reading, limit_bytes=4 * size):
        found = encode(document.text.decode())
        met += len(found)
        ids = ids + found if joined else found
        whole = len(ids) - len(ids) % length if joined else len(ids)
        cut = [ids[start : start + length] for start in range(0, whole, length)]
        rows += [row for row in cut if len(row) >= (length if joined else LEAST)]
        ids = ids[whole:]
    return rows, met
