"""Several tokenizers over several corpora: totals, parity, what is refused, and the shape of the outputs."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from llmtool.core.bpe import comparison, engine
from llmtool.core.bpe.comparison import Comparison, Row, compare
from llmtool.core.run.errors import UserError
from llmtool.tokenizer import Tokenizer
from tests.core.bpe.test_metrics import ABC, LEARNED, tiny

BYTES = tiny()
ENGLISH = [Row(b"ab abc", "1"), Row(b"abcabc", "2"), Row(b"only here", "3"), Row(b"no id")]
OTHER = [Row("日本 ab".encode(), "1"), Row(b"xy", "2"), Row(b"c" * 50, "9")]
CORPORA = {"english": ENGLISH, "other": OTHER}


def two(**options: object) -> Comparison:
    return compare({"abc": ABC, "bytes": BYTES}, {name: iter(rows) for name, rows in CORPORA.items()}, **options)  # type: ignore[arg-type]


def test_figures_by_corpus_and_in_total() -> None:
    found = two()
    abc = found.measured["abc"]
    assert abc.corpora["english"].tokens == 3 + 2 + 9 + 5  # ab| |abc, abc|abc, and single bytes
    assert abc.corpora["other"].tokens == 8 + 2 + 50  # six bytes, a space, ab
    assert abc.total.tokens == 19 + 60
    assert abc.total.bytes == found.measured["bytes"].total.tokens == 26 + 61
    assert abc.counts.sum() == abc.total.tokens
    assert abc.total.words == sum(metrics.words for metrics in abc.corpora.values()) == 7 + 5


def test_normalized_sequence_length_refers_to_the_baseline() -> None:
    first = two()
    assert first.baseline == "abc"
    assert first.measured["abc"].corpora["other"].normalized_sequence_length == 1.0
    assert first.measured["bytes"].corpora["english"].normalized_sequence_length == 26 / 19
    assert two(baseline="bytes").measured["abc"].total.normalized_sequence_length == 79 / 87


def test_parity_by_hand() -> None:
    found = two(reference=iter(ENGLISH))
    abc = found.measured["abc"].corpora
    assert abc["other"].parity == (8 + 2) / (3 + 2)
    assert abc["other"].parity_mean == (8 / 3 + 2 / 2) / 2
    assert abc["other"].parity_rows == 2
    assert (abc["english"].parity, abc["english"].parity_mean, abc["english"].parity_rows) == (1.0, 1.0, 3)
    assert found.measured["bytes"].corpora["other"].parity == (9 + 2) / (6 + 6)
    assert found.measured["abc"].total.parity is None


def test_parity_of_a_corpus_without_counterparts_is_undefined() -> None:
    found = two(reference=[Row(b"cc", "9")])
    assert found.measured["abc"].corpora["english"].parity is None
    assert found.measured["abc"].corpora["other"].parity == 25.0
    titles = {title: rows for title, _, rows, _ in found.tables()}
    assert titles["Parity with the reference"] == [["other", "1", "25.000", "25.000"]]


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = two(reference=ENGLISH)
    monkeypatch.setattr(comparison, "BATCH_BYTES", 1)
    parts = two(reference=ENGLISH)
    for name, entry in whole.measured.items():
        other = parts.measured[name]
        for one, two_ in zip(
            [entry.total, *entry.corpora.values()], [other.total, *other.corpora.values()], strict=True
        ):
            assert replace(one, encode_mb_per_s=None) == replace(two_, encode_mb_per_s=None)


def test_the_corpus_is_read_once_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "BATCH_BYTES", 100)
    encoded = 0

    class Watched(Tokenizer):
        def encode_buffers(self, texts, **options):  # type: ignore[no-untyped-def]
            nonlocal encoded
            encoded += sum(map(len, texts))
            return super().encode_buffers(texts, **options)

    def rows() -> Iterator[Row]:
        for number in range(100):
            assert number * 10 - encoded <= 100  # what was read is encoded before more is read
            yield Row(b"ab abc xyz")

    compare({"abc": Watched(ABC.definition)}, {"rows": rows()})


def test_json_holds_everything_and_is_json() -> None:
    found = compare({"learned": LEARNED, "abc": ABC}, CORPORA, reference=ENGLISH, alpha=3.0, rare=7)
    facts = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert facts["schema"] == "llmtool.tokenizer-compare/1"
    assert (facts["baseline"], facts["engine"]) == ("learned", engine.NAME)
    entry = facts["tokenizers"]["learned"]
    assert (entry["algorithm"], entry["vocab_size"], entry["unreachable"]) == ("scaffold", 300, {})
    assert entry["scaffolds"] == len(LEARNED.definition.vocabulary.scaffolds)
    assert entry["fingerprint"] == LEARNED.fingerprint()
    assert (entry["total"]["renyi_alpha"], entry["total"]["rare_threshold"]) == (3.0, 7)
    assert entry["corpora"]["other"]["parity"] == found.measured["learned"].corpora["other"].parity
    wrong = tiny((b"a", b"b"), (b"b", b"c"), (b"a", b"bc"))
    assert compare({"w": wrong}, CORPORA).to_json()["tokenizers"]["w"]["unreachable"] == {"abc": 258}


def test_tables_for_people() -> None:
    tables = {title: (header, rows, note) for title, header, rows, note in two(reference=ENGLISH, rare=3).tables()}
    assert len(tables) == 5
    for header, rows, _ in tables.values():
        assert all(len(row) == len(header) for row in rows)
    figures = {row[0]: row[1:] for row in tables["All corpora"][1]}
    assert figures["bytes/token"] == [f"{87 / 79:.4f}", "1.0000"]
    assert figures["Rényi efficiency, alpha 2.5, observed |V|"][0] < "1"
    assert figures["tokens seen fewer than 3 times"] == ["1", "0"]  # ab twice, abc three times
    fertility = tables["Fertility (tokens per word)"]
    assert [row[0] for row in fertility[1]] == ["english", "other"]
    frequencies = {row[0]: row[1:] for row in tables["Mean frequency by token length"][1]}
    assert list(frequencies) == ["1", "2", "3"]
    assert frequencies["3"] == ["3.0", "-"]
    assert "not a benchmark" in (tables["All corpora"][2] or "")


def test_fertility_of_scripts_without_spaces_is_marked() -> None:
    tables = compare({"abc": ABC}, {"ja": [Row("日本 a".encode())], "en": [Row(b"ab")]}).tables()
    assert [row[0] for row in tables[2][2]] == ["ja *", "en"]


def test_one_corpus_needs_no_table_by_corpus() -> None:
    assert len(compare({"abc": ABC}, {"en": ENGLISH}).tables()) == 2


def test_long_tokens_share_a_row() -> None:
    grown = tiny(*((b"a" * n, b"a") for n in range(1, 12)))
    rows = compare({"grown": grown.with_encoder("lbpe")}, {"a": [Row(b"a" * 12)]}).tables()[-1][2]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5", "6", "7", "8", "9-12"]
    assert rows[-1] == ["9-12", "0.2"]  # one of 9, 10, 11, 12 once: 1/4 to one digit


def test_a_reference_row_without_tokens_has_no_ratio() -> None:
    found = compare(
        {"abc": ABC}, {"x": [Row(b"ab", "1"), Row(b"abab", "2")]}, reference=[Row(b"", "1"), Row(b"c", "2")]
    )
    metrics = found.measured["abc"].corpora["x"]
    assert (metrics.parity, metrics.parity_mean, metrics.parity_rows) == (3.0, 2.0, 2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"baseline": "abd"}, "baseline 'abd'.*abc, bytes"),
        ({"alpha": math.nan}, "Rényi order"),
        ({"reference": [Row(b"a", "1"), Row(b"b", "1")]}, "'1' occurs twice"),
        ({"reference": [Row(b"a", "77"), Row(b"b")]}, "no row of any corpus"),
    ],
)
def test_what_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        two(**options)


def test_nothing_to_compare() -> None:
    with pytest.raises(UserError, match="no text"):
        compare({"abc": ABC}, {"empty": [Row(b"")]})
    with pytest.raises(UserError, match="no tokenizer"):
        compare({}, CORPORA)
