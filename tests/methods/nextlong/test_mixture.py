"""Rows of one long sample, of several packed ones and of ordinary documents in one output."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtool.commands import data
from llmtool.commands.data_settings import NextlongSettings
from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong import mixture
from tests.methods.nextlong.corpora import LIBRARY, sources, tokenizer, write_jsonl

TARGET, PACKED = 4096, 1024


def short_rows() -> list[dict[str, str]]:
    """Ordinary documents: pages of modules that the corpus does not hold."""
    texts = [
        (LIBRARY / name).read_text(encoding="utf-8") for name in ("argparse.py", "textwrap.py", "difflib.py", "ast.py")
    ]
    pages = [text[start : start + 900] for text in texts[1:] for start in range(0, len(text), 900)]
    return [{"id": f"d{number}", "text": text} for number, text in enumerate([texts[0][:20_000], *pages])]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mixture")
    pages = (
        {"id": f"{name}/{start}", "kind": kind, "text": text[start : start + 1200]}
        for name, kind, text in sources(16) for start in range(0, len(text), 1200)
    )  # fmt: skip
    write_jsonl(directory / "corpus.jsonl", pages)
    write_jsonl(directory / "short.jsonl", short_rows())
    tokenizer().save(directory / "tok.json")
    return directory


def make(place: Path, name: str, **settings: Any) -> Path:
    given: dict[str, Any] = {
        "target": TARGET, "packed": PACKED, "size": 512, "workers": 1, "samples": 20, "source_field": "kind",
        "work": place / "work", "short_data": [str(place / "short.jsonl")], "short_share": 0.3, "form": "npy",
    }  # fmt: skip
    data.nextlong([str(place / "corpus.jsonl")], place / name, tokenizer=str(place / "tok.json"), **given | settings)
    return place / name


def lines(output: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for part in sorted(output.glob(f"{name}-*.jsonl")) for line in part.open(encoding="utf-8")]


def ids_of(output: Path) -> Any:
    return np.fromfile(output / "samples.npy", np.uint16, offset=128).reshape(-1, TARGET)


def done(output: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((output / "done.json").read_text())
    return facts


def test_counts_are_the_shares() -> None:
    """20 rows of 33 / 67 with 40% of ordinary documents: 4.0, 8.04, 8."""
    assert mixture.counts((0.6 * 0.33, 0.6 * 0.67, 0.4), 20) == [4, 8, 8]
    assert mixture.counts((0.33, 0.67, 0.0), 3) == [1, 2, 0]
    for rows in range(60):
        for shares in ((0.2, 0.5, 0.3), (1.0, 0.0, 0.0), (1 / 3, 1 / 3, 1 / 3), (0.0, 0.0, 1.0)):
            found = mixture.counts(shares, rows)
            assert sum(found) == rows
            assert all(abs(one - share * rows) < 1 for one, share in zip(found, shares, strict=True))


def test_as_many_rows_as_the_scarcest_kind_allows() -> None:
    shares = (0.2, 0.4, 0.4)
    for available in ([9, 9, 9], [1, 50, 50], [0, 5, 5], [50, 50, 0], [4, 8, 8]):
        found = mixture.fitting(shares, 20, available)
        possible = [
            rows for rows in range(21)
            if all(need <= held for need, held in zip(mixture.counts(shares, rows), available, strict=True))
        ]  # fmt: skip
        assert sum(found) <= max(possible)
        assert sum(found) >= max(possible) - 2  # largest remainders need not grow with the rows
        assert all(need <= held for need, held in zip(found, available, strict=True))


def test_every_stretch_has_the_shares() -> None:
    kinds = mixture.order([10, 20, 20])
    assert Counter(kinds) == {0: 10, 1: 20, 2: 20}
    for start in range(0, 50, 10):
        found = Counter(kinds[start : start + 10])
        assert all(abs(found[kind] - wanted) <= 1 for kind, wanted in ((0, 2), (1, 4), (2, 4)))


def test_rows_hold_what_they_say(place: Path) -> None:
    output = make(place, "ids", eos=True)
    ids, facts = ids_of(output), done(output)
    assert facts["rows"] == {"long": 5, "packed": 9, "short": 6}
    assert len(ids) == 20
    assert facts["tokens"] == ids.size
    samples, documents = lines(output, "spans"), lines(output, "short")
    assert Counter(row["target"] for row in samples) == {TARGET: 5, PACKED: 36}
    assert facts["samples"] == len(samples) == 41
    taken = np.zeros(ids.shape, np.int64)
    for row in [*samples, *documents]:
        first, stop = row["range"]
        taken[row["row"], first:stop] += 1
    assert (taken == 1).all()
    texts = {row["id"]: row["text"] for row in lines(make(place, "text", eos=True, form="jsonl"), "samples")}
    for row in samples:
        first, stop = row["range"]
        own = ids[row["row"], first:stop]
        assert own[-1] == tokenizer().eos_id
        assert tokenizer().encode(texts[row["id"]])[: row["target"] - 1] == own[:-1].tolist()
    offsets = np.load(output / "samples.npy.offsets.npy")
    ranges = sorted((row["row"] * TARGET + row["range"][1]) for row in [*samples, *documents])
    assert offsets[1:].tolist() == ranges


def test_documents_come_whole(place: Path) -> None:
    """Their pieces one after another are the documents, each with its end; text holds the same documents."""
    output = make(place, "whole", eos=True)
    ids, texts = ids_of(output), {row["id"]: row["text"] for row in short_rows()}
    pieces: dict[str, list[int]] = {}
    for row in lines(output, "short"):
        pieces.setdefault(row["id"], []).extend(ids[row["row"], slice(*row["range"])].tolist())
        assert row["source"] == "short"
    *full, last = pieces
    for name in full:
        assert tokenizer().decode(pieces[name][:-1]) == texts[name]
        assert pieces[name][-1] == tokenizer().eos_id
    assert texts[last].startswith(tokenizer().decode(pieces[last], errors="ignore")[:50])
    assert len(lines(output, "short")) >= len(pieces) + 4  # those at the borders of the six rows lie in two
    whole = lines(make(place, "whole-text", eos=True, form="jsonl"), "short")
    assert {row["id"]: row["text"] for row in whole} == {name: texts[name] for name in pieces}
    assert len(whole) == len(pieces)


def test_mds_has_a_range_for_each(place: Path) -> None:
    output = make(place, "mds", form="mds")
    raw = b"".join(path.read_bytes() for path in sorted(output.glob("shard.*.mds")))
    count = int(np.frombuffer(raw[:4], np.uint32)[0])
    offsets = np.frombuffer(raw[4 : 8 + 4 * count], np.uint32)
    expected: dict[int, list[list[int]]] = {}
    for row in sorted([*lines(output, "spans"), *lines(output, "short")], key=lambda row: row["range"]):
        expected.setdefault(row["row"], []).append(row["range"])
    found = ids_of(make(place, "as-array"))
    for number, start in enumerate(offsets[:-1].tolist()):
        domain, indices, ids = np.frombuffer(raw[start : start + 12], np.uint32).tolist()
        at = start + 12 + domain
        head = 1 + 2 * (1 if raw[at] & 3 == 0 else 2)  # a byte, then the two sizes
        ranges = np.frombuffer(raw[at + head : at + indices], np.uint32).reshape(-1, 2)
        assert ranges.tolist() == expected[number]
        assert np.frombuffer(raw[at + indices + 3 : at + indices + ids], np.uint32).tolist() == found[number].tolist()
    assert count == 20


def test_mosaic_reads_a_mixture(place: Path) -> None:
    """Ids, ranges and what a row is called, as the trainers' own reader has them."""
    streaming = pytest.importorskip("streaming", reason="mosaicml-streaming is not installed")
    output = make(place, "streamed", form="mds")
    expected: dict[int, list[list[int]]] = {}
    for row in sorted([*lines(output, "spans"), *lines(output, "short")], key=lambda row: row["range"]):
        expected.setdefault(row["row"], []).append(row["range"])
    found = list(streaming.StreamingDataset(local=str(output), shuffle=False, batch_size=1))
    assert [row["input_ids"].tolist() for row in found] == ids_of(make(place, "streamed-array")).tolist()
    assert [row["indices"].tolist() for row in found] == [expected[number] for number in range(20)]
    assert {len(ranges) for ranges in expected.values()} >= {1, TARGET // PACKED}
    assert all(row["length"] == TARGET and row["domain"] for row in found)


def test_the_same_bytes_by_any_number_of_workers(place: Path) -> None:
    def files(output: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file() and path.name != "run.json"}

    one = files(make(place, "one", work=place / "one" / "work"))
    assert files(make(place, "two", work=place / "two" / "work", workers=2)) == one
    facts, lines_ = data.report(place / "one")
    assert facts["all_metas_inside"] == 1
    assert facts["targets"] == {str(TARGET): 5, str(PACKED): 36}
    shown = dict(lines_)
    assert shown["samples"] == "5 of 4,096 tokens, 36 of 1,024 tokens"
    assert {"seeds accepted", "seeds accepted, packed"} <= shown.keys()
    assert facts["weak"] == 0


def test_evaluation_text_is_kept_out_of_documents(place: Path) -> None:
    (place / "eval.txt").write_text(" ".join(short_rows()[5]["text"].split()[3:40]))
    output = make(place, "clean", decontaminate=[str(place / "eval.txt")], work=place / "clean" / "work")
    assert done(output)["short_contaminated"] == 1
    assert short_rows()[5]["id"] not in {row["id"] for row in lines(output, "short")}


def test_a_budget_and_what_there_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--tokens counts every row; where a kind is scarce the shares stay, and it is said which."""
    from llmtool.core.run.console import Console

    facts = done(make(place, "budget", samples=None, tokens=f"{10 * TARGET + 5}"))
    assert facts["tokens"] == 10 * TARGET
    output = make(place, "scarce", samples=100, console=Console())
    rows = done(output)["rows"]
    total = sum(rows.values())
    assert 0 < total < 100
    assert abs(rows["short"] - 0.3 * total) < 1
    assert abs(rows["packed"] - 0.7 * 0.67 * total) < 1
    assert "there are only" in capsys.readouterr().err


def test_what_contradicts_itself_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match="does not hold a whole number of such samples"):
        make(place, "no", packed=1000)
    with pytest.raises(UserError, match="--recipe 512k and --packed 1024 contradict each other"):
        make(place, "no", recipe="512k", target=131072)
    found = data.recipe(NextlongSettings(recipe="512k"))
    assert (found.target, found.packed) == (524288, 65536)
    assert found.shares == pytest.approx((0.33, 0.67, 0))
    with pytest.raises(UserError, match="nothing-there"):
        make(place, "no", short_data=["nothing-there.txt"])
    assert not (place / "no").exists()
