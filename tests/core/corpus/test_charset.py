"""Files that are no UTF-8 are read as they are, and told in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from llmtool.core.corpus.charset import watched
from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.readers import read_documents
from tests.conftest import SCRIPTS

GERMAN = "Größe und Übung, naïve façade. " * 200
CASES = {
    "utf-16": (GERMAN.encode("utf-16"), "begins as UTF-16 does"),
    "utf-16-be": (b"\xfe\xff" + GERMAN.encode("utf-16-be"), "begins as UTF-16 does"),
    "utf-32": (GERMAN.encode("utf-32"), "begins as UTF-32 does"),
    "utf-16 without a mark": (GERMAN.encode("utf-16-le"), "50% of its bytes are NUL (UTF-16?)"),
    "chinese utf-16 without a mark": ("床前明月光,\n疑是地上霜. ".encode("utf-16-le") * 100, "% of its bytes are"),
    "latin-1": (GERMAN.encode("latin-1"), "16.1% of its bytes are no UTF-8 (Latin-1?)"),
    "one byte": (b"plain " * 4000 + b"\xe9" + b" plain" * 4000, "1 of its bytes are no UTF-8"),
    "a cut character": (b"ok \xe2\x82", "no UTF-8"),
    "nul": (b"a\0b" + b"text " * 100, "holds 1 NUL bytes"),
}
FINE = {"ascii": b"plain text", "scripts": "".join(SCRIPTS).encode(), "empty": b"", "mark": b"\xef\xbb\xbfBOM"}


@pytest.mark.parametrize("block", [5, 4096])
@pytest.mark.parametrize("case", CASES)
def test_what_is_no_utf_8_is_noted(case: str, block: int) -> None:
    data, wanted = CASES[case]
    report = ReadReport()
    blocks = [data[at : at + block] for at in range(0, len(data), block)]
    passed = b"".join(watched(blocks, case, report))
    assert passed == data
    assert [where for where, _ in report.notes] == [case]
    assert wanted in report.notes[0][1]
    assert len(list(report.lines())) == 1


@pytest.mark.parametrize("block", [1, 3, 4096])
@pytest.mark.parametrize("case", FINE)
def test_utf_8_is_not_noted(case: str, block: int) -> None:
    data = FINE[case]
    report = ReadReport()
    assert b"".join(watched([data[at : at + block] for at in range(0, len(data), block)], case, report)) == data
    assert report.notes == []


def test_only_text_that_is_named_is_noted(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    latin = tmp_path / "folder" / "latin.txt"
    latin.write_bytes(GERMAN.encode("latin-1"))
    rows = write("rows.jsonl", '{"text": "a"}\n')
    for inputs, noted in (([tmp_path / "folder"], []), ([latin], [str(latin)]), ([rows], [])):
        report = ReadReport()
        assert list(read_documents(inputs, report=report))
        assert [where for where, _ in report.notes] == noted


def test_reading_that_stops_early_still_notes(tmp_path: Path) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes(GERMAN.encode("latin-1") * 600)
    report = ReadReport()
    assert list(read_documents([latin], limit_bytes=1000, report=report))
    assert "Latin-1" in report.notes[0][1]


def test_many_notes_are_counted() -> None:
    report = ReadReport()
    for number in range(9):
        report.note(f"{number}.txt", "odd")
    assert list(report.lines())[-1] == "and 4 more texts like these"
