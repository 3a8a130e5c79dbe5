"""`llmtool tokenizer compare`: several tokenizers on the same texts, in one pass over each.

Figures come for each corpus and in total; parity for each corpus whose rows have counterparts in a reference text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from llmtool.core.bpe import engine
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.lost import Lost
from llmtool.core.bpe.metrics import BATCH_BYTES, Meter, Metrics, Tally, check_alpha, ratio
from llmtool.core.bpe.reachable import unreachable_tokens
from llmtool.core.bpe.settings import ALPHA, RARE
from llmtool.core.bpe.side_by_side import SideBySide
from llmtool.core.bpe.tokenizer import BaseTokenizer, available_cores
from llmtool.core.bpe.vocabulary import token_to_string
from llmtool.core.bpe.words import UNSPACED_SCRIPTS, Ints, batches, word_spans
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError

SCHEMA = "llmtool.tokenizer-compare/1"

Table = tuple[str, list[str], list[list[str]], str | None]
"""Title, header, rows, note: the arguments of Console.table."""

UNSPACED_NOTE = "* more than half of the words are characters of scripts without spaces: tokens per character"

LENGTH_BINS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32)
"""Largest token length of each row of the table of frequencies; the last row holds what is longer."""


class Row(NamedTuple):
    """A document, with the id by which its translations are found."""

    text: bytes
    id: str | None = None


@dataclass(frozen=True)
class Measured:
    """One tokenizer's part of a comparison.

    counts: [id_limit] occurrences of each id in all corpora. unreachable: ids that no text around their own yields.
    """

    definition: Definition
    total: Metrics
    corpora: dict[str, Metrics]
    counts: Ints
    unreachable: list[int]
    lost: Lost | None = None
    """What of the corpora it has no token for."""


@dataclass(frozen=True)
class Comparison:
    """What was measured, by tokenizer; `baseline` names the one that normalized sequence lengths refer to."""

    measured: dict[str, Measured]
    baseline: str
    engine: str
    threads: int
    parallel: bool
    cuts: tuple[SideBySide, ...] = ()
    """Texts cut by each tokenizer, for a page."""

    @property
    def corpora(self) -> list[str]:
        """Names of the corpora."""
        return list(self.measured[self.baseline].corpora)

    def to_json(self) -> dict[str, Any]:
        """The object that --json prints."""
        return {
            "schema": SCHEMA,
            "baseline": self.baseline,
            "engine": self.engine,
            "threads": self.threads,
            "unspaced_scripts": list(UNSPACED_SCRIPTS),
            "tokenizers": {name: _measured_json(entry) for name, entry in self.measured.items()},
        }

    def tables(self) -> list[Table]:
        """The figures in total, those that differ by language for each corpus, and frequencies by token length."""
        tables = [self._totals()]
        if len(self.corpora) > 1:
            tables.append(self._by_corpus("Bytes per token", "bytes_per_token", None))
            tables.append(self._by_corpus("Fertility (tokens per word)", "fertility", UNSPACED_NOTE))
        if self.parallel:
            tables.append(self._parity())
        tables.append(self._frequencies())
        return tables

    def _totals(self) -> Table:
        some = self.measured[self.baseline].total
        alpha, rare = some.renyi_alpha, some.rare_threshold
        lines: list[tuple[str, Any, int]] = [
            ("vocabulary", lambda m: m.definition.vocabulary.size, 0),
            ("tokens", lambda m: m.total.tokens, 0),
            ("bytes/token", lambda m: m.total.bytes_per_token, 4),
            (f"normalized sequence length (to {self.baseline})", lambda m: m.total.normalized_sequence_length, 4),
            ("fertility (tokens/word)", lambda m: m.total.fertility, 4),
            ("share of continued words", lambda m: m.total.continued_words, 4),
            ("entropy H (bits)", lambda m: m.total.entropy, 4),
            ("redundancy 1 - H/log2|V|", lambda m: m.total.redundancy, 4),
            (f"Rényi efficiency, alpha {alpha:g}, nominal |V|", lambda m: m.total.renyi_efficiency_nominal, 4),
            (f"Rényi efficiency, alpha {alpha:g}, observed |V|", lambda m: m.total.renyi_efficiency_observed, 4),
            ("zero-frequency tokens", lambda m: m.total.zero_frequency, 0),
            (f"tokens seen fewer than {rare} times", lambda m: m.total.rare_tokens, 0),
            ("unreachable tokens", lambda m: len(m.unreachable), 0),
        ]
        rows = [[label, *(_number(get(m), digits) for m in self.measured.values())] for label, get, digits in lines]
        speeds = (m.total.encode_mb_per_s for m in self.measured.values())
        rows.append(["encoding, MB/s", *("-" if speed is None else f"{speed:,.3g}" for speed in speeds)])
        note = f"MB/s: one pass, {self.engine} engine, threads: {self.threads}, this machine; not a benchmark"
        return "All corpora", ["", *self.measured], rows, note

    def _by_corpus(self, title: str, figure: str, note: str | None) -> Table:
        rows = []
        for corpus in self.corpora:
            unspaced = self.measured[self.baseline].corpora[corpus].unspaced_words or 0
            mark = " *" if figure == "fertility" and unspaced > 0.5 else ""
            figures = [_number(getattr(m.corpora[corpus], figure), 3) for m in self.measured.values()]
            rows.append([corpus + mark, *figures])
        return title, ["corpus", *self.measured], rows, note if any(row[0].endswith(" *") for row in rows) else None

    def _parity(self) -> Table:
        rows = []
        for corpus, metrics in self.measured[self.baseline].corpora.items():
            if metrics.parity_rows:
                figures = [_number(m.corpora[corpus].parity, 3) for m in self.measured.values()]
                rows.append([corpus, f"{metrics.parity_rows:,}", *figures])
        note = "tokens of the rows that have a counterpart in the reference / tokens of the counterparts"
        return "Parity with the reference", ["corpus", "rows", *self.measured], rows, note

    def frequencies(self) -> list[tuple[str, list[float | None]]]:
        """The mean frequency of tokens by their length: the bytes of each bin that holds any, and each tokenizer's."""
        rows = []
        for low, high in zip((0, *LENGTH_BINS), (*LENGTH_BINS, None), strict=True):
            label = f"{low + 1}" if high == low + 1 else f"{low + 1}+" if high is None else f"{low + 1}-{high}"
            cells = [_mean_frequency(m.total, low, high) for m in self.measured.values()]
            if any(cell is not None for cell in cells):
                rows.append((label, cells))
        return rows

    def _frequencies(self) -> Table:
        rows = [[label, *(_number(cell, 1) for cell in cells)] for label, cells in self.frequencies()]
        return "Mean frequency by token length", ["bytes", *self.measured], rows, "over all tokens, also unused ones"


def compare(
    tokenizers: Mapping[str, BaseTokenizer],
    corpora: Mapping[str, Iterable[Row]],
    *,
    reference: Iterable[Row] | None = None,
    baseline: str | None = None,
    alpha: float = ALPHA,
    rare: int = RARE,
    threads: int | None = None,
) -> Comparison:
    """Measure every tokenizer on every corpus; each corpus is read once, and only its counts are kept.

    reference: text that the corpora are parallel to, rows matched by id; held in memory. baseline: the tokenizer that
    normalized sequence lengths refer to, the first by default.
    """
    if not tokenizers:
        raise UserError("no tokenizer to compare")
    baseline = next(iter(tokenizers)) if baseline is None else baseline
    if baseline not in tokenizers:
        raise UserError(f"baseline {baseline!r} is not among the tokenizers", hint=f"one of {', '.join(tokenizers)}")
    check_alpha(alpha)
    threads = 1 if engine.NAME == "python" else threads or available_cores()  # the portable engine has but one
    meters = {name: Meter(tokenizer, threads) for name, tokenizer in tokenizers.items()}
    counterparts = _by_id(reference) if reference is not None else {}
    tallies: dict[str, dict[str, Tally]] = {}
    matches: dict[str, _Matches] = {}
    for corpus, rows in corpora.items():
        tallies[corpus] = {name: meter.empty() for name, meter in meters.items()}
        matches[corpus] = _Matches([], {name: [] for name in meters})
        for batch in batches(rows, BATCH_BYTES, lambda row: len(row.text)):
            _count(batch, meters, tallies[corpus], matches[corpus], counterparts)
    totals = {name: sum((by_name[name] for by_name in tallies.values()), meters[name].empty()) for name in meters}
    if not totals[baseline].bytes:
        raise UserError("the corpora hold no text", hint="nothing to measure: check the inputs and --field")
    if reference is not None and not any(match.ids for match in matches.values()):
        raise UserError("no row of any corpus has an id of the reference", hint="parallel rows share the field 'id'")
    measured = {}
    for name, meter in meters.items():
        expected = _token_counts(meter, counterparts)
        figures = {}
        for corpus, by_name in tallies.items():
            metrics = meter.figures(by_name[name], alpha=alpha, rare=rare)
            metrics = _against_baseline(metrics, by_name[baseline])
            figures[corpus] = matches[corpus].parity(metrics, name, expected)
        total = _against_baseline(meter.figures(totals[name], alpha=alpha, rare=rare), totals[baseline])
        definition = meter.tokenizer.definition
        counts = totals[name].counts
        unreachable = unreachable_tokens(meter.tokenizer, counts)
        meter.lost.occurred(counts)
        measured[name] = Measured(definition, total, figures, counts, unreachable, meter.lost)
    return Comparison(measured, baseline, engine.NAME, threads, reference is not None)


@dataclass(frozen=True)
class _Matches:
    """Rows of one corpus that have a counterpart: their ids, and by tokenizer the tokens of each."""

    ids: list[str]
    tokens: dict[str, list[int]]

    def parity(self, metrics: Metrics, name: str, expected: Mapping[str, int]) -> Metrics:
        """The metrics with the figures on parallel text added."""
        if not self.ids:
            return metrics
        own, other = self.tokens[name], [expected[key] for key in self.ids]
        ratios = [mine / theirs for mine, theirs in zip(own, other, strict=True) if theirs]
        mean = ratio(sum(ratios), len(ratios))
        return replace(metrics, parity=ratio(sum(own), sum(other)), parity_mean=mean, parity_rows=len(self.ids))


def _count(
    batch: Sequence[Row],
    meters: Mapping[str, Meter],
    tallies: dict[str, Tally],
    matches: _Matches,
    counterparts: Mapping[str, bytes],
) -> None:
    """Add a batch of one corpus to its tallies, and its rows that have a counterpart to its matches."""
    documents = [row.text for row in batch]
    words = word_spans(documents)
    matched = [(place, row.id) for place, row in enumerate(batch) if row.id is not None and row.id in counterparts]
    matches.ids.extend(key for _, key in matched)
    for name, meter in meters.items():
        tally, lengths = meter.count(documents, words)
        for document in documents:
            meter.lost.read(document)
        tallies[name] += tally
        matches.tokens[name].extend(int(lengths[place]) for place, _ in matched)


def _by_id(rows: Iterable[Row]) -> dict[str, bytes]:
    texts: dict[str, bytes] = {}
    for row in rows:
        if row.id in texts:
            raise UserError(f"id {row.id!r} occurs twice in the reference", hint="parallel rows are matched by id")
        if row.id is not None:
            texts[row.id] = row.text
    return texts


def _token_counts(meter: Meter, texts: Mapping[str, bytes]) -> dict[str, int]:
    """Tokens of each text of the reference."""
    if not texts:
        return {}
    return dict(zip(texts, meter.count(list(texts.values()))[1].tolist(), strict=True))


def _against_baseline(metrics: Metrics, baseline: Tally) -> Metrics:
    return replace(metrics, normalized_sequence_length=ratio(metrics.tokens, baseline.tokens))


def _measured_json(entry: Measured) -> dict[str, Any]:
    definition = entry.definition
    tokens = definition.vocabulary.tokens
    return {
        "algorithm": definition.algorithm,
        "encoder": definition.encoder,
        "pretokenizer": definition.pretokenizer,
        "vocab_size": definition.vocabulary.id_limit,
        "scaffolds": len(definition.vocabulary.scaffolds),
        "fingerprint": definition.fingerprint(),
        "unreachable": {token_to_string(tokens[number]): number for number in entry.unreachable},
        **({"lost": lost} if entry.lost and (lost := entry.lost.to_json()) else {}),
        "total": entry.total.to_json(),
        "corpora": {name: metrics.to_json() for name, metrics in entry.corpora.items()},
    }


def _mean_frequency(metrics: Metrics, low: int, high: int | None) -> float | None:
    """Mean over the tokens longer than `low` bytes and no longer than `high`."""
    classes = [c for c in metrics.mean_frequency if low < c.length and (high is None or c.length <= high)]
    return ratio(sum(c.tokens * c.mean_frequency for c in classes), sum(c.tokens for c in classes))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
