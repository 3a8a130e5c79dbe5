"""Pages: nothing from elsewhere, everything escaped, what the terminal said, and the writers' rule."""

import base64
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.page import Pages
from llmtool.core.run.page_blocks import Block, Figure, Lines, Table, html_page, markdown_page
from tests.processes import PATIENCE

VOID = {"meta", "img", "br", "link", "input"}
HOSTILE = '<script>alert(1)</script> & "quotes" | pipe\nline `code` \ud800'


class Reader(HTMLParser):
    """Tags in order, balanced or not, and what they point to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.pointers: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.pointers += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    assert not {"script", "iframe", "object", "link", "base"} & set(reader.tags)
    assert all(pointer.startswith("data:image/") for pointer in reader.pointers)
    assert "@import" not in page
    assert "url(" not in page
    return reader


def test_nothing_from_elsewhere_and_everything_escaped(tmp_path: Path) -> None:
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"
    (tmp_path / "f.svg").write_bytes(svg)
    blocks: list[Block] = [
        Table(HOSTILE, ["a", HOSTILE], [["1", HOSTILE]], HOSTILE),
        Lines([HOSTILE]),
        Figure(tmp_path / "f.svg"),
    ]
    reader = read(html_page(HOSTILE, blocks, f"llmtool {HOSTILE}", "mark"))
    assert "".join(reader.text).count("<script>alert(1)</script>") == 8
    (picture,) = reader.pointers  # shown as a picture, in which no script runs
    assert base64.b64decode(picture.partition(",")[2]) == svg
    assert "prefers-color-scheme: dark" in html_page("t", [], "c", "m")


def test_markdown_is_text_too() -> None:
    page = markdown_page(HOSTILE, [Table("t", ["a", "b|c"], [["x|y", "*z*"]]), Lines(["```", "<b>"])], "mark")
    lines = page.splitlines()
    assert lines[0] == "<!-- mark -->"
    assert "<script>" not in page.partition("```")[0]
    assert "| a | b\\|c |" in lines
    assert "| x\\|y | \\*z\\* |" in lines
    assert lines[lines.index("````text") + 1 :] == ["```", "<b>", "````"]


def test_a_page_says_what_the_terminal_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Pages(html=tmp_path / "p.html", markdown=tmp_path / "p.md")
    with asked.open("Title", Console()) as page:
        page.table("Losses", ["source", "loss"], [["novels", "2.50"]], "a note", result=True)
        page.result(["one", "two"])
    shown = capsys.readouterr()
    assert "novels" in shown.out
    assert "one\ntwo\n" in shown.out
    text = "".join(read((tmp_path / "p.html").read_text()).text)
    for word in ("Title", "Losses", "novels", "2.50", "a note", "one\ntwo"):
        assert word in text
        assert word in (tmp_path / "p.md").read_text()


def test_muted_pages_keep_and_do_not_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Pages(markdown=tmp_path / "p.md").open("t", Console(), muted=True) as page:
        page.result(["kept"])
    assert capsys.readouterr().out == ""
    assert "kept" in (tmp_path / "p.md").read_text()
    with Pages(markdown=Path("-")).open("t", Console()) as page:
        page.result(["printed once"])
    assert capsys.readouterr().out.count("printed once") == 1
    with pytest.raises(UserError, match="both print"), Pages(markdown=Path("-")).open("t", Console(), muted=True):
        pass


@pytest.mark.parametrize("html, markdown", [
    ("p.md", None), ("p", None), ("-", None), ("p.svg", None), (None, "p.html"), (None, "p.json"), (None, "p.png"),
])  # fmt: skip
def test_a_name_that_says_something_else(html: str | None, markdown: str | None, tmp_path: Path) -> None:
    places = [None if name is None else Path("-") if name == "-" else tmp_path / name for name in (html, markdown)]
    asked = Pages(html=places[0], markdown=places[1])
    with pytest.raises(UserError, match="by its name"), asked.open("t", Console()):
        pass
    assert not list(tmp_path.iterdir())


def test_names_that_suit(tmp_path: Path) -> None:
    for html, markdown in (("p.HTM", "p.markdown"), ("q.html", "step_summary_1f")):
        with Pages(html=tmp_path / html, markdown=tmp_path / markdown).open("t", Console()) as page:
            page.result(["kept"])
        assert "kept" in (tmp_path / html).read_text()
        assert "kept" in (tmp_path / markdown).read_text()


def test_the_writers_rule(tmp_path: Path) -> None:
    place = tmp_path / "p.html"
    place.write_text("mine")
    with pytest.raises(UserError, match="no page of llmtool"), Pages(html=place).open("t", Console(-1)):
        pass
    assert place.read_text() == "mine"
    data = tmp_path / "data.jsonl"
    data.write_text("{}")
    with pytest.raises(UserError, match="is also an input"), Pages(html=data).open("t", Console(-1), read=[data]):
        pass
    with pytest.raises(UserError, match="two outputs"), Pages(html=data, markdown=data).open("t", Console(-1)):
        pass
    place.unlink()
    with pytest.raises(ZeroDivisionError), Pages(html=place).open("t", Console(-1)):
        _ = 1 / 0
    assert not place.exists()


def test_of_several_processes_the_first_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with Pages(html=tmp_path / "p.html").open("t", Console(-1)) as page:
        page.result(["x"])
    assert not (tmp_path / "p.html").exists()
    assert json.dumps(page.title) == '"t"'


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_a_browser_shows_it(tmp_path: Path) -> None:
    """Opened in a headless browser: what it shows is the text, and nothing of it has become markup."""
    place = tmp_path / "p.html"
    with Pages(html=place).open(HOSTILE, Console(-1), muted=True) as page:
        page.table("Losses", ["source", "loss"], [["<i>novels</i>", "2.50"]], result=True)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [str(BROWSER), *options, f"--screenshot={tmp_path / 'p.png'}", "--dump-dom", place.as_uri()],
        capture_output=True, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    assert "&lt;i&gt;novels&lt;/i&gt;" in done.stdout
    assert "<script" not in done.stdout
    read(done.stdout)


@pytest.mark.parametrize("force", [False, True])
def test_the_page_of_a_run_that_grows_is_replaced_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], force: bool
) -> None:
    place = tmp_path / "p.html"
    for words in (["train"], ["train"], ["train", "-v"]):
        monkeypatch.setattr("sys.argv", ["llmtool", *words])
        with Pages(html=place).open("t", Console(), force=force, grows=True) as page:
            page.result([" ".join(words)])
        said = capsys.readouterr().err
        assert ("is replaced" in said) == ("-v" in words and not force)
    assert "train -v" in place.read_text()
    monkeypatch.setattr("sys.argv", ["llmtool", "eval"])
    with pytest.raises(UserError, match="use --force to replace it"), Pages(html=place).open("t", Console()):
        pass
