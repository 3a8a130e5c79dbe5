"""From documents to a trained vocabulary: count pieces, run the merge loop, give out ids."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmtool.core.bpe.added_tokens import special_tokens
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.engine import PieceCounts, train
from llmtool.core.bpe.normalizers import Step
from llmtool.core.bpe.pattern import compile_pattern
from llmtool.core.bpe.policy import Trained, TrainingPolicy
from llmtool.core.bpe.pretokenizers import BYTES, find_pretokenizer, isolating, name_of_steps
from llmtool.core.bpe.reference import MAX_TOKEN_BYTES
from llmtool.core.bpe.vocabulary import BYTE_ORDER, Vocabulary, decode_text, encode_text
from llmtool.core.run.errors import UserError

BOS_NAMES = ("<|begin_of_text|>", "<|startoftext|>", "<s>", "<bos>", "<|bos|>", "[BOS]")
EOS_NAMES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]")
"""Special tokens that say by their name that they begin or end a text."""

BATCH_BYTES = 8 << 20
"""Documents are handed to the engine in batches of about this size: enough for every thread, little to hold."""

Stage = Callable[[int], None]


@dataclass(frozen=True)
class TrainingSettings:
    """What decides the result of training. vocab_size counts bytes and special tokens too.

    pretokenizer_regex: patterns that cut instead, each what the one before left; matches and the rest are pieces.
    """

    vocab_size: int
    pretokenizer: str = "llama3"
    min_frequency: int = 0
    special: tuple[str, ...] = ()
    special_position: str = "first"
    max_token_bytes: int = MAX_TOKEN_BYTES
    pretokenizer_regex: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """What cuts the text: these patterns, one after the other, or the pre-tokenizer of that name."""
        if not self.pretokenizer_regex:
            return find_pretokenizer(self.pretokenizer).steps
        return (*map(isolating, self.pretokenizer_regex), BYTES)

    @property
    def cut_by(self) -> str:
        """The name of the steps."""
        return name_of_steps(self.steps) if self.pretokenizer_regex else self.pretokenizer

    def check(self) -> None:
        """Refuse settings that no corpus could satisfy."""
        find_pretokenizer(self.pretokenizer)
        for pattern in self.pretokenizer_regex:
            compile_pattern(pattern, "--pretokenizer-regex")
        smallest = 256 + len(self.special)
        if self.vocab_size < smallest:
            raise UserError(
                f"vocabulary size {self.vocab_size} is below the alphabet",
                hint=f"at least {smallest}: 256 bytes and {len(self.special)} special tokens",
            )
        if self.vocab_size > 1 << 24:
            raise UserError(f"vocabulary size {self.vocab_size} is too large", hint="at most 16777216")
        if self.max_token_bytes < 2:
            raise UserError(f"tokens of at most {self.max_token_bytes} bytes leave nothing to merge", hint="at least 2")
        repeated = next((token for token in self.special if self.special.count(token) > 1), None)
        if repeated is not None or "" in self.special:
            what = "is empty" if repeated is None else f"{repeated!r} is given twice"
            raise UserError(f"special token {what}", hint="--special needs distinct, non-empty texts")
        if self.special_position not in ("first", "last"):
            raise UserError(f"special position {self.special_position!r} is not known", hint="first or last")


class SpecialInCorpus:
    """Special tokens that stand in the corpus: cut out, or left as text and counted, so that someone can be told.

    A text is then counted in parts, as it will be encoded: no piece reaches across a special token.
    """

    def __init__(self, special: Sequence[str], *, cut: bool) -> None:
        self._texts = [encode_text(text) for text in sorted(special, key=len, reverse=True)]
        self._pattern = re.compile(b"|".join(map(re.escape, self._texts)))
        self._cut = cut
        self.found: Counter[str] = Counter()

    def parts(self, document: bytes) -> list[bytes]:
        """What of a document is learned from."""
        if not any(text in document for text in self._texts):  # ten times as fast as the pattern
            return [document]
        self.found.update(decode_text(text) for text in self._pattern.findall(document))
        return [part for part in self._pattern.split(document) if part] if self._cut else [document]

    def warning(self) -> str | None:
        """What to say when they were left as text."""
        if self._cut or not self.found:
            return None
        (first, _), total = self.found.most_common(1)[0], self.found.total()
        times = "once" if total == 1 else f"{total:,} times"
        return (
            f"the corpus holds special tokens {times} (such as {first!r}), learned as text: --allow-special cuts there"
        )


def count_pieces(
    documents: Iterable[bytes], counts: PieceCounts, special: SpecialInCorpus | None = None
) -> tuple[int, int]:
    """Feed documents to the counter in batches; returns the number of documents and of bytes."""
    batch: list[bytes] = []
    held = size = number = 0
    for document in documents:
        batch += special.parts(document) if special else [document]
        held += len(document)
        number += 1
        if held >= BATCH_BYTES:
            counts.add(batch)
            size += held
            batch, held = [], 0
    counts.add(batch)
    return number, size + held


def train_vocabulary(
    counts: PieceCounts, policy: TrainingPolicy, settings: TrainingSettings, progress: Stage
) -> tuple[Vocabulary, Trained]:
    """Run the merge loop and number the tokens."""
    if counts.pieces == 0:
        raise UserError("the corpus holds no text", hint="nothing to train on: check the inputs and --field")
    wanted = settings.vocab_size - len(settings.special)
    trained = train(counts, policy, wanted, settings.min_frequency, progress, settings.max_token_bytes)
    return number_tokens(trained, policy, settings.special, settings.special_position), trained


def number_tokens(
    trained: Trained, policy: TrainingPolicy, special: Sequence[str], special_position: str
) -> Vocabulary:
    """Ids: normal units in the order of their making, special tokens before or after; scaffolds get none."""
    units = [bytes([byte]) for byte in BYTE_ORDER]
    for left, right, result in trained.merges:
        if result == len(units):
            units.append(units[left] + units[right])
    normal = [unit for unit in range(len(units)) if unit not in trained.scaffolds]
    first = len(special) if special_position == "first" else 0
    ids = {unit: first + number for number, unit in enumerate(normal)}
    start = 0 if special_position == "first" else len(normal)
    parts = policy.parts(trained)
    emit = [(ids[unit],) if unit in ids else tuple([ids[part] for part in parts[unit]]) for unit in range(len(units))]
    named = {text: start + n for n, text in enumerate(special)}
    return Vocabulary(units, trained.merges, emit, special_tokens(named))


def trained_definition(
    vocabulary: Vocabulary, trained: Trained, settings: TrainingSettings, algorithm: str, facts: dict[str, Any]
) -> Definition:
    """The tokenizer that training made, with the facts of the run."""
    learned = {
        "vocab_size": vocabulary.size,
        "wanted_vocab_size": settings.vocab_size,
        "merges": len(trained.merges),
        "scaffolds": len(trained.scaffolds),
        "marks": trained.marks,
        "promotions": trained.promotions,
        "min_frequency": settings.min_frequency,
        "max_token_bytes": settings.max_token_bytes,
    }
    return Definition(
        vocabulary=vocabulary,
        pretokenizer=settings.cut_by,
        steps=settings.steps if settings.pretokenizer_regex else None,
        algorithm=algorithm,
        bos=next((token for token in settings.special if token in BOS_NAMES), None),
        eos=next((token for token in settings.special if token in EOS_NAMES), None),
        training={**facts, **learned},
    )
