import pytest

from llmtool.core.corpus.document import KEPT, NOT_TEXT, ReadReport, RowErrors
from llmtool.core.run.errors import UserError


def test_first_places_of_each_reason_are_kept() -> None:
    report = ReadReport()
    for row in range(1, 1001):
        report.add(f"a.jsonl:{row}", "not valid JSON", f"column {row}")
    report.add("b.bin", "not text")
    assert report.count == 1001
    assert report.reasons == {"not valid JSON": 1000, "not text": 1}
    assert report.first[0] == ("a.jsonl:1", "not valid JSON: column 1")
    assert [where for where, _ in report.first] == [f"a.jsonl:{row}" for row in range(1, KEPT + 1)] + ["b.bin"]
    lines = list(report.lines())
    assert lines[0] == "skipped 1,001 rows or files: 1,000 not valid JSON, 1 not text"
    assert lines[-2:] == ["  b.bin: not text", "  ... and 995 more"]


def test_nothing_skipped_nothing_said() -> None:
    assert list(ReadReport().lines()) == []


def test_strict_raises_and_counts_nothing() -> None:
    report = ReadReport()
    with pytest.raises(UserError, match=r"^a:3: not valid JSON: column 5 \(mend it\)$"):
        RowErrors(report, strict=True).add("a:3", "not valid JSON", detail="column 5", hint="mend it")
    with pytest.raises(UserError, match=r"\(correct the row, or read without --strict"):
        RowErrors(report, strict=True).add("a:3", "null")
    assert report.count == 0
    RowErrors(report, strict=False).add("a:3", "null")
    assert report.first == [("a:3", "null")]


def test_files_that_are_no_text_are_counted_and_not_listed() -> None:
    report = ReadReport()
    for number in range(9):
        report.add(f"{number}.png", NOT_TEXT)
    assert list(report.lines()) == ["skipped 9 rows or files: 9 not text (NUL bytes)"]
    report.add("a.jsonl:3", "not valid JSON")
    assert list(report.lines())[1:] == ["  a.jsonl:3: not valid JSON"]
