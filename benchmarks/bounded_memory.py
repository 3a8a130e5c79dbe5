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
    """About `size` bytes: blocks of known words by Zipf's law, each block with 400 words that are new and a number."""
    draw = random.Random(0)
    known = words(draw, 50_000)
    held = 0
    with path.open("wb") as file:
        while held < size:
            weights = list(accumulate(1 / rank for rank in range(1, 50_001)))
            drawn = draw.choices(known[:50_000], cum_weights=weights, k=BLOCK_WORDS)
            fresh = words(draw, 400)
            for number, word in enumerate(fresh):
                drawn[draw.randrange(BLOCK_WORDS)] = word
                drawn[number * 50] = f"{draw.randrange(10**6)}.\n"
            known[draw.randrange(50_000)] = fresh[0]
            block = " ".join(drawn).encode()
            # The same words in other orders: what is slow here is Python, and order is nothing to the counter.
            for _ in range(8):
                draw.shuffle(drawn)
                block += b"\n" + " ".join(drawn).encode()
            held += file.write(block + b"\n")


def trained(path: Path, options: argparse.Namespace, directory: Path) -> tuple[float, float, int, int]:
    """(wall s, CPU s, peak RSS in bytes, most bytes of spilled runs seen) of one training."""
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
    most = 0
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        most = max(most, sum(size_of(file) for file in spill.rglob("*")))
        if ended:
            break
        time.sleep(0.2)
    if status:
        sys.exit(log.read_text())
    shutil.rmtree(spill)
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10, most


def size_of(file: Path) -> int:
    """Bytes on disk; 0 of what is gone meanwhile."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


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
    print("| text, GB | wall s | CPU s | CPU s a GB | peak MB | spilled at once, MB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.directory) as held:
        directory = Path(held)
        for size in options.sizes:
            write_text(directory / "text", round(size * 1e9))
            wall, cpu, peak, spilled = trained(directory / "text", options, directory)
            cells = f"{wall:.0f} | {cpu:.0f} | {cpu / size:.0f} | {peak / 1e6:.0f} | {spilled / 1e6:.0f}"
            print(f"| {size:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
