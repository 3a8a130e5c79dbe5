"""Conversations -> examples of ids with a mask of what is trained; counts of all that was met and lost on the way.

A text is tokenised whole, as a model is given it, and the mask is found on it: a token is trained if any of it belongs
to an answer.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from typing import Any

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.wording import counted
from llmtool.core.train.sft.conversation import CHOICES, Row
from llmtool.core.train.sft.example import Examples
from llmtool.core.train.sft.template import Answer, Rendered, Template

Places = Sequence[tuple[int, int]]
Encode = Callable[[str, Sequence[int]], tuple[list[int], Places]]
"""Text, and places in it, to ids, special tokens read as such and nothing added, and for each place how many ids lie
wholly before it, and how many begin before it."""

BEYOND = "beyond the length"
"""Why an answer is not trained, beside what template.py and conversation.py say."""
SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a UTF-16 pair, as "\\ud800" in JSON: its bytes are no UTF-8 (core/corpus/broken.py)."""
LATER = ("broken",)
"""Counts that runs begun by earlier versions do not have."""
TAIL = 3
"""Tokens at the end of an answer among which the one that ends it is looked for: <|im_end|> and a line's end."""


@dataclass(frozen=True)
class Around:
    """Ids before and after text that no template has put anything around; what of a vocabulary can end an answer."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    ends: frozenset[int] = frozenset()


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
    answers: int = 0
    """Answers in all rows."""
    untrained: dict[str, int] = field(default_factory=dict)
    """Answers that are not trained, by reason."""
    unprompted: int = 0
    """Answers that do not begin as the template's prompt for one says."""
    thoughtless: int = 0
    """Trained answers without their thought, which the template leaves out."""
    seams: int = 0
    """Answers that begin within a token: in use the prompt ends with another."""
    endless: int = 0
    """Trained answers that no special token ends."""
    broken: int = 0
    """Rows whose text holds lone surrogates, which no text of UTF-8 can."""
    roles: dict[str, int] = field(default_factory=dict)
    fields: dict[str, int] = field(default_factory=dict)
    """Rows or turns with a field that the template is given and speaks of."""
    unread: dict[str, int] = field(default_factory=dict)
    """Rows or turns with a field that nothing reads."""
    hidden: dict[str, int] = field(default_factory=dict)
    """Turns whose text the template does not show, by role."""
    first: dict[str, str] = field(default_factory=dict)
    """The first row of each kind of loss."""
    ends: dict[int, int] = field(default_factory=dict)
    """Trained answers by the id that ends them."""

    def note(self, what: str, where: str) -> None:
        """Count one loss."""
        setattr(self, what, getattr(self, what) + 1)
        self.first.setdefault(what, where)

    def tally(self, what: str, key: Any, where: str) -> None:
        """Count one of a kind."""
        kinds: dict[Any, int] = getattr(self, what)
        kinds[key] = kinds.get(key, 0) + 1
        self.first.setdefault(f"{what} {key}", where)

    @property
    def ending(self) -> int | None:
        """The id that ends most of the trained answers; None where most have none."""
        best = Counter(self.ends).most_common(1)
        return best[0][0] if best and best[0][1] > self.endless else None

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {**vars(self), "ends": {str(key): count for key, count in self.ends.items()}}

    def facts(self) -> dict[str, Any]:
        """For run.json: what earlier versions did not count stands there if it was met, so that their runs go on."""
        return {key: value for key, value in self.to_json().items() if value or key not in LATER}

    @classmethod
    def of_json(cls, facts: dict[str, Any]) -> "Counts":
        """What `to_json` gave."""
        return cls(**{**facts, "ends": {int(key): count for key, count in facts["ends"].items()}})


@dataclass(frozen=True)
class Tokenized:
    """ids [n] of a row, and the tokens [start, end) of each answer, or why it is not trained."""

    ids: list[int]
    spans: list[tuple[int, int, str]]

    @property
    def trained(self) -> list[bool]:
        """The mask [n]."""
        mask = [False] * len(self.ids)
        for start, end, untrained in self.spans:
            if not untrained:
                mask[start:end] = [True] * (end - start)
        return mask


def tokenize(row: Row, template: Template | None, around: Around, encode: Encode, counts: Counts) -> Tokenized:
    """The ids of a row with its answers; what is to be told of it is counted."""
    if not row.messages:
        return tokenize_plain(row, around, encode, counts)
    if template is None:
        raise UserError("a conversation, but no chat template", where=row.where, hint="--template")
    rendered = template.answers(row)
    count_fields(row, template, counts)
    for what in ("unprompted", "thoughtless"):
        if found := getattr(rendered, what):
            setattr(counts, what, getattr(counts, what) + found)
            counts.first.setdefault(what, row.where)
    for role in rendered.hidden:
        counts.tally("hidden", role, row.where)
    return mark(rendered, encode, counts, row.where)


def mark(rendered: Rendered, encode: Encode, counts: Counts, where: str) -> Tokenized:
    """Answers as tokens: those that an answer has any part of; of one whose end is loose, those that end with it."""
    if SURROGATE.search(rendered.text):
        counts.note("broken", where)
    places = [place for answer in rendered.answers for place in (answer.start, answer.end)]
    ids, found = encode(rendered.text, places)
    spans = []
    for number, answer in enumerate(rendered.answers):
        (start, begun), (before, end) = found[2 * number], found[2 * number + 1]
        spans.append((start, before if answer.loose else end, answer.untrained))
        if begun > start and not answer.untrained:
            counts.note("seams", where)
    return Tokenized(ids, spans)


def tokenize_plain(row: Row, around: Around, encode: Encode, counts: Counts) -> Tokenized:
    """Text as it is, within what the tokenizer itself puts around one."""
    text = "".join(piece for piece, _ in row.pieces)
    if not text:
        return Tokenized([], [])
    for name in row.unknown:
        counts.tally("unread", name, row.where)
    start = sum(len(piece) for piece, trained in row.pieces if not trained)
    made = mark(Rendered(text, (Answer(start, len(text)),)), encode, counts, row.where)
    shift, (first, last, _) = len(around.before), made.spans[0]
    ids = [*around.before, *made.ids, *around.after]
    return Tokenized(ids, [(first + shift, last + shift + len(around.after), "")])


def count_fields(row: Row, template: Template, counts: Counts) -> None:
    """Roles and fields of a conversation, and whether its template speaks of them."""
    of = template.of(row)
    given = {"tools": row.tools, "documents": row.documents, **row.arguments}
    for name, value in given.items():
        if value is not None:
            counts.tally("fields" if template.reads(name, of) else "unread", name, row.where)
    for name in row.unknown:
        counts.tally("unread", name, row.where)
    for message in row.messages:
        counts.tally("roles", message.role, row.where)
        if isinstance(message.content, list):
            counts.tally("fields", "content in parts", row.where)
        for name, value in message.fields.items():
            if name not in ("role", "content", *CHOICES) and value is not None:
                read = template.reads_field(name, of)
                counts.tally("fields" if read else "unread", f"messages[].{name}", row.where)


def make_examples(
    rows: Iterable[Row],
    template: Template | None,
    around: Around,
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
        made = tokenize(row, template, around, encode, counts)
        if advance:
            advance(1)
        ids, trained, kept = made.ids, made.trained, length + 1
        if not ids:
            counts.note("empty", row.where)
            continue
        dropped = drop_overlong and len(ids) > kept
        count_answers(made, 0 if dropped else kept, around, counts, row.where)
        if not any(trained[1:]):  # nothing predicts the first token
            counts.note("masked", row.where)
            continue
        if dropped:
            counts.note("overlong", row.where)
            continue
        if len(ids) > kept:
            ids, trained = ids[:kept], trained[:kept]
            if not any(trained[1:]):
                counts.note("cut_masked", row.where)
                continue
            counts.note("truncated", row.where)
        counts.kept += 1
        counts.tokens += len(ids)
        counts.trained += sum(trained[1:])
        examples.add(ids, trained)
    return examples, counts


def count_answers(made: Tokenized, kept: int, around: Around, counts: Counts, where: str) -> None:
    """Answers, why some are not trained, and what ends the others; `kept`: tokens that are left of the row."""
    for start, end, untrained in made.spans:
        counts.answers += 1
        if untrained or start >= kept or end <= start:
            counts.tally("untrained", untrained or (BEYOND if start >= kept else "empty"), where)
            continue
        if end > kept:
            continue
        tail = [token for token in made.ids[max(start, end - TAIL) : end] if token in around.ends]
        if tail:
            counts.ends[tail[-1]] = counts.ends.get(tail[-1], 0) + 1
        else:
            counts.note("endless", where)


def require_trainable(counts: Counts, where: str) -> None:
    """A data set of which nothing would be trained is an error, not a loss of zero."""
    if counts.kept:
        return
    reasons = {
        "empty": "empty",
        "masked": "without an answer that is trained",
        "cut_masked": "with every answer beyond the length",
        "overlong": "longer than the length",
    }
    found = [f"{getattr(counts, key)} {text}" for key, text in reasons.items() if getattr(counts, key)]
    found += [f"answers: {count} {reason}" for reason, count in counts.untrained.items() if reason != BEYOND]
    first = next((counts.first[key] for key in reasons if key in counts.first), where)
    what = (
        f"nothing is trainable: of {counted(counts.rows, 'row')} {', '.join(found)}" if counts.rows else "holds no row"
    )
    raise UserError(what, where=first, hint="llmtool data check DATA shows what is trained")
