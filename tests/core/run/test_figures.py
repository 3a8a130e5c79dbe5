"""Figures of files whose names are no text."""

import os
from pathlib import Path

import pytest

from llmtool.core.run.figures import save_figure

NAME = os.fsdecode(b"d\xe4ta")


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_name_that_is_not_utf_8_is_spelled_out(kind: str, tmp_path: Path) -> None:
    """A training ended in a traceback behind its last step, and its run could not be finished."""
    figures = pytest.importorskip("matplotlib.figure")
    sheet = figures.Figure(layout="constrained")
    axes = sheet.add_subplot(title=NAME)
    axes.plot([0, 1], [0, 1], label=NAME)
    axes.set_xticks([0, 1], [NAME, "b"])
    axes.legend()
    save_figure(sheet, tmp_path / f"figure.{kind}")
    assert (tmp_path / f"figure.{kind}").stat().st_size > 1000
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert [axes.get_title(), *labels] == ["d\\udce4ta", "d\\udce4ta", "b"]
