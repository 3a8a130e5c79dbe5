"""Samples and weights: seeded, from everywhere, by size, and as much as was asked for."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llmtool.core.corpus import columns, sampling
from llmtool.core.corpus.calibration import text_rows
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.inputs import split_weight
from llmtool.core.corpus.readers import read_documents
from llmtool.core.run import wording
from llmtool.core.run.errors import UserError


def rows(path: Path, count: int, size: int, word: str) -> Path:
    data = "".join(json.dumps({"text": f"{word} {n} ".ljust(size, "x"), "id": n}) + "\n" for n in range(count)).encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith("gz") else data)
    return path


def drawn(inputs: list[Path | str], **options: Any) -> list[tuple[str, int, int]]:
    return [(d.text.decode().split()[0], d.row, len(d.text)) for d in read_documents(inputs, **options)]


@pytest.fixture
def corpus(tmp_path: Path) -> list[Path | str]:
    return [rows(tmp_path / "big.jsonl", 4000, 300, "big"), rows(tmp_path / "small.jsonl.gz", 400, 300, "small"),
            rows(tmp_path / "long", 40, 3000, "long")]  # fmt: skip


@pytest.mark.parametrize("share", [0.03, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_a_sample_has_its_size_and_takes_from_each_file_by_size(
    share: float, seed: int, corpus: list[Path | str]
) -> None:
    total = 4000 * 300 + 400 * 300 + 40 * 3000
    found = drawn(corpus, sample=int(share * total), seed=seed)
    assert abs(sum(size for _, _, size in found) - share * total) < 7000  # two of the longest documents
    by_file: Counter[str] = Counter()
    for word, _, size in found:
        by_file[word] += size
    for word, size in (("big", 1_200_000), ("small", 120_000), ("long", 120_000)):
        assert abs(by_file[word] - share * size) < 10_000
    early = sum(1 for word, row, _ in found if word == "big" and row <= 2000)
    late = sum(1 for word, row, _ in found if word == "big" and row > 2000)
    assert abs(early - late) < 0.25 * (early + late) + 5


def test_a_sample_hangs_on_its_seed_alone(corpus: list[Path | str]) -> None:
    one, again, other = (drawn(corpus, sample="100K", seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert len(set(one) & set(other)) < len(one) / 2
    assert sorted(drawn(corpus, sample="100M")) == sorted(drawn(corpus))


def test_a_sample_says_what_it_drew(corpus: list[Path | str]) -> None:
    report = ReadReport()
    size = sum(size for _, _, size in drawn(corpus, sample="50K", report=report))
    line = report.taken()
    assert line is not None
    assert line.startswith(f"drew {wording.size(size)} of about 1.44 MB from 3 files as JSONL")


def test_a_plain_file_is_drawn_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    path.write_bytes(b"".join(b"line %07d of a long text\n" % n for n in range(400_000)))  # 11 MB
    found = list(read_documents([path], sample="4M", seed=3))
    assert 3e6 < sum(len(d.text) for d in found) < 5.2e6
    assert all(d.text in path.read_bytes() for d in found)
    assert not found[-1].more


@pytest.mark.parametrize(("weight", "least", "most"), [(0.25, 95, 105), (1, 400, 400), (2, 800, 800), (2.5, 990, 1010)])
def test_weights_are_shares_of_an_input(weight: float, least: int, most: int, tmp_path: Path) -> None:
    path = rows(tmp_path / "a.jsonl", 400, 100, "a")
    report = ReadReport()
    seen: list[int] = []
    found = Counter(row for _, row, _ in drawn([f"{path}@{weight}"], report=report, on_bytes=seen.append))
    assert least <= found.total() <= most
    assert max(found.values()) - min(found.values() if weight >= 1 else [0]) <= 1
    assert (report.files, report.rows) == ({"jsonl": 1}, {"jsonl": found.total()})
    assert sum(seen) == path.stat().st_size


def test_names_that_look_like_weights(tmp_path: Path) -> None:
    (tmp_path / "a@2").write_text("x")
    (tmp_path / "b").write_text("x")
    assert split_weight(str(tmp_path / "a@2")) == (str(tmp_path / "a@2"), 1.0)
    assert split_weight(f"{tmp_path}/b@0.5") == (f"{tmp_path}/b", 0.5)
    assert split_weight("https://user@host/x.jsonl") == ("https://user@host/x.jsonl", 1.0)
    assert split_weight("s3://bucket/x.jsonl@3") == ("s3://bucket/x.jsonl", 3.0)
    for text in ("b@0", "b@-1", "b@inf", "b@nan", "b@half"):
        with pytest.raises(UserError, match="weight"):
            split_weight(f"{tmp_path}/{text}")


def encode(text: str) -> list[int]:
    return list(text.encode())


@pytest.mark.parametrize("joined", [False, True])
def test_calibration_takes_equal_numbers_of_rows_from_each_input_at_random(joined: bool, tmp_path: Path) -> None:
    """20 novels in front of 60 programs: no program was ever seen."""
    novels, programs = tmp_path / "novels.jsonl", tmp_path / "programs.jsonl"
    novels.write_text("".join(json.dumps({"text": chr(97 + n) * 30_000}) + "\n" for n in range(20)))
    programs.write_text("".join(json.dumps({"text": chr(65 + n % 26) * 400}) + "\n" for n in range(60)))
    found = text_rows(encode, [str(novels), str(programs)], 6400, 64, joined=joined)
    assert len(found) == 100 or not joined
    assert sum(map(len, found)) > 6300
    kinds = Counter("novel" if row[0] >= 97 else "program" for row in found)
    assert abs(kinds["novel"] - kinds["program"]) <= 12  # the last row of a program is short
    assert len({row[0] for row in found if row[0] >= 97}) > 10  # many of the novels, not the first
    assert found == text_rows(encode, [str(novels), str(programs)], 6400, 64, joined=joined)
    assert found != text_rows(encode, [str(novels), str(programs)], 6400, 64, seed=1, joined=joined)


def test_an_input_with_too_few_rows_leaves_its_share(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a" * 1000)
    (tmp_path / "b").write_text("b" * 100)
    found = text_rows(encode, [str(tmp_path / "a"), str(tmp_path / "b")], 800, 50, joined=True)
    assert Counter(row[0] for row in found) == {97: 14, 98: 2}
    with pytest.raises(UserError, match=r"calibration text of 100 tokens is shorter than the window of 101"):
        text_rows(encode, [str(tmp_path / "b")], 800, 101, joined=True)


@pytest.mark.parametrize("joined", [False, True])
def test_calibration_takes_rows_by_weight(joined: bool, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a" * 60_000)
    (tmp_path / "b").write_text("b" * 60_000)
    for weights in ((1, 3), (0.5, 1.5), (0.25, 0.75)):
        names = [f"{tmp_path / name}@{weight}" for name, weight in zip("ab", weights, strict=True)]
        found = text_rows(encode, names, 8000, 50, joined=joined)
        assert Counter(row[0] for row in found) == {97: 40, 98: 120}
        assert {row[0] for row in found[:4]} == {97, 98}  # also of the first rows: who stops early has both
    assert text_rows(encode, [f"{tmp_path / 'a'}@2"], 800, 50) == text_rows(encode, [str(tmp_path / "a")], 800, 50)


@pytest.mark.parametrize("joined", [False, True])
def test_calibration_hangs_on_the_text_and_not_on_where_it_lies(
    joined: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows were drawn by the path as it was typed, so that a documented loss could not be had again elsewhere."""
    novel = " ".join(f"word {n}" for n in range(20_000))
    (tmp_path / "here").mkdir()
    (tmp_path / "there" / "deep").mkdir(parents=True)
    names = [tmp_path / "here" / "novel.txt", tmp_path / "there" / "deep" / "other name.txt"]
    for name in names:
        name.write_text(novel)
    rows = [{"text": novel[start : start + 2000]} for start in range(0, 100_000, 1000)]
    for folder in ("here", "there"):
        (tmp_path / folder / "rows").mkdir()
        for part in range(2):
            lines = "".join(json.dumps(row) + "\n" for row in rows[part::2])
            (tmp_path / folder / "rows" / f"part-{part}.jsonl").write_text(lines)
    (tmp_path / "beside").write_text("b" * 60_000)
    monkeypatch.chdir(tmp_path / "here")

    def drawn(*inputs: str, seed: int = 0) -> list[list[int]]:
        found = text_rows(encode, inputs, 1600 * len(inputs), 50, seed=seed, joined=joined)
        return [row for row in found if row[0] != ord("b")]

    expected = drawn("novel.txt")
    assert expected != drawn("novel.txt", seed=1)
    for typed in ("./novel.txt", str(names[0]), "../there/deep/other name.txt", "novel.txt@2"):
        assert drawn(typed) == expected
    assert drawn("../beside", "novel.txt") == drawn("novel.txt", "../beside") == expected
    assert drawn("rows") == drawn("../there/rows") == drawn(str(tmp_path / "there" / "rows")) != expected


def test_calibration_reads_as_it_is_told_and_says_what_it_left_out(tmp_path: Path, capsys: Any) -> None:
    from llmtool.core.corpus.reading import Reading
    from llmtool.core.run.console import Console

    rows = [{"doc": {"body": "x" * 400}} if n % 2 else {"doc": None} for n in range(40)]
    (tmp_path / "part-00000").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reading = Reading(field=["doc.body"])
    found = text_rows(encode, [str(tmp_path)], 400, 50, reading=reading, console=Console(0))
    assert {tuple(row) for row in found} == {(120,) * 50}
    assert "20 no field 'doc.body'" in capsys.readouterr().err
    with pytest.raises(UserError, match="no field 'text'"):
        text_rows(encode, [str(tmp_path)], 400, 50)
    with pytest.raises(UserError, match=r"part-00000:1: no field 'doc.body'"):
        text_rows(encode, [str(tmp_path)], 400, 50, reading=Reading(field=["doc.body"], strict=True))


def test_the_estimate_of_parquet_counts_a_batch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes were told behind its rows: text of one batch more than bytes, twice as much for a file of two."""
    pa = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    texts = [f"{number} " * 40 for number in range(40_000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "rows.parquet", row_group_size=8000)
    monkeypatch.setattr(sampling, "PROBE_BYTES", 1 << 20)
    monkeypatch.setattr(columns, "_BATCH_BYTES", 1 << 20)
    report = ReadReport()
    list(read_documents([tmp_path / "rows.parquet"], sample="1MB", report=report))
    assert report.sample is not None
    assert 0.8 < report.sample[1] / sum(map(len, texts)) < 1.25
