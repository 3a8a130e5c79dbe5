"""`llmtool convert` as a process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_app import HEAVY, run
from tests.core.checkpoint.files import SHAPES, write_zeros


def test_inspect(tmp_path: Path) -> None:
    path = write_zeros(tmp_path / "m", SHAPES, vocab_size=33)
    done = run("convert", "inspect", path, "--json", "--context", "10")
    facts = json.loads(done.stdout)
    assert (facts["schema"], facts["at_context"]["positions"]) == ("llmtool.convert-inspect/1", 10)
    assert b"warning: " in done.stderr
    assert b"vocab_size 33" in done.stderr
    assert b"0-1" in run("convert", "inspect", path).stdout
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    done = run("convert", "inspect", path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"pytorch_model.bin is a pickle" in done.stderr


@pytest.mark.parametrize(
    "command",
    [["inspect", "CKPT"], ["inspect", "CKPT", "--json"], ["copy", "--help"], ["export", "--help"], ["--help"]],
)
def test_headers_and_help_need_nothing_heavy(tmp_path: Path, command: list[str]) -> None:
    path = write_zeros(tmp_path / "m", SHAPES)
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['llmtool', 'convert', *{[str(path) if word == 'CKPT' else word for word in command]!r}]\n"
        "try: runpy.run_module('llmtool', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_copy(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path, out = write_zeros(tmp_path / "m", SHAPES), tmp_path / "out"
    arguments = ("convert", "copy", path, out, "--dtype", "bf16", "--max-shard-size", "1kB")
    plan = json.loads(run(*arguments, "--dry-run", "--json").stdout)
    assert not out.exists()
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    facts = json.loads(run("convert", "inspect", out, "--json").stdout)
    assert facts["elements"] == {"BF16": report["parameters"]}
    assert facts["bytes"] == plan["bytes"] == 2 * report["parameters"]
    assert facts["files"] == len(report["shards"]) > 1
    again = run(*arguments)
    assert (again.returncode, b"complete already, nothing to do" in again.stderr) == (0, True)
    assert run(*arguments, "--force", "-q").stderr == b""


def test_old_buffers_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    old = {**SHAPES, "model.layers.0.self_attn.rotary_emb.inv_freq": (1,)}
    done = run("convert", "copy", write_zeros(tmp_path / "old", old), tmp_path / "out", "--json")
    assert b"left out: 1 rotary_emb.inv_freq buffers" in done.stderr
    assert json.loads(done.stdout)["tensors"] == len(SHAPES)
