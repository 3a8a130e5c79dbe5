"""`python -m tests.hostile`: the long form; a line a reader, with the first case of everything that went wrong.

python -m tests.hostile --cases 1000000 --jobs 2 [--from ROUND]     in rounds over all readers; each says where to go on
"""

import argparse
import sys
from math import ceil

from tests.hostile.harness import Outcome, cases_of_a_round, run_all, run_rounds
from tests.hostile.readers import READERS

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("names", nargs="*", help="readers; all of them if none is named")
parser.add_argument("--tries", type=int, help="cases of each reader, fewer where one takes long")
parser.add_argument(
    "--seconds", type=float, default=60, help="of processor time for each reader, if no tries are given"
)
parser.add_argument("--every-cut", action="store_true", help="small files also cut at every byte")
parser.add_argument("--cases", type=int, help="of all readers together, in rounds")
parser.add_argument("--jobs", type=int, default=1, help="processes that share the rounds")
parser.add_argument("--from", type=int, default=0, dest="first", metavar="ROUND", help="the first round")
asked = parser.parse_args()
failed, cases, seconds = False, 0, 0.0


def told(found: Outcome, of: str = "") -> None:
    """What went wrong, by reader, and the case that shows it."""
    for what, first in found.wrong.items():
        print(f"    {of}{first}: {what}", flush=True)


if asked.cases:
    named = [reader for reader in READERS if not asked.names or reader.name in asked.names]
    count = ceil(asked.cases / cases_of_a_round(named))
    for number, outcomes in run_rounds(asked.names, asked.first, count, asked.jobs):
        cases, seconds = cases + sum(each.cases for each in outcomes), seconds + sum(each.seconds for each in outcomes)
        print(f"round {number}: {cases:,} cases, {seconds:,.0f} s; goes on with --from {number + 1}", flush=True)
        for found in outcomes:
            told(found, f"{found.name}, ")
            failed = failed or bool(found.wrong)
    sys.exit(failed)
for found in run_all(asked.names, asked.tries, asked.seconds, asked.every_cut):
    print(f"{found.name}: {found.cases:,} cases, {found.taken:,} taken, {found.seconds:.1f} s", flush=True)
    told(found)
    failed, cases, seconds = failed or bool(found.wrong), cases + found.cases, seconds + found.seconds
print(f"{cases:,} cases, {seconds:,.0f} s of processor time")
sys.exit(failed)
