"""The README's commands run, in order, in an empty directory; its links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Fenced blocks of a language: `sh` and `python` are run; `bash` installs, which `make` does before any test."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_commands_run(tmp_path: Path) -> None:
    shim = tmp_path / "bin"
    shim.mkdir()
    (shim / "llmtool").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmtool "$@"\n')
    (shim / "llmtool").chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "PATH": f"{shim}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    script = "set -euxo pipefail\n" + "\n".join(blocks("sh"))
    done = subprocess.run(
        ["bash", "-c", script], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "def tokenize(self): raise NotImplementedError" in done.stdout.splitlines()
    assert {"train.bin", "train.idx", "compare.svg", "exported"} <= {path.name for path in work.iterdir()}
    for code in blocks("python"):
        subprocess.run([sys.executable, "-c", code], cwd=work, env=environment, check=True)


def test_installs_are_those_that_make_does() -> None:
    for line in "".join(blocks("bash")).splitlines():
        assert re.match(r"pip install -c constraints\.txt '?\.|make demo", line)


@pytest.mark.parametrize("document", ["README.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))])
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target
