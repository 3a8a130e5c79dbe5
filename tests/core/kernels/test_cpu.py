"""What the CPU says of itself, and how many threads are used beside other work."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from llmtool import load_model
from llmtool.core.kernels import cpu
from llmtool.core.run.errors import UserError


@pytest.mark.parametrize(
    "text, bf16, fp16",
    [
        ("flags\t\t: fpu avx2 avx512f\n", False, False),
        ("flags\t\t: fpu avx512_bf16\n", True, False),
        ("Features\t: fp asimd asimdhp bf16\n", True, True),
        ("no such line\n", True, True),
    ],
)
def test_element_types_with_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, bf16: bool, fp16: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    cpu.flags.cache_clear()
    try:
        assert (cpu.has_instructions(torch.bfloat16), cpu.has_instructions(torch.float16)) == (bf16, fp16)
        assert cpu.has_instructions(torch.float32)
    finally:
        cpu.flags.cache_clear()


def test_a_stored_type_without_instructions_is_computed_in_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    from llmtool.commands.convert.copy import copy_checkpoint
    from llmtool.core.run.console import Console
    from tests.core.model.families import save

    copy_checkpoint(save(tmp_path / "f", "llama3"), path := tmp_path / "m", dtype="bf16", max_shard_size=10**9,
                    console=Console(-1))  # fmt: skip
    monkeypatch.setattr(cpu, "flags", lambda: frozenset({"avx2"}))
    model = load_model(path)
    assert model.decoder.lm_head.weight.dtype == torch.float32
    assert model.note == "m: stored as bf16, computed in fp32: this CPU has no instructions for it"
    asked = load_model(path, "bf16")
    assert (asked.decoder.lm_head.weight.dtype, asked.note) == (torch.bfloat16, "")
    monkeypatch.setattr(cpu, "flags", lambda: frozenset({"avx512_bf16"}))
    assert load_model(path).decoder.lm_head.weight.dtype == torch.bfloat16


def test_threads_leave_cores_to_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [cpu.free_threads(8, load) for load in (0.0, 0.4, 3.2, 7.9, 20.0)] == [8, 8, 5, 1, 1]
    assert cpu.free_threads(2, 0.0) == 2
    before = torch.get_num_threads()
    try:
        assert cpu.use_threads(1) == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(UserError, match="--threads 0"):
        cpu.use_threads(0)
