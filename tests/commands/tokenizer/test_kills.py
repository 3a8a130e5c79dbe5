"""`encode --shards` killed again and again over every form of a corpus: the bytes of an undisturbed run.

LLMTOOL_KILLS=20 kills so often.
"""

import gzip
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from shutil import rmtree

import pytest
import zstandard

from llmtool import Tokenizer

KILLS = int(os.environ.get("LLMTOOL_KILLS", "5"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_kills_over_every_form(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    draw = random.Random(0)
    words = [f"word{number}" for number in range(500)]
    texts = [" ".join(draw.choices(words, k=draw.randrange(120))) for _ in range(2000)]
    rows = [json.dumps({"text": text}).encode() + b"\n" for text in texts]
    frames = [b"".join(rows[at : at + 200]) for at in range(0, len(rows), 200)]
    (tmp_path / "a.jsonl").write_bytes(b"".join(rows))
    (tmp_path / "b.jsonl.gz").write_bytes(b"".join(gzip.compress(frame) for frame in frames))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b"".join(rows)))  # one member: one reader
    (tmp_path / "d.jsonl.zst").write_bytes(b"".join(zstandard.compress(frame) for frame in frames))
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "e.parquet", row_group_size=200)
    (tmp_path / "f.txt").write_text("\n".join(texts))  # one long document
    names = sorted(str(path) for path in tmp_path.iterdir())
    Tokenizer.train([tmp_path / "a.jsonl"], 700, special=["<|endoftext|>"]).save(tmp_path / "tok.json")
    code = [sys.executable, "-m", "llmtool", "tokenizer", "encode", str(tmp_path / "tok.json"), *names, "-q"]
    code += ["--shards", "70K", "--eos", "--workers", "1", "-o"]
    subprocess.run([*code, str(tmp_path / "whole")], check=True)
    killed, kills = tmp_path / "killed", 0
    marked: dict[str, int] = {}  # finished shards, and when they were
    while True:
        process = subprocess.Popen([*code, str(killed)])
        before = len(list(killed.glob("*.done")))
        while process.poll() is None and (kills == KILLS or len(list(killed.glob("*.done"))) <= before):
            time.sleep(0.001)
        if process.poll() is None:
            process.kill()
            kills += 1
        if not process.wait():
            if kills >= min(KILLS, 3):
                break
            rmtree(killed)  # this process was not let run for long: from the start again
            marked.clear()
            kills = 0
        for path in killed.glob("*.done"):
            assert marked.setdefault(path.name, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    print(f"{kills} kills, {len(marked)} of {len(list(killed.glob('*.done')))} shards stood when killed")

    def files(directory: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "run.json"}

    assert files(killed) == files(tmp_path / "whole")
    assert not [path for path in killed.iterdir() if path.name.startswith(".")]
