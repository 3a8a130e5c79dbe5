"""From documents to a trained vocabulary: count pieces, run the merge loop, give out ids."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llmtool.core.bpe.added_tokens import special_tokens
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.engine import PieceCounts, train
from llmtool.core.bpe.policy import Trained, TrainingPolicy
from llmtool.core.bpe.settings import TrainingSettings
from llmtool.core.bpe.vocabulary import BYTE_ORDER, Vocabulary, decode_text, encode_text
from llmtool.core.run.errors import UserError

BOS_NAMES = ("<|begin_of_text|>", "<|startoftext|>", "<s>", "<bos>", "<|bos|>", "[BOS]")
EOS_NAMES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]")
"""Special tokens that say by their name that they begin or end a text."""

BATCH_BYTES = 8 << 20
"""Documents are handed to the engine in batches of about this size: enough for every thread, little to hold."""

Stage = Callable[[int], None]


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
