"""The site: every page is in it, every link and anchor leads somewhere, every name of the API is there; built where
mkdocs is installed. The commands of docs/ci.md run, and their gates close."""

import importlib
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.transcript import differences, run, steps

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def anchors(path: Path) -> set[str]:
    """Anchors of the headings, as GitHub and mkdocs make them of plain words."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", head)).strip().lower()) for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_anchors_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        assert anchor in anchors(page.parent / target if target else page), f"{target}#{anchor}"


def test_every_page_is_in_the_site() -> None:
    named = set(re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]))
    made = {"index.md", "CONTRIBUTING.md", "CHANGELOG.md"}
    pages = {str(page.relative_to(DOCS)) for page in PAGES}  # docs/site.py adds those of methods and results itself
    assert named == {page for page in pages if not page.startswith(("methods/", "results/"))} | made


def test_every_name_of_the_api_is_there() -> None:
    names = [name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)]
    assert len(names) > 10
    for name in names:
        module, _, inner = name.rpartition(".")
        found = importlib.import_module(name) if find_spec(module) and not hasattr(
            importlib.import_module(module), inner) else getattr(importlib.import_module(module), inner)  # fmt: skip
        assert found.__doc__, name


@pytest.mark.skipif(not (find_spec("material") and find_spec("mkdocstrings")), reason="mkdocs-material is missing")
def test_the_site_builds(tmp_path: Path) -> None:
    words = ["-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "llmtool.tokenizer.Tokenizer" in (tmp_path / "site/api/tokenizer/index.html").read_text()
    pictures = [
        page.parent / source
        for page in (tmp_path / "site").rglob("*.html")
        for source in re.findall(r'<img[^>]* src="([^":]+)"', page.read_text())
    ]
    assert len(pictures) > 3
    assert not [picture for picture in pictures if not picture.is_file()]  # mkdocs does not look at them


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, held-out text, a log, and llmtool by its name, where the commands of docs/ci.md have run."""
    folder = tmp_path_factory.mktemp("ci")
    text = [path.read_text() for path in sorted((ROOT / "llmtool/core/run").glob("*.py"))]
    (folder / "corpus.txt").write_text("".join(text[1:]))
    (folder / "held-out.txt").write_text(text[0] + "".join(text[-2:]))
    rows = [{"step": 10 * n, "loss": 2.0 + 3 * (10 * n) ** -0.3, "lr": 1e-3} for n in range(1, 1201)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shim = folder / "bin" / "llmtool"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmtool "$@"\n')
    shim.chmod(0o755)
    done = shell("\n".join(BLOCKS), folder)
    assert done.returncode == 0, done.stderr
    return folder


def shell(script: str, place: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    words = ["bash", "-c", f"set -euo pipefail\n{script}"]
    return subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)


def test_the_first_session_prints_what_it_shows(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    todo = steps((DOCS / "first_session.md").read_text())
    work = tmp_path / "work"
    work.mkdir()
    said = differences(todo, run(todo, work, tmp_path / "log"))
    assert not said, "\n".join(said)


CI = (DOCS / "ci.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", CI, re.DOTALL | re.MULTILINE)


def test_the_commands_of_ci_run(shop: Path) -> None:
    comment = (shop / "comment.md").read_text()
    assert "held-out" in comment
    assert "final loss" in (shop / "forecast.md").read_text()
    page = (shop / "compare.html").read_text()
    assert page.count('class="cut"') == 4  # two texts by two tokenizers


def test_the_gates_close(shop: Path) -> None:
    baseline = json.loads((shop / "baseline.json").read_text())
    baseline["tokenizers"]["bpe"]["corpora"]["held-out"]["bytes_per_token"] *= 2
    (shop / "better.json").write_text(json.dumps(baseline))
    before = (shop / "comment.md").read_text()
    gates = BLOCKS[0].splitlines()[-1].replace("baseline.json", "better.json"), BLOCKS[1].replace("4.0", "2.0")
    for gate in gates:
        done = shell(f"{gate.strip()} --force", shop)
        assert done.returncode == 3, done.stderr
    assert (shop / "comment.md").read_text() != before


def test_the_workflow_runs_what_is_tested() -> None:
    workflow = CI.partition("```yaml\n")[2].partition("```")[0]
    used = [line.strip().removeprefix("run: ") for line in workflow.splitlines() if "llmtool " in line]
    tried = {line for block in BLOCKS for line in block.splitlines()}
    assert len(used) == 5
    assert set(used) <= tried


def test_the_training_scripts_are_scripts(shop: Path) -> None:
    """Slurm's and torchrun's: bash reads them, and what they give to llmtool is a plan it accepts."""
    text = (DOCS / "training.md").read_text()
    scripts = [
        block for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "torchrun" in block
    ]
    assert len(scripts) == 2
    (shop / "corpus.bin").write_bytes(bytes(range(250)) * 40)
    for script in scripts:
        assert shell(f"bash -n <<'END'\n{script}\nEND", shop).returncode == 0
        (command,) = re.findall(r"-m (llmtool train .*)", script)
        done = shell(f"{command} --bin-dtype uint16 --parallel none --device cpu --dry-run", shop)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["dry_run"]
