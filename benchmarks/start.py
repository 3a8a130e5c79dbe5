"""What a start of the command line costs: CPU milliseconds, medians over turns in which every command runs once.

    python benchmarks/start.py [TURNS] [CHECKPOINT]

A 32K vocabulary is trained on Python's own sources; encoding a line with it is compared with `tokenizers` from Python.
With a checkpoint (a directory with a tokenizer.json) the same with its tokenizer, and `convert inspect`.
"""

import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from statistics import median

PEER = "from tokenizers import Tokenizer; print(Tokenizer.from_file({file!r}).encode('hello world').ids)"
WITHOUT: dict[str, str] = {"LLMTOOL_CACHE": "off"}
WITH: dict[str, str] = {}


def cpu(command: list[str], environment: dict[str, str]) -> float:
    """Milliseconds of user and system time that a command takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main(turns: int, checkpoint: str | None) -> None:
    """Print the table."""
    llmtool = [sys.executable, "-m", "llmtool"]
    with tempfile.TemporaryDirectory() as directory:
        os.environ["LLMTOOL_CACHE"] = f"{directory}/cache"
        # As installed by pip: compiled. An editable install where nothing may be written compiles at every start.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{directory}/compiled"
        tok, export, line = (str(Path(directory) / name) for name in ("tok.json", "export", "line.txt"))
        Path(line).write_text("hello world\n")
        sources = sysconfig.get_path("stdlib")
        subprocess.run(
            [*llmtool, "tokenizer", "train", sources, "--include", "*.py", "--vocab-size", "32K", "-o", tok], check=True
        )
        subprocess.run([*llmtool, "tokenizer", "export", tok, export], check=True)
        peer = [sys.executable, "-c", PEER.format(file=f"{export}/tokenizer.json")]
        encode = [*llmtool, "tokenizer", "encode", export, line]
        commands = {
            "python": ([sys.executable, "-c", "pass"], WITH),
            "llmtool --help": ([*llmtool, "--help"], WITH),
            "encode a line, 32K tokens": (encode, WITH),
            "the same, not in the cache": (encode, WITHOUT),
            "tokenizers, from Python": (peer, WITH),
        }
        if checkpoint:
            theirs = [sys.executable, "-c", PEER.format(file=f"{checkpoint}/tokenizer.json")]
            commands |= {
                "convert inspect": ([*llmtool, "convert", "inspect", checkpoint], WITH),
                "encode a line, CHECKPOINT": ([*llmtool, "tokenizer", "encode", checkpoint, line], WITH),
                "tokenizers, CHECKPOINT": (theirs, WITH),
            }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(turns + 1):
            for name, (command, environment) in commands.items():
                took = cpu(command, environment)
                if turn:  # the first one compiles and fills the cache
                    taken[name].append(took)
    medians = {name: median(times) for name, times in taken.items()}
    for name, took in medians.items():
        peer_took = medians["tokenizers, CHECKPOINT" if "CHECKPOINT" in name else "tokenizers, from Python"]
        ratio = f"{took / peer_took:5.2f}x of tokenizers" if "encode" in name or "same" in name else ""
        print(f"{name:28} {took:6.0f} ms   {ratio}".rstrip())


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 9, given[1] if len(given) > 1 else None)
