"""The sdist and the wheel: built from one another without isolation and without network, checked, and listed; the
Dockerfile linted. What needs a tool that is not installed is skipped by its name."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("build", "scikit_build_core", "nanobind")
needs_build = pytest.mark.skipif(not all(map(find_spec, TOOLS)), reason=f"one of {', '.join(TOOLS)} is missing")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dist/: the sdist of this checkout, and the wheel of what it holds. The engine is not compiled: that is a minute,
    and `make` does it for every other test."""
    out = tmp_path_factory.mktemp("dist")

    def build(*words: str) -> None:
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    build("--sdist", str(ROOT))
    (sdist,) = out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(out / "unpacked", filter="data")
    (folder,) = (out / "unpacked").iterdir()
    build("--wheel", "-C", "wheel.cmake=false", "-C", "wheel.py-api=py3", str(folder))
    return out


@needs_build
def test_the_sdist_holds_what_builds_the_engine(made: Path) -> None:
    (sdist,) = made.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    native = {str(path.relative_to(ROOT)) for path in (ROOT / "llmtool/core/bpe/native").rglob("*.[hc]pp")}
    assert native
    assert native | {"LICENSE", "README.md", "pyproject.toml", "llmtool/core/bpe/native/CMakeLists.txt"} <= names
    assert not [name for name in names if name.split("/")[0] in ("tests", "docs", "benchmarks", ".git", "build")]
    assert sdist.stat().st_size < 2e6


@needs_build
def test_the_wheel_holds_the_package_and_nothing_else(made: Path) -> None:
    (wheel,) = made.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "llmtool").rglob("*.py") if "native" not in path.parts}
    assert modules <= names
    other = {name for name in names if name.startswith("llmtool/")} - modules
    assert {Path(name).suffix for name in other} <= {".json", ".pyi", ".typed", ".txt", ".bash", ".zsh", ".fish", ".1"}
    assert {name.partition("/")[0].partition("-")[0].partition(".")[0] for name in names} == {"llmtool"}
    assert not [name for name in names if "/native/" in name or "tests" in name.split("/")]


@needs_build
@pytest.mark.skipif(find_spec("twine") is None, reason="twine is missing")
def test_twine_has_nothing_to_say(made: Path) -> None:
    files = [str(path) for path in (*made.glob("*.whl"), *made.glob("*.tar.gz"))]
    assert len(files) == 2
    words = [sys.executable, "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_wheels_are_for_both_architectures() -> None:
    how = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    assert how["linux"]["archs"] == ["x86_64", "aarch64"]
    assert how["environment"]["LLMTOOL_REQUIRE_NATIVE"] == "1"


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is missing")
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_copies_what_is_there() -> None:
    """And what the wheel's build reads: a file that it lacks would fail where nobody looks."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]]
    assert {"pyproject.toml", "README.md", "LICENSE", "llmtool", "constraints.txt"} == set(copied)
    assert all((ROOT / name).exists() for name in copied)
