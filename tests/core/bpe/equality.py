"""The long form of test_families.py: every family against `tokenizers` on as many strings as asked.

    python -m tests.core.bpe.equality [STRINGS] [NAME...]

Strings are hostile ones and random code points, of another seed for each family and round; ids with special tokens
read and as plain text, and the text that the ids decode to. One line a family, its first differences, and at the end
how many differ; exit status 1 if any does.
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer as Theirs

from llmtool.core.bpe.huggingface import read_huggingface
from llmtool.tokenizer import Tokenizer
from tests.conftest import SCRIPTS
from tests.core.bpe.families import Facts, families
from tests.core.bpe.test_families import texts

ROUND = 2000


def differences(facts: Facts, seed: int, strings: int) -> list[str]:
    """The texts on which the two disagree."""
    theirs, ours = Theirs.from_str(json.dumps(facts)), Tokenizer(read_huggingface(facts, Path("x.json")))
    differing: list[str] = []
    for start in range(0, strings, ROUND):
        documents = texts(seed * 1_000_003 + start, min(ROUND, strings - start))
        wrong: set[int] = set()
        for allow in (True, False):
            theirs.encode_special_tokens = not allow
            ids = [encoding.ids for encoding in theirs.encode_batch(documents, add_special_tokens=False)]
            pairs = zip(ours.encode_batch(documents, allow_special=allow), ids, strict=True)
            wrong |= {place for place, (mine, others) in enumerate(pairs) if mine != others}
        decoded = zip(ours.decode_batch(ids), theirs.decode_batch(ids, skip_special_tokens=False), strict=True)
        wrong |= {place for place, (mine, others) in enumerate(decoded) if mine != others}
        differing += [documents[place] for place in sorted(wrong)]
    return differing


def main(arguments: list[str]) -> int:
    """Print the table."""
    strings = int(arguments[0]) if arguments else 100_000
    failed = number = 0
    for seed, (name, facts) in enumerate(families([*SCRIPTS, Path(__file__).read_text(encoding="utf-8")])):
        if arguments[1:] and name not in arguments[1:]:
            continue
        number += 1
        found = differences(facts, seed, strings)
        failed += bool(found)
        print(f"{name:40} {strings:>9,} strings   {len(found)} differ {found[:2] if found else ''}", flush=True)
    print(f"{number} families, {failed} with differences")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
