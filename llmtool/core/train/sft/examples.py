"""Conversations -> examples of ids with a mask of what is trained; counts of what was lost on the way."""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmtool.core.run.errors import UserError
from llmtool.core.train.sft.formats import Row
from llmtool.core.train.sft.template import Piece, Specials, Template

Encode = Callable[[str], list[int]]
"""Text -> ids, special tokens read as such, nothing added."""


@dataclass
class Counts:
    """What became of the rows. `tokens` and `trained` are of the examples that are kept."""

    rows: int = 0
    kept: int = 0
    empty: int = 0
    """Rows without a single token."""
    masked: int = 0
    """Dropped: no token of theirs would be trained."""
    cut_masked: int = 0
    """Dropped: every trained token lay beyond the length."""
    truncated: int = 0
    """Kept, but cut to the length."""
    overlong: int = 0
    """Dropped because they are longer, if so asked."""
    tokens: int = 0
    trained: int = 0
    first: dict[str, str] = field(default_factory=dict)
    """The first row of each kind of loss."""

    def note(self, what: str, where: str) -> None:
        """Count one loss."""
        setattr(self, what, getattr(self, what) + 1)
        self.first.setdefault(what, where)

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return dict(vars(self))


@dataclass(frozen=True)
class Example:
    """ids [n] and whether each is trained [n]; n is at most the length + 1, of which length are predicted."""

    ids: "np.ndarray[Any, np.dtype[np.int64]]"
    trained: "np.ndarray[Any, np.dtype[np.bool_]]"


class Examples:
    """All examples in two flat arrays: four bytes a token and one for the mask."""

    def __init__(self) -> None:
        self._ids, self._trained, self._ends = array("i"), bytearray(), [0]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, ids: list[int], trained: list[bool]) -> None:
        """Append one."""
        self._ids.extend(ids)
        self._trained.extend(trained)
        self._ends.append(len(self._ids))

    def __getitem__(self, number: int) -> Example:
        start, end = self._ends[number], self._ends[number + 1]
        ids = np.frombuffer(self._ids, np.int32)[start:end].astype(np.int64)
        return Example(ids, np.frombuffer(self._trained, np.bool_)[start:end].copy())

    @property
    def lengths(self) -> list[int]:
        """Tokens of each."""
        return [end - start for start, end in zip(self._ends, self._ends[1:], strict=False)]

    def digest(self) -> str:
        """sha256 of ids, masks and ends."""
        import hashlib

        digest = hashlib.sha256(self._ids.tobytes())
        digest.update(bytes(self._trained))
        digest.update(np.array(self._ends).tobytes())
        return digest.hexdigest()


def pieces_of(row: Row, template: Template | None, specials: Specials) -> list[Piece]:
    """The text of a row, in pieces that are trained or not."""
    if row.messages:
        if template is None:
            raise UserError("a conversation, but no chat template", where=row.where, hint="--template")
        return template.pieces(row.messages, row.where)
    pieces = [(text, trained) for text, trained in row.pieces if text]
    if pieces:
        pieces[0] = (specials.bos + pieces[0][0], pieces[0][1])
        pieces[-1] = (pieces[-1][0] + specials.eos, pieces[-1][1])
    return pieces


def tokenize(pieces: Iterable[Piece], encode: Encode) -> tuple[list[int], list[bool]]:
    """Ids, and whether each is trained; every piece by itself."""
    ids: list[int] = []
    trained: list[bool] = []
    for text, wanted in pieces:
        new = encode(text)
        ids += new
        trained += [wanted] * len(new)
    return ids, trained


def make_examples(
    rows: Iterable[Row],
    template: Template | None,
    specials: Specials,
    encode: Encode,
    length: int,
    *,
    drop_overlong: bool = False,
    advance: Callable[[float], None] | None = None,
) -> tuple[Examples, Counts]:
    """Examples of at most length + 1 tokens. Rows without anything to train are dropped and counted."""
    examples, counts = Examples(), Counts()
    for row in rows:
        counts.rows += 1
        ids, trained = tokenize(pieces_of(row, template, specials), encode)
        if advance:
            advance(1)
        if not ids:
            counts.note("empty", row.where)
            continue
        if not any(trained[1:]):  # nothing predicts the first token
            counts.note("masked", row.where)
            continue
        if len(ids) > length + 1:
            if drop_overlong:
                counts.note("overlong", row.where)
                continue
            ids, trained = ids[: length + 1], trained[: length + 1]
            if not any(trained[1:]):
                counts.note("cut_masked", row.where)
                continue
            counts.note("truncated", row.where)
        counts.kept += 1
        counts.tokens += len(ids)
        counts.trained += sum(trained[1:])
        examples.add(ids, trained)
    return examples, counts


def require_trainable(counts: Counts, where: str) -> None:
    """A data set of which nothing would be trained is an error, not a loss of zero."""
    if counts.kept:
        return
    reasons = {
        "empty": "empty",
        "masked": "without an assistant's answer",
        "cut_masked": "with every answer beyond the length",
        "overlong": "longer than the length",
    }
    found = [f"{getattr(counts, key)} {text}" for key, text in reasons.items() if getattr(counts, key)]
    first = next((counts.first[key] for key in reasons if key in counts.first), where)
    what = f"nothing is trainable: of {counts.rows} rows {', '.join(found)}" if counts.rows else "holds no row"
    raise UserError(what, where=first, hint="llmtool data check DATA shows what is trained")
