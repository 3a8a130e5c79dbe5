"""Training keeps within --max-memory: the system refuses it any more, and it makes the same merges."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llmtool.core.bpe._engine", reason="the portable engine keeps all counts in memory")

CODE = """
import random, resource, sys
from llmtool.core.bpe import _engine

budget, room, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng, letters = random.Random(0), bytes.maketrans(b"0123456789", b"ghijklmnop")
texts = [b" ".join(rng.randbytes(6).hex().encode().translate(letters) for _ in range(10_000)) for _ in range(15)]
counter = _engine.PieceCounter("llama3", 1, budget, directory)
with open("/proc/self/status") as status:
    held = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (held + room, held + room))  # counts no mapped files
for text in texts:
    counter.add(text, len(text).to_bytes(8, "little"))
print(_engine.train(counter, "bpe", 1000, 0, 1024, bytes(range(256))).merges.hex())
"""


def trained(directory: Path, budget: int, room: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CODE, str(budget), str(room), str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc: what is held cannot be told")
def test_what_grows_with_the_text_keeps_within_the_bound(tmp_path: Path) -> None:
    """150,000 distinct pieces take 13 MB to count and 47 to train on."""
    free = trained(tmp_path, 0, 1 << 30)
    assert free.returncode == 0, free.stderr
    assert "MemoryError" in trained(tmp_path, 0, 40 << 20).stderr
    for budget in (4 << 20, 16 << 20):
        held = trained(tmp_path, budget, budget)
        assert held.stdout == free.stdout, held.stderr
    assert list(tmp_path.iterdir()) == []
