"""The figure: what stands in it, the same bytes each time, nothing left behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmtool.core.bpe.comparison import Comparison, Row, compare
from llmtool.core.bpe.comparison_plot import plot
from llmtool.core.run.errors import UserError
from tests.core.bpe.test_metrics import ABC, LEARNED, tiny
from tests.processes import cpu_budget

NAMES = ("scaffold", r"_a$\b$", "a name that is much longer than any legend has room for")
CORPORA = {"en": [Row(b"ab abc ab")], "empty": [Row(b"")], "ja": [Row("日本語".encode())]}


def comparison() -> Comparison:
    unused = tiny((b"a", b"b"), (b"x", b"y"), (b"xy", b"z"))
    return compare(dict(zip(NAMES, (LEARNED, unused, ABC), strict=True)), CORPORA)


def texts(path: Path) -> list[str]:
    """What the figure says: matplotlib notes the text of each group of outlines in a comment."""
    return re.findall(r"<!-- (.*?) -->", path.read_text())


def test_svg_says_what_was_measured(tmp_path: Path) -> None:
    found = comparison()
    plot(found, tmp_path / "out.svg")
    said = texts(tmp_path / "out.svg")
    assert {"en", "empty", "ja", "fewer tokens, %", "token length, bytes", "learned tokens that never occur"} <= set(
        said
    )
    assert "nan" not in "".join(said)  # what is not defined is not drawn
    first, *others = found.measured.values()
    for entry in others:
        assert f"{100 * (1 - entry.corpora['en'].tokens / first.corpora['en'].tokens):+.2f}%" in said
    assert "Tokens saved against scaffold, by corpus (higher is better)" in said
    assert {label for label, _ in found.frequencies()} <= set(said)
    unused = found.measured["scaffold"].total.zero_frequency
    assert unused > 0
    short = "a name that is… has room for"
    names = ["scaffold", r" _a$\b$", short]
    assert said[-3:] == names  # the legend
    place = said.index("learned tokens that never occur")
    assert said[place + 1 : place + 7] == [*names, str(unused), "2", "0"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".SVG"])
def test_the_same_bytes_each_time(tmp_path: Path, suffix: str) -> None:
    found = comparison()
    plot(found, tmp_path / f"first{suffix}")
    plot(found, tmp_path / f"second{suffix}")
    first = (tmp_path / f"first{suffix}").read_bytes()
    assert first == (tmp_path / f"second{suffix}").read_bytes()
    assert first.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")
    assert b"<dc:date>" not in first
    assert b"llmtool figure" in first
    assert b"Matplotlib v" not in first  # its version, which it writes by default


@pytest.mark.parametrize("name", ["out.gif", "out", "svg"])
def test_other_formats_are_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"cannot draw .*name it \.png, \.svg, \.pdf"):
        plot(comparison(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    def full(self: Figure, file: object, **options: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    (tmp_path / "out.png").write_bytes(b"old llmtool figure")
    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(UserError, match="no space left"):
        plot(comparison(), tmp_path / "out.png")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out.png", b"old llmtool figure")]


def test_missing_matplotlib_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'llmtool\[plots\]'"):
        plot(comparison(), tmp_path / "out.png")


def test_no_home_no_display_no_pyplot(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.core.bpe import test_comparison_plot as t;"
        "t.plot(t.comparison(), Path(sys.argv[1])); print('matplotlib.pyplot' in sys.modules)"
    )
    kept = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "MPLCONFIGDIR", "XDG_CACHE_HOME")}
    environment = {**kept, "HOME": "/dev/null/home", "XDG_CONFIG_HOME": "/dev/null/config", "MPLBACKEND": "agg"}
    command = [sys.executable, "-c", program, str(tmp_path / "out.png")]
    root = Path(__file__).parents[3]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, preexec_fn=cpu_budget(120)
    )
    assert (done.stdout, done.stderr, done.returncode) == ("False\n", "", 0)
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_many_bars_and_one_bar(tmp_path: Path) -> None:
    many = compare({"abc": ABC}, {f"corpus {n}": [Row(b"ab")] for n in range(60)})
    plot(many, tmp_path / "many.svg")
    assert "2.000" not in texts(tmp_path / "many.svg")  # no room for figures on bars
    plot(compare({"abc": ABC}, {"one": [Row(b"ab")]}), tmp_path / "one.svg")
    assert "2.000" in texts(tmp_path / "one.svg")
