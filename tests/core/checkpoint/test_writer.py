"""What is written is read by others, appears whole or not at all, and takes the memory of one tensor."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtool.core.checkpoint import shards
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.checkpoint.writer import Written, write_checkpoint
from llmtool.core.run.errors import CompleteError, UserError
from llmtool.core.run.manifest import Run
from tests.core.checkpoint.files import CONFIG, SHAPES, write_zeros

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

TYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


def randoms(shapes: dict[str, tuple[int, ...]] = SHAPES) -> Iterator[tuple[str, Any]]:
    generator = torch.Generator().manual_seed(7)
    return ((name, torch.randn(shape, generator=generator)) for name, shape in shapes.items())


def write(path: Path, tensors: Any, **options: Any) -> Written:
    return write_checkpoint(path, tensors, CONFIG, **{"run": Run("test", {}), **options})


def officially(path: Path) -> dict[str, Any]:
    return {name: tensor for file in sorted(path.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def test_one_file(tmp_path: Path) -> None:
    written = write(tmp_path / "out", randoms())
    assert sorted(os.listdir(written.path)) == ["config.json", "model.safetensors", "run.json"]
    assert json.loads((written.path / "config.json").read_text()) == CONFIG
    assert (written.tensors, written.parameters) == (len(SHAPES), sum(t.numel() for _, t in randoms()))
    read = officially(written.path)
    assert set(read) == set(SHAPES)
    assert all(read[name].equal(tensor) for name, tensor in randoms())
    with safe_open(written.path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # transformers 4.x refuses files without
    content = (written.path / "model.safetensors").read_bytes()
    facts = {"path": "model.safetensors", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert json.loads((written.path / "run.json").read_text())["outputs"] == [facts, "config.json"]
    assert written.shards == (facts,)


def test_shards(tmp_path: Path) -> None:
    written = write(tmp_path / "out", randoms(), max_shard_size=2000)
    names = sorted(file.name for file in written.path.glob("*.safetensors"))
    number = len(names)
    assert number > 3
    assert names == [f"model-{i + 1:05}-of-{number:05}.safetensors" for i in range(number)]
    assert [shard["path"] for shard in written.shards] == names
    index = json.loads((written.path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * written.parameters
    checkpoint = open_checkpoint(written.path)
    assert checkpoint.names() == list(SHAPES)  # the order in which they came
    assert all(checkpoint.read(name).equal(tensor) for name, tensor in randoms())
    sizes = [sum(t.nbytes for t in load_file(written.path / name).values()) for name in names]
    assert all(size <= 2000 for size in sizes)
    for shard in written.shards:
        assert shard["sha256"] == hashlib.sha256((written.path / shard["path"]).read_bytes()).hexdigest()


def test_a_tensor_larger_than_a_shard_gets_one_of_its_own(tmp_path: Path) -> None:
    written = write(tmp_path / "out", randoms(), max_shard_size=1)
    assert len(written.shards) == len(SHAPES)


def test_a_header_that_would_not_fit_begins_a_new_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "HEADER_ROOM", 1024)
    written = write(tmp_path / "out", randoms())
    assert len(written.shards) > 1
    assert set(officially(written.path)) == set(SHAPES)
    assert open_checkpoint(written.path).names() == list(SHAPES)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 5), max_size=3)), min_size=1, max_size=12))
def test_any_mixture_of_types_is_read_by_others(tmp_path: Path, mixture: list[tuple[str, list[int]]]) -> None:
    tensors = {f"t{i}": torch.randn(shape).mul(9).to(getattr(torch, kind)) for i, (kind, shape) in enumerate(mixture)}
    written = write(tmp_path / "out", tensors.items(), force=True, max_shard_size=400)
    read = officially(written.path)
    assert read.keys() == tensors.keys()
    checkpoint = open_checkpoint(written.path)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].equal(tensor)
        assert checkpoint.read(name).equal(tensor)
        entry = checkpoint.entry(name)
        assert not entry.elements or entry.start % entry.kind.size == 0


@pytest.mark.parametrize("piece", [1 << 24, 16])
def test_conversion(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "PIECE", piece)
    tensors = {**dict(randoms()), "count": torch.tensor([3, 4])}
    for spelling, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp64", torch.float64)):
        written = write(tmp_path / spelling, tensors.items(), dtype=spelling)
        read = officially(written.path)
        assert all(read[name].equal(tensor.to(dtype)) for name, tensor in tensors.items() if name != "count")
        assert read["count"].equal(tensors["count"])
        config = json.loads((written.path / "config.json").read_text())
        assert config == {**CONFIG, "torch_dtype": str(dtype).removeprefix("torch.")}


@pytest.mark.parametrize("keys", [["dtype"], ["torch_dtype"], ["dtype", "torch_dtype"], []])
def test_the_type_is_said_in_the_spelling_of_the_config(tmp_path: Path, keys: list[str]) -> None:
    config = {"model_type": "llama", **dict.fromkeys(keys, "float32")}
    write_checkpoint(tmp_path / "out", randoms(), config, dtype="bf16", run=Run("test", {}))
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written == {"model_type": "llama", **dict.fromkeys(keys or ["torch_dtype"], "bfloat16")}


def test_views_are_written_as_they_look(tmp_path: Path) -> None:
    base = torch.arange(48.0).reshape(6, 8)
    views = {
        "columns": base[:, 2:6],
        "rows": base[1:3],
        "turned": base.T,
        "one": base[0, 0],
        "wide": base[:1].expand(4, 8),
    }
    parameters = {"parameter": torch.nn.Parameter(base)}
    read = officially(write(tmp_path / "out", {**views, **parameters}.items()).path)
    assert all(read[name].equal(view) for name, view in {**views, "parameter": base}.items())


def test_one_tensor_in_memory_at_a_time(tmp_path: Path) -> None:
    write(tmp_path / "in", randoms())
    alive: list[weakref.ref[Any]] = []

    def watched() -> Iterator[tuple[str, Any]]:
        checkpoint = open_checkpoint(tmp_path / "in")
        for name in checkpoint.names():
            assert not [reference for reference in alive if reference() is not None]
            tensor = checkpoint.read(name)
            alive.append(weakref.ref(tensor))
            yield name, tensor
            del tensor

    write(tmp_path / "out", watched(), max_shard_size=2000)
    assert len(alive) == len(SHAPES)


def test_reading_all_keeps_one_tensor(tmp_path: Path) -> None:
    """`tensors` itself holds nothing once its consumer has let go."""
    write(tmp_path / "in", randoms())
    before: weakref.ref[Any] | None = None
    checkpoint = open_checkpoint(tmp_path / "in")
    read = checkpoint.read

    def watched(name: str) -> Any:
        assert before is None or before() is None
        return read(name)

    checkpoint.read = watched  # type: ignore[assignment]
    for _, tensor in checkpoint.tensors():
        before = weakref.ref(tensor)
        del tensor


def test_what_cannot_be_written(tmp_path: Path) -> None:
    good = torch.zeros(8)
    for value, hint in ((float("nan"), "nothing was written"), (float("inf"), "nothing was written")):
        with pytest.raises(UserError, match=rf"b: 1 of 8 numbers are NaN or infinite, the first at \[0\] \({hint}\)"):
            write(tmp_path / "out", [("a", good), ("b", torch.tensor([value] + [0.0] * 7))])
    large = torch.tensor([1.0] * 7 + [70000.0])
    with pytest.raises(UserError, match=r"b: holds 70,000, and fp16 ends at 65,504 \(bf16 holds such numbers\)"):
        write(tmp_path / "out", [("b", large)], dtype="fp16")
    with pytest.raises(UserError, match="b: 1 of 8 numbers are NaN"):
        write(tmp_path / "out", [("b", torch.tensor([float("nan")] + [70000.0] * 7))], dtype="fp16")
    with pytest.raises(UserError, match=r"b holds quantized numbers \(F8_E4M3\) \(their scales"):
        write(tmp_path / "out", [("b", good.to(torch.float8_e4m3fn))], dtype="bf16")
    with pytest.raises(UserError, match="complex64 have no place"):
        write(tmp_path / "out", [("b", good.to(torch.complex64))])
    for tensors in ([("a", good), ("a", good)], [("__metadata__", good)], []):
        with pytest.raises(ValueError):
            write(tmp_path / "out", tensors)
    assert os.listdir(tmp_path) == []


def test_existing_directories(tmp_path: Path) -> None:
    source = open_checkpoint(write_zeros(tmp_path / "in", SHAPES))
    (tmp_path / "in" / "tokenizer.json").write_text("{}")
    (tmp_path / "in" / "generation_config.json").write_text("{}")

    def copy(settings: dict[str, Any], **options: Any) -> Written:
        return write(tmp_path / "out", source.tensors(), source=source, run=Run("copy", settings), **options)

    copy({"dtype": None}, files={"generation_config.json": b"ours", "extra/notes.txt": b"more"})
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert (tmp_path / "out" / "generation_config.json").read_text() == "ours"
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert facts["inputs"] == [source.fingerprint()]
    others = ["config.json", "extra/notes.txt", "generation_config.json", "tokenizer.json"]
    assert facts["outputs"][1:] == others
    with pytest.raises(CompleteError, match="complete already, nothing to do"):
        copy({"dtype": None})
    with pytest.raises(UserError, match="made with other settings: --dtype: not given -> bf16"):
        copy({"dtype": "bf16"})
    (tmp_path / "out" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match=r"holds 'thesis.txt', which its run\.json does not name"):
        copy({"dtype": None}, force=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "x"
    (tmp_path / "out" / "thesis.txt").unlink()
    copy({"dtype": "bf16"}, force=True)
    with pytest.raises(UserError, match="is also an input"):
        write(source.path, source.tensors(), source=source, force=True)
    with pytest.raises(UserError, match="exists already, made by `llmtool copy`"):
        write(tmp_path / "out", source.tensors(), source=source)
    (tmp_path / "out" / "run.json").unlink()
    for force in (False, True):
        with pytest.raises(UserError, match=r"no run\.json of llmtool"):
            copy({"dtype": None}, force=force)


@pytest.mark.parametrize("inner", ["sm", "deep/sm", "."])
def test_a_source_inside_the_output_is_never_replaced(tmp_path: Path, inner: str) -> None:
    place = tmp_path / "par" / inner
    source = open_checkpoint(write_zeros(place, SHAPES))
    (tmp_path / "par" / "thesis.txt").write_text("precious")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    said = "is also an input" if inner == "." else "contains the input"
    for force in (False, True):
        with pytest.raises(UserError, match=said):
            write(tmp_path / "par", source.tensors(), source=source, force=force)
        with pytest.raises(UserError, match="lies inside the input"):
            write(place / "out", source.tensors(), source=source, force=force)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_same_stream_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, randoms(), max_shard_size=3000)
    for file in (tmp_path / "a").iterdir():
        if file.name != "run.json":
            assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


KILLED = """
import os, signal, sys, torch
from llmtool.core.checkpoint.writer import write_checkpoint
from llmtool.core.run.manifest import Run

def tensors():
    for i in range(9):
        if i == 7:
            os.kill(os.getpid(), int(sys.argv[2]))
        yield f"t{i}", torch.zeros(1000)

write_checkpoint(sys.argv[1], tensors(), {}, run=Run("test", {}), max_shard_size=8000, force=True)
"""


@pytest.mark.parametrize("number, existing", [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGINT, True)])
def test_a_killed_write_leaves_no_half_checkpoint(tmp_path: Path, number: int, existing: bool) -> None:
    out = tmp_path / "out"
    if existing:
        write(out, randoms())
    command = [sys.executable, "-c", KILLED, str(out), str(int(number))]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -number
    visible = [name for name in os.listdir(tmp_path) if not name.startswith(".")]
    assert visible == (["out"] if existing else [])
    if existing:
        assert set(open_checkpoint(out).names()) == set(SHAPES)
    if number == signal.SIGINT:
        assert os.listdir(tmp_path) == visible
