"""The one rule of where a command may write, and what is said of what stands there already."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtool.core.run.atomic import atomic_directory, atomic_files
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.figures import claim_figure, save_figure
from llmtool.core.run.manifest import Run, manifest_path
from llmtool.core.run.outputs import claim_directory, claim_file, refuse_overlap

INPUTS = [{"path": "in", "sha256": "x"}]


def make_run(kind: str = "", **config: object) -> Run:
    return Run("test make", config, list(INPUTS), kind=kind)


def write_file(output: Path, run: Run, *beside: Path, force: bool = False) -> None:
    claim_file(output, run, beside=beside, force=force)
    with atomic_files() as files:
        for place in (output, *beside):
            files.open(place).write(b"made")
        run.save(manifest_path(output), [output, *beside], files)


def write_directory(output: Path, run: Run, *, force: bool = False, content: str = "made") -> None:
    claim_directory(output, run, force=force)
    with atomic_directory(output) as work:
        (work / "weights").write_text(content)
        run.save(work / "run.json", [{"path": "weights", "bytes": len(content)}])


def tree(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


# Places: (input, output, what is said), made below a directory that holds `in/a.txt`, `in/deep/b.txt` and `free`.
OVERLAPS = [
    ("in/a.txt", "in/a.txt", "is also an input"),
    ("in/a.txt", "./in/../in/a.txt", "is also an input"),
    ("in/a.txt", "hard", "is also an input"),
    ("in/a.txt", "soft", "is also an input"),
    ("soft", "in/a.txt", "is also an input"),
    ("in", "in/out", "lies inside the input"),
    ("in/", "in/deep/out", "lies inside the input"),
    ("way", "in/out", "lies inside the input"),
    ("in", "way/out", "lies inside the input"),
    ("in", "in/deep/../out", "lies inside the input"),
    (".", "free/out", "lies inside the input"),
    ("in/a.txt", "in", "contains the input"),
    ("in/deep", "in", "contains the input"),
    ("in/deep", ".", "contains the input"),
    ("in/deep", "way", "contains the input"),
    ("way/deep/b.txt", "in/", "contains the input"),
    ("in", "in", "is also an input"),
    ("in", "way", "is also an input"),
    ("in/a.txt", "in/b.txt", None),
    ("in/deep", "in/deeper", None),
    ("in/deep", "in/out", None),
    ("missing", "free/out", None),
    ("-", "free/out", None),
    ("in/a.txt", "free/a.txt", None),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("in/a.txt", "in/deep/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("precious")
    (tmp_path / "free").mkdir()
    (tmp_path / "hard").hardlink_to(tmp_path / "in/a.txt")
    (tmp_path / "soft").symlink_to("in/a.txt")
    (tmp_path / "way").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("read", "output", "said"), OVERLAPS)
@pytest.mark.parametrize("absolute", [False, True])
def test_no_output_is_contains_or_lies_inside_an_input(
    place: Path, read: str, output: str, said: str | None, absolute: bool
) -> None:
    outputs = [place / output if absolute else Path(output)]
    if said is None:
        refuse_overlap(outputs, [read])
        return
    with pytest.raises(UserError, match=said):
        refuse_overlap(outputs, ["free", read])


def test_a_mount_is_the_place_that_it_shows(tmp_path: Path) -> None:
    """In a mount namespace of its own, where the machine allows one."""
    (tmp_path / "in").mkdir()
    (tmp_path / "shown").mkdir()
    code = (
        "import sys; from pathlib import Path; from llmtool.core.run.outputs import refuse_overlap\n"
        "refuse_overlap([Path('shown/out')], ['in'])"
    )
    script = f'mount --bind in shown && exec {sys.executable} -c "{code}"'
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    if "UserError" not in done.stderr and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert "lies inside the input in" in done.stderr


def test_what_stands_beside_an_output_counts(place: Path) -> None:
    output, beside = place / "free/x.bin", place / "free/x.bin.json"
    beside.write_text("a tokenizer in use")
    with pytest.raises(UserError, match=r"x\.bin\.json: is also an input"):
        claim_file(output, make_run(), read=[beside], beside=[beside], force=True)
    with pytest.raises(UserError, match="stands in the way"):
        claim_file(output, make_run(), beside=[beside], force=True)
    beside.rename(manifest_path(output))
    with pytest.raises(UserError, match=r"x\.bin\.run\.json: is also an input"):
        claim_file(output, make_run(), read=[manifest_path(output)], force=True)
    manifest_path(output).unlink()
    write_file(output, make_run(), beside)
    write_file(output, make_run(a=1), beside, force=True)  # ours by now
    output.unlink()
    write_file(output, make_run(), beside)
    with pytest.raises(UserError, match="two outputs"):
        refuse_overlap([place / "free/one", place / "free/../free/one"], [])


def test_force_replaces_only_files_of_ours(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.write_text("thesis")
    for force in (False, True):
        with pytest.raises(UserError, match=r"has no run\.json of llmtool"):
            write_file(output, make_run(), force=force)
    assert output.read_text() == "thesis"
    manifest_path(output).write_text('{"schema": "other"}')
    with pytest.raises(UserError, match=r"is not a run\.json of llmtool"):
        write_file(output, make_run(), force=True)
    output.unlink()
    with pytest.raises(UserError, match=r"is not a run\.json of llmtool"):
        write_file(output, make_run())
    manifest_path(output).unlink()
    output.touch()  # as mktemp leaves it: nothing to lose
    write_file(output, make_run())
    with pytest.raises(UserError, match=r"is a test make, made by `llmtool test make`, and --force .* its like"):
        write_file(output, Run("other", {}), force=True)


def test_force_replaces_only_directories_of_ours(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    write_directory(output, make_run("checkpoint"))  # an empty one is free
    (output / "__pycache__").mkdir()
    (output / "__pycache__/a.pyc").touch()
    write_directory(output, make_run("checkpoint", a=1), force=True, content="new")
    assert (output / "weights").read_text() == "new"
    with pytest.raises(UserError, match="is a checkpoint, made by"):
        write_directory(output, make_run("export"), force=True)
    for name in ("thesis.txt", "deep/thesis.txt", "link"):
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).symlink_to(tmp_path) if name == "link" else (output / name).write_text("precious")
        before = tree(output)
        with pytest.raises(UserError, match=rf"holds '{name}', which its run.json does not name"):
            write_directory(output, make_run("checkpoint"), force=True)
        assert tree(output) == before
        (output / name).unlink()
    (output / "run.json").unlink()
    for force in (False, True):
        with pytest.raises(UserError, match=r"has no run\.json"):
            write_directory(output, make_run("checkpoint"), force=force)
    with pytest.raises(UserError, match="not a directory"):
        write_directory(output / "weights", make_run("checkpoint"), force=True)


Write = Callable[..., None]


@pytest.mark.parametrize("write", [write_file, write_directory])
def test_complete_already_is_success(tmp_path: Path, write: Write) -> None:
    output = tmp_path / "out"
    write(output, make_run(tokens="100K"))
    with pytest.raises(CompleteError, match="out: complete already, nothing to do"):
        write(output, make_run(tokens="100K"))
    with pytest.raises(UserError, match="other settings: --tokens: 100K -> 200K") as refused:
        write(output, make_run(tokens="200K"))
    assert not isinstance(refused.value, CompleteError)
    INPUTS[0]["sha256"] = "y"
    try:
        with pytest.raises(UserError, match="the inputs' content"):
            write(output, make_run(tokens="100K"))
    finally:
        INPUTS[0]["sha256"] = "x"
    with pytest.raises(UserError, match="made by `llmtool test make`"):
        write(output, Run("other", {}))
    held = output / "weights" if output.is_dir() else output
    held.write_text("mad")
    with pytest.raises(UserError, match=r"is not whole: 3 bytes, and run\.json says 4"):
        write(output, make_run(tokens="100K"))


def test_figures_bear_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    figure = tmp_path / "a.png"
    figure.write_bytes(b"\x89PNG\r\n\x1a\n a photograph")
    for force in (False, True):
        with pytest.raises(UserError, match="is no figure of llmtool"):
            claim_figure(figure, force=force)
    figure.unlink()
    from matplotlib.figure import Figure

    for path in (figure, tmp_path / "a.svg", tmp_path / "a.pdf"):
        monkeypatch.setattr(sys, "argv", ["llmtool", "draw", "it"])
        save_figure(Figure(figsize=(1, 1)), path)
        before = path.read_bytes()
        monkeypatch.setattr(sys, "argv", ["elsewhere/llmtool", "draw", "it", "--force"])
        claim_figure(path, force=False)  # the same command
        save_figure(Figure(figsize=(1, 1)), path)
        assert path.read_bytes() == before
        monkeypatch.setattr(sys, "argv", ["llmtool", "draw", "another"])
        claim_figure(path, force=True)
        with pytest.raises(UserError, match="exists already"):
            claim_figure(path)
    with pytest.raises(UserError, match="is also an input"):
        claim_figure(figure, read=[figure])


def test_streams_have_no_manifest(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.core.run.test_outputs import write_file, make_run\n"
        "write_file(Path(sys.argv[1]), make_run())"
    )
    for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        log = tmp_path / "log"
        log.write_bytes(b"before ")
        with log.open("ab") as out:
            subprocess.run([sys.executable, "-c", code, name], stdout=out, check=True)
        assert log.read_bytes() == b"before made"  # appended to, as the shell was told
        piped = subprocess.run([sys.executable, "-c", code, name], capture_output=True, check=True)
        assert piped.stdout == b"made"
        with log.open("ab") as out:
            refused = subprocess.run(
                [sys.executable, "-c", code.replace("write_file(", "claim_file(").replace(
                    "write_file,", "claim_file,").replace("())", f"(), read=[{str(log)!r}])"), name],
                stdout=out, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert "is also an input" in refused.stderr
    assert os.listdir(tmp_path) == ["log"]
    write_file(Path("/dev/null"), make_run())


def test_a_run_of_before_an_option_was_there_had_its_default(tmp_path: Path) -> None:
    output = tmp_path / "out"
    write_file(output, make_run(lr=0.1))
    now = make_run(lr=0.1, only=[])
    with pytest.raises(UserError, match="--only: not given -> none"):
        claim_file(output, now)
    now.defaults = {"only": (), "lr": 1.0}
    with pytest.raises(CompleteError):
        claim_file(output, now)
    now.config["only"] = ["a"]
    with pytest.raises(UserError, match="--only: none -> a"):
        claim_file(output, now)


@pytest.mark.parametrize("held", ["my notes", "[1]", '{"schema": "other"}', ""])
def test_what_is_no_manifest_of_ours_stays_where_one_would_stand(tmp_path: Path, held: str) -> None:
    (tmp_path / "out.run.json").write_text(held)
    with pytest.raises(UserError, match=r"is not a run\.json of llmtool .*move it away, or write elsewhere\)$"):
        claim_file(tmp_path / "out", make_run())
    assert (tmp_path / "out.run.json").read_text() == held
