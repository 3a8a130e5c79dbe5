"""`python -m tests.hostile`: the long form; a line a reader, with the first case of everything that went wrong."""

import argparse
import sys

from tests.hostile.harness import run_all

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("names", nargs="*", help="readers; all of them if none is named")
parser.add_argument("--tries", type=int, help="cases of each reader, fewer where one takes long")
parser.add_argument(
    "--seconds", type=float, default=60, help="of processor time for each reader, if no tries are given"
)
parser.add_argument("--every-cut", action="store_true", help="small files also cut at every byte")
asked = parser.parse_args()
failed, cases, seconds = False, 0, 0.0
for found in run_all(asked.names, asked.tries, asked.seconds, asked.every_cut):
    print(f"{found.name}: {found.cases:,} cases, {found.taken:,} taken, {found.seconds:.1f} s", flush=True)
    for what, first in found.wrong.items():
        print(f"    {first}: {what}", flush=True)
    failed, cases, seconds = failed or bool(found.wrong), cases + found.cases, seconds + found.seconds
print(f"{cases:,} cases, {seconds:,.0f} s of processor time")
sys.exit(failed)
