"""Figures by which tokenizers are compared, and the counting behind them: one pass, batch by batch.

Nothing here trains a model, so no figure says which tokenizer trains the better one. Rényi efficiency comes closest
(it correlates with BLEU) and can be raised while the model gets worse (Cognetta et al., arXiv 2402.14614).
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtool.core.bpe.lost import Lost
from llmtool.core.bpe.settings import ALPHA, RARE
from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.bpe.words import Ints, Words, batches, word_spans
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError

BATCH_BYTES = 8 << 20
"""Text encoded in one call: enough for every thread. No more ids than these are ever held."""


@dataclass(frozen=True)
class LengthClass:
    """The learned tokens and bytes of one length: how many there are, and how often one of them occurs on average."""

    length: int
    tokens: int
    mean_frequency: float


@dataclass(frozen=True)
class Metrics:
    """The figures of one tokenizer on one text; None where a figure is not defined (nothing to divide by).

    bytes, tokens, bytes_per_token: compression; bytes of the text as given, before any normalization.
    words, fertility: mean number of tokens that a word is spread over; words are those of words.py (Rust et al. 2021,
        "How Good is Your Tokenizer?", with words by pattern instead of by treebank). Tokens outside words do not count.
    continued_words: share of words spread over two tokens or more (Rust et al. 2021).
    unspaced_words: share of words that are one character of a script without spaces. Where it is large, fertility is
        tokens per character, and not to be held against that of other scripts.
    normalized_sequence_length: tokens / tokens of the baseline tokenizer (Dagan et al., arXiv 2402.01035).
    parity: |T(s_l)| / |T(s_ref)|, tokens of the rows that have a counterpart of the same id in the reference over
        tokens of the counterparts (Petrov et al., arXiv 2305.15425); parity_mean: mean of the rows' own ratios;
        parity_rows: how many rows.
    entropy: H = -sum p log2 p of the distribution of tokens, bits.
    redundancy: 1 - H / log2 |V| with the nominal |V| (as in the Scaffold-BPE paper, arXiv 2404.17808).
    observed_vocabulary: number of different tokens met.
    renyi_entropy: H_a = log2(sum p^a) / (1 - a) with a = renyi_alpha; renyi_efficiency_*: H_a / log2 |V| with the
        nominal |V| or the observed one (Zouhar et al., ACL 2023, arXiv 2306.16842; their tool takes the observed).
    zero_frequency: learned tokens (longer than a byte) that never occur. rare_tokens: that occur fewer than
        rare_threshold times.
    zero_frequency_bytes: single bytes that never occur; some cannot, in UTF-8, and all are kept for any input's sake.
    mean_frequency: by token length in bytes, tokens that never occur included (the motivation of LBPE,
        arXiv 2411.05504).
    encode_mb_per_s: 10^6 bytes a second of wall time, one pass over this text, on this machine with whatever else it
        does, cache warm from the text before: an impression, not a benchmark.
    """

    bytes: int
    tokens: int
    bytes_per_token: float | None
    words: int
    fertility: float | None
    continued_words: float | None
    unspaced_words: float | None
    entropy: float | None
    redundancy: float | None
    observed_vocabulary: int
    renyi_alpha: float
    renyi_entropy: float | None
    renyi_efficiency_nominal: float | None
    renyi_efficiency_observed: float | None
    zero_frequency: int
    zero_frequency_bytes: int
    rare_threshold: int
    rare_tokens: int
    mean_frequency: list[LengthClass]
    encode_mb_per_s: float | None
    normalized_sequence_length: float | None = None
    parity: float | None = None
    parity_mean: float | None = None
    parity_rows: int | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields under their names."""
        return asdict(self)


@dataclass(frozen=True)
class Tally:
    """Sums over a text, from which every figure follows; the tallies of two texts add up to that of both.

    counts: [id_limit] occurrences of each id. word_tokens: tokens of each word, summed over words.
    """

    counts: Ints
    bytes: int = 0
    seconds: float = 0.0
    words: int = 0
    word_tokens: int = 0
    continued: int = 0
    unspaced: int = 0

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return int(self.counts.sum())

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.counts + other.counts,
            self.bytes + other.bytes,
            self.seconds + other.seconds,
            self.words + other.words,
            self.word_tokens + other.word_tokens,
            self.continued + other.continued,
            self.unspaced + other.unspaced,
        )


class Meter:
    """Encodes and counts with one tokenizer."""

    def __init__(self, tokenizer: BaseTokenizer, threads: int | None = None) -> None:
        self.tokenizer, self.lost = tokenizer, Lost(tokenizer)
        self._threads = threads
        vocabulary = tokenizer.definition.vocabulary
        self._lengths = np.zeros(vocabulary.id_limit, np.int64)
        for number, text in tokenizer.texts.items():
            self._lengths[number] = len(text)
        self._text_ids = np.fromiter(vocabulary.id_of.values(), np.int64)  # what plain text can be cut into
        tokenizer.encode(b"")  # builds the encoder, which is not part of encoding

    def empty(self) -> Tally:
        """The tally of no text."""
        return Tally(np.zeros(len(self._lengths), np.int64))

    def count(self, documents: Sequence[bytes], words: Words | None = None) -> tuple[Tally, Ints]:
        """(tally, tokens of each document) of one batch; `words` are those of the documents, if known already."""
        started = time.perf_counter()
        packed, packed_ends = self.tokenizer.encode_buffers(documents, threads=self._threads)
        seconds = time.perf_counter() - started
        ids = np.frombuffer(packed, np.uint32)
        ends = np.frombuffer(packed_ends, np.int64)
        token_ends = np.cumsum(self._lengths[ids])
        sizes = np.fromiter(map(len, documents), np.int64, len(documents))
        spelled = np.concatenate(([0], token_ends))[ends]
        if self.tokenizer.definition.normalizer or not np.array_equal(spelled, np.cumsum(sizes)):
            # The ids spell another text: normalized, or with a space in front. Its words are what they are spread over.
            words = word_spans(self._spelled(ids, ends))
        elif words is None:
            words = word_spans(documents)
        # A word is spread over one token more than there are token ends strictly inside it.
        inside = np.searchsorted(token_ends, words.ends, "left") - np.searchsorted(token_ends, words.starts, "right")
        tally = Tally(
            np.bincount(ids, minlength=len(self._lengths)),
            sum(map(len, documents)),
            seconds,
            len(inside),
            len(inside) + int(inside.sum()),
            int(np.count_nonzero(inside)),
            words.unspaced,
        )
        return tally, ends - np.concatenate(([0], ends[:-1]))

    def _spelled(self, ids: npt.NDArray[np.uint32], ends: Ints) -> Iterator[bytes]:
        """What the ids of each document spell."""
        starts = np.concatenate(([0], ends[:-1]))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            yield b"".join(map(self.tokenizer.texts.__getitem__, ids[start:end].tolist()))

    def figures(self, tally: Tally, *, alpha: float = ALPHA, rare: int = RARE) -> Metrics:
        """The figures of a tally."""
        entropy = renyi_entropy(tally.counts, 1.0)
        renyi = renyi_entropy(tally.counts, alpha)
        observed = int(np.count_nonzero(tally.counts))
        nominal = self.tokenizer.token_count
        lengths, counts = self._lengths[self._text_ids], tally.counts[self._text_ids]
        learned, single = counts[lengths > 1], counts[lengths == 1]
        efficiency = efficiency_of(entropy, nominal)
        return Metrics(
            bytes=tally.bytes,
            tokens=tally.tokens,
            bytes_per_token=ratio(tally.bytes, tally.tokens),
            words=tally.words,
            fertility=ratio(tally.word_tokens, tally.words),
            continued_words=ratio(tally.continued, tally.words),
            unspaced_words=ratio(tally.unspaced, tally.words),
            entropy=entropy,
            redundancy=None if efficiency is None else 1 - efficiency,
            observed_vocabulary=observed,
            renyi_alpha=alpha,
            renyi_entropy=renyi,
            renyi_efficiency_nominal=efficiency_of(renyi, nominal),
            renyi_efficiency_observed=efficiency_of(renyi, observed),
            zero_frequency=int((learned == 0).sum()),
            zero_frequency_bytes=int((single == 0).sum()),
            rare_threshold=rare,
            rare_tokens=int((learned < rare).sum()),
            mean_frequency=mean_frequency_by_length(lengths, counts),
            encode_mb_per_s=ratio(tally.bytes / 1e6, tally.seconds),
        )


def measure(
    tokenizer: BaseTokenizer,
    documents: Iterable[bytes],
    *,
    alpha: float = ALPHA,
    rare: int = RARE,
    threads: int | None = None,
) -> Metrics:
    """The figures of one tokenizer on a text; what needs a second tokenizer or text is None (see comparison.py)."""
    check_alpha(alpha)
    meter = Meter(tokenizer, threads)
    tally = meter.empty()
    for batch in batches(documents, BATCH_BYTES, len):
        tally += meter.count(batch)[0]
    return meter.figures(tally, alpha=alpha, rare=rare)


def check_alpha(alpha: float) -> None:
    """Refuse what is no order of a Rényi entropy."""
    if not (math.isfinite(alpha) and alpha >= 0):
        raise UserError(f"alpha {alpha} is not a Rényi order", hint="a number from 0 up; Zouhar et al. take 2.5")


def renyi_entropy(counts: Ints, alpha: float) -> float | None:
    """H_a of the distribution that the counts are, in bits: Hartley's at 0, Shannon's at 1; None without counts."""
    seen = counts[counts > 0]
    if not len(seen):
        return None
    p = seen / seen.sum()
    if math.isclose(alpha, 1.0, abs_tol=1e-9):
        return max(0.0, -float(p @ np.log2(p)))
    # Relative to the largest p, so that no power underflows: H_a = (a log2 p_max + log2 sum (p / p_max)^a) / (1 - a)
    largest = float(p.max())
    power = math.log2(float(((p / largest) ** alpha).sum()))
    return max(0.0, (alpha * math.log2(largest) + power) / (1 - alpha))


def efficiency_of(entropy: float | None, size: int) -> float | None:
    """Entropy over its largest possible value, log2 |V|; None for a vocabulary of one."""
    return None if entropy is None or size < 2 else entropy / math.log2(size)


def mean_frequency_by_length(lengths: Ints, counts: Ints) -> list[LengthClass]:
    """Mean count of the tokens of each length in bytes, shortest first."""
    tokens, total = np.bincount(lengths), np.bincount(lengths, weights=counts)
    present = np.flatnonzero(tokens)
    return [LengthClass(int(n), int(tokens[n]), float(total[n] / tokens[n])) for n in present]


def ratio(part: float, whole: float) -> float | None:
    """part / whole, None where whole is nothing."""
    return part / whole if whole else None
