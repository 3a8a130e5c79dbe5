"""States of training on the disk: a changed bit is told, and the state before is taken."""

import errno
import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from llmtool.core.run.console import Console  # noqa: E402
from llmtool.core.run.errors import UserError  # noqa: E402
from llmtool.core.run.seal import sealed  # noqa: E402
from llmtool.core.train import state  # noqa: E402
from llmtool.core.train.state import SCHEMA, STATE, Checkpoints, checksums, damage, files_of, reason_of  # noqa: E402
from llmtool.core.train.world import World  # noqa: E402


def make(output: Path, step: int) -> Path:
    folder = output / "checkpoints" / f"{step:08}"
    folder.mkdir(parents=True)
    (folder / "shard-00001.safetensors").write_bytes(random.Random(step).randbytes(2000))
    facts = {"schema": SCHEMA, "step": step, "seconds": 1.5, "mean": 2.25, "terms": {}, "processes": 1}
    (folder / STATE).write_text(sealed({**facts, "files": checksums(folder)}))
    return folder


def test_a_flipped_bit_is_told_and_the_state_before_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = Checkpoints(tmp_path, World())
    assert states.latest(Console()) is None
    first, second = make(tmp_path, 10), make(tmp_path, 20)
    (tmp_path / "checkpoints" / "²").mkdir()
    assert damage(first) is damage(second) is None
    rng = random.Random(0)
    for name in ("shard-00001.safetensors", STATE):
        whole = (second / name).read_bytes()
        for _ in range(100):
            data = bytearray(whole)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            (second / name).write_bytes(data)
            assert damage(second) is not None
        (second / name).write_bytes(whole[:-2])
        assert damage(second) is not None
        (second / name).write_bytes(whole)
    assert states.latest(Console()) == second
    (second / "shard-00001.safetensors").unlink()
    assert states.latest(Console()) == first
    said = capsys.readouterr().err
    assert "00000020: shard-00001.safetensors is missing; the state before is taken" in said
    assert not second.exists()
    (first / STATE).write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=r"no state is whole.*--force"):
        states.latest(Console())


def test_a_state_is_cut_into_files_and_read_back(tmp_path: Path) -> None:
    world = World()
    values = {f"model/{n}": torch.randn(n % 5 + 1, 8) for n in range(20)} | {"random/0": torch.get_rng_state()}
    assert set(files_of(values, world).values()) == {1}
    places = files_of(values, world, most=200)
    assert places["random/0"] == 1
    sizes = [
        sum(values[name].nbytes for name in values if places[name] == number and "random" not in name)
        for number in range(1, max(places.values()) + 1)
    ]
    assert all(0 < size <= 200 for size in sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "files_of", lambda values, world: files_of(values, world, 200))
        state._save_tensors(values, tmp_path, world)
    assert len(list(tmp_path.glob("*.safetensors"))) == max(places.values()) > 5
    found = {name: torch.zeros_like(value) for name, value in values.items()}
    state._load_tensors(found, tmp_path, world)
    assert all(found[name].equal(values[name]) for name in values)


def test_the_disk_s_reason_is_found_wherever_it_was_put() -> None:
    from torch.distributed.checkpoint.api import CheckpointException

    broken = OSError(errno.EIO, "Input/output error")
    inside = RuntimeError("wrapped")
    inside.__cause__ = broken
    rust = ValueError("Error while serializing: I/O error: Input/output error (os error 5)")
    of_processes = CheckpointException("write", {1: (inside, None)})  # type: ignore[dict-item]
    for error in (broken, inside, rust, of_processes):
        assert reason_of(error) == "input/output error"
    assert reason_of(CheckpointException("write", {0: (ValueError("a shape"), None)})) is None  # type: ignore[dict-item]
