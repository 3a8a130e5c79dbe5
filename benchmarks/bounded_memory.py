"""Training a tokenizer in bounded memory: time, peak and spilled bytes over growing text.

    python benchmarks/bounded_memory.py 0.25 0.5 1 2 --max-memory 256M --vocab-size 32768

For each size in GB text is made (words by Zipf's law, new words as long as it goes on, numbers, three scripts) and
trained on in a process of its own. What must be seen: the peak stays where it is, and time goes in proportion. Sizes
share their beginning, so a size that is twice another holds that text and as much more. The text is removed again.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path

ALPHABETS = ("abcdefghijklmnoprstuvwz", "абвгдежзиклмнопрстуфхчш", "αβγδεζηθικλμνξοπρστυφχψω")
BLOCK_WORDS = 20_000


def words(draw: random.Random, count: int) -> list[str]:
    """New words of 2 to 12 letters, two thirds of them Latin."""
    return [
        "".join(draw.choices(ALPHABETS[max(0, draw.randrange(6) - 3)], k=draw.randrange(2, 13))) for _ in range(count)
    ]


def write_text(path: Path, size: int) -> None:
    """About `size` bytes: words by Zipf's law, among them words that are new, ever fewer (Heaps), and numbers.

    Each block stands eight times: what is slow here is Python.
    """
    draw = random.Random(0)
    known = words(draw, 50_000)
    weights = list(accumulate(1 / rank for rank in range(1, 50_001)))
    held = blocks = 0
    with path.open("wb") as file:
        while held < size:
            blocks += 1
            drawn = draw.choices(known, cum_weights=weights, k=BLOCK_WORDS)
            fresh = words(draw, round(10_000 / blocks**0.5))
            for place, word in zip(draw.sample(range(BLOCK_WORDS), len(fresh)), fresh, strict=True):
                drawn[place] = word
            for _ in range(400):
                drawn[draw.randrange(BLOCK_WORDS)] = f"{draw.randrange(10**6)}.\n"
            known[draw.randrange(50_000)] = fresh[0]
            held += file.write(b" ".join([" ".join(drawn).encode()] * 8) + b"\n")


def trained(path: Path, options: argparse.Namespace, directory: Path) -> tuple[float, float, int, int, int]:
    """(wall s, CPU s, peak RSS, most of it that is no file's, most bytes of spilled runs: in bytes) of one training."""
    spill, log = directory / "spill", directory / "log"
    spill.mkdir()
    command = [
        sys.executable, "-m", "llmtool", "tokenizer", "train", str(path), "--vocab-size", str(options.vocab_size),
        "--max-memory", options.max_memory, "--threads", str(options.threads), "--force",
        "-o", str(directory / "t.json"),
    ]  # fmt: skip
    begun = time.monotonic()
    child = os.fork()
    if not child:
        os.environ["TMPDIR"] = str(spill)
        errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 2)
        os.execv(sys.executable, command)
    anonymous = spilled = 0
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
        anonymous, spilled = max(anonymous, own_memory(child)), max(spilled, spilled_bytes(child, spill))
        time.sleep(0.1)
    if status:
        sys.exit(log.read_text())
    shutil.rmtree(spill)
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10, anonymous, spilled


def own_memory(process: int) -> int:
    """Bytes of a process that the system cannot take back: those of mapped files it can."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def spilled_bytes(process: int, directory: Path) -> int:
    """Bytes of the runs that a process has open in a directory; they have no names."""
    size = 0
    try:
        for link in Path(f"/proc/{process}/fd").iterdir():
            if directory in link.readlink().parents:
                size += link.stat().st_size
    except OSError:  # closed meanwhile
        pass
    return size


def main() -> None:
    """Print a table in Markdown, a row a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="+", type=float, metavar="GB")
    parser.add_argument("--max-memory", default="256M")
    parser.add_argument("--vocab-size", type=int, default=32_768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--directory", type=Path, help="where the text is made (default: the system's own)")
    options = parser.parse_args()
    print(f"--max-memory {options.max_memory}, --vocab-size {options.vocab_size:,}, {options.threads} threads\n")
    print("| text, GB | wall s | CPU s | CPU s a GB | peak MB | of it no file's | spilled MB |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.directory) as held:
        directory = Path(held)
        for size in options.sizes:
            write_text(directory / "text", round(size * 1e9))
            wall, cpu, *memory = trained(directory / "text", options, directory)
            cells = " | ".join([f"{wall:.0f}", f"{cpu:.1f}", f"{cpu / size:.0f}", *(f"{n / 1e6:.0f}" for n in memory)])
            print(f"| {size:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
