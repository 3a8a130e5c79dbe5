import os
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from llmtool.core.corpus.document import NO_TARGET, SAME_FILE, ReadReport
from llmtool.core.corpus.inputs import Input, distinct_names, find_inputs, total_bytes
from llmtool.core.corpus.reading import Reading
from llmtool.core.run.errors import UserError


def test_directories_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/.hidden", ".git/config", "c/d/e.txt", "a0.txt", "B.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("xyz")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "link.txt").symlink_to(tmp_path / "a0.txt")
    os.mkfifo(tmp_path / "pipe")
    found = find_inputs([tmp_path])
    names = [str(Path(entry.source).relative_to(tmp_path)) for entry in found]
    assert names == ["B.txt", "a/z.txt", "a0.txt", "b.txt", "c/d/e.txt"]
    assert {(entry.size, entry.named) for entry in found} == {(3, False)}
    assert total_bytes([tmp_path, tmp_path / ".git/config"]) == 18


def test_names_keep_their_order_and_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b").write_text("1")
    Path(".a").write_text("22")
    assert find_inputs(["./b", ".a", "-"]) == [
        Input("./b", 1, named=True),
        Input(".a", 2, named=True),
        Input("-", None, named=True),
    ]


def test_pipes_have_no_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("1")
    assert total_bytes([tmp_path / "file", tmp_path / "pipe"]) is None
    assert total_bytes([tmp_path / "file", "-"]) is None


def test_bad_inputs_are_one_line(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("x")
    for inputs, line in (
        ([], r"^no input \("),
        (["-", "-"], r"named twice"),
        ([tmp_path / "missing"], r"missing: cannot read: no such file or directory$"),
        ([tmp_path], r"the directory holds no file"),
        ([""], r"cannot read: no such file"),
    ):
        with pytest.raises(UserError, match=line):
            find_inputs(inputs)


def test_unreadable_file(tmp_path: Path) -> None:
    vanished = Input(str(tmp_path / "gone"), 3, named=False)
    with pytest.raises(UserError, match=r"gone: cannot read: no such file"):
        list(vanished.chunks())


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_permissions(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o000)
    with pytest.raises(UserError, match=r"d: cannot read: permission denied"):
        find_inputs([tmp_path])


def test_chunks_report_what_they_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(2_500_000))
    reported: list[int] = []
    chunks = list(Input(str(path), 2_500_000, named=True).chunks(reported.append))
    assert reported == [len(chunk) for chunk in chunks] == [1 << 20, 1 << 20, 2_500_000 - (2 << 20)]


def test_standard_input_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = BytesIO(b"abc")
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(buffer))
    assert b"".join(Input("-", None, named=True).chunks()) == b"abc"
    assert not buffer.closed
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="standard input is closed"):
        list(Input("-", None, named=True).chunks())


def test_links_and_loops_and_repeats_are_read_once_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "b.txt").symlink_to("a.txt")
    os.link(tmp_path / "a.txt", tmp_path / "c.txt")
    report = ReadReport()
    found = find_inputs([tmp_path, tmp_path / "a.txt"], report=report)
    assert [entry.source for entry in found] == [str(tmp_path / "a.txt")]
    assert report.reasons == {NO_TARGET: 2, SAME_FILE: 3}


def test_globs_and_notes_beside_a_dataset(tmp_path: Path) -> None:
    for name in ("README.md", "LICENSE", "data/train.jsonl", "data/test.jsonl", "data/dataset_info.json", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")

    def names(**options: Any) -> list[str]:
        found = find_inputs([tmp_path], Reading(**options))
        return [str(Path(entry.source).relative_to(tmp_path)) for entry in found]

    assert names() == ["data/test.jsonl", "data/train.jsonl", "notes.txt"]
    assert names(include=["*.md"]) == ["README.md"]
    assert names(include=["data/*.jsonl"], exclude=["test*"]) == ["data/train.jsonl"]
    assert names(exclude=["data"]) == ["LICENSE", "README.md", "notes.txt"]  # no dataset any more: all is text
    with pytest.raises(UserError, match=r"none of 6 files is wanted \(--include \*\.csv\)"):
        names(include=["*.csv"])
    assert [entry.source for entry in find_inputs([tmp_path / "README.md"])] == [str(tmp_path / "README.md")]


def test_names_are_short_and_distinct() -> None:
    for paths, names in (
        (["/c/web.jsonl.gz", "zu.txt"], ["web", "zu"]),
        (["d1/data.jsonl", "d2/data.jsonl"], ["d1/data.jsonl", "d2/data.jsonl"]),
        (["v1.a.jsonl", "v1.b.jsonl"], ["v1.a", "v1.b"]),
        (["x/a.jsonl", "x/a.txt", "b"], ["a.jsonl", "a.txt", "b"]),
        (["a/d/f", "b/d/f", "f"], ["a/d/f", "b/d/f", "f"]),
        (["s3://bucket/x.parquet", "textwrap.py", "-"], ["x", "textwrap", "-"]),
        (["v1.a", "v1.b"], ["v1.a", "v1.b"]),
    ):
        assert distinct_names(paths) == names
