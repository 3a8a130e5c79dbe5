"""Rows of ids from text: for calibration and for reports."""

from collections.abc import Callable, Sequence
from pathlib import Path

from llmtool.core.corpus.readers import read_documents
from llmtool.core.run.errors import UserError

Encode = Callable[[str], list[int]]
LEAST = 8
"""Tokens of the shortest row that says something: the end of a document may leave one or two."""


def text_rows(encode: Encode, inputs: Sequence[str], tokens: int, length: int) -> list[list[int]]:
    """At most `tokens` ids of the inputs' documents, in rows of up to `length`."""
    rows: list[list[int]] = []
    left = tokens
    for document in read_documents(inputs, text_mode="file"):
        text = document.text if isinstance(document.text, str) else bytes(document.text).decode(errors="replace")
        # A character is rarely more than four tokens and never less than a fraction of one: enough is cut, not all.
        ids = encode(text[: 16 * left + 64])
        for start in range(0, len(ids), length):
            row = ids[start : start + min(length, left)]
            if len(row) >= LEAST:
                rows.append(row)
                left -= len(row)
            if left < LEAST:
                return rows
    if not rows:
        raise UserError(f"no row of {LEAST} tokens", where=", ".join(inputs), hint="give more text")
    return rows


def source_names(inputs: Sequence[str]) -> list[str]:
    """A short name for each input: the file's, with its directory's where two are alike."""
    stems = [Path(name).name.split(".")[0] or name for name in inputs]
    return [
        stem if stems.count(stem) == 1 else f"{Path(name).parent.name}/{Path(name).name}"
        for stem, name in zip(stems, inputs, strict=True)
    ]
