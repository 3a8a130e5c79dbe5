"""`llmtool bench tokenizer` from a source tree: python benchmarks/tokenizer.py CORPUS.jsonl [options]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from llmtool.__main__ import main

if __name__ == "__main__":
    sys.argv[1:1] = ["bench", "tokenizer"]
    main()
