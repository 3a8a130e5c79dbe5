"""Does an exported tokenizer do the same? A sample is encoded by those who will read the export, and compared.

A document counts as equal when its ids are equal, special tokens in the text included, and they decode to its text.
"""

import base64
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmtool.core.bpe.tokenizer import BaseTokenizer, Text
from llmtool.core.bpe.vocabulary import encode_text
from llmtool.core.run.errors import UserError

SAMPLE = (
    "The quick brown fox doesn't jump over 1234567 lazy dogs; it's 3.14 o'clock.\r\n\r\n\tWE'LL SEE...  ",
    'def f(x: int) -> str:\n    return f"{x!r}" * 2  # ===== ------ \n\n\n\tclass A_b2C3: pass\n',
    "Größe, naïve façade, Łódź; Ελληνικά, λόγος. Привет, как дела? Ёлка",
    "日本語のテキストと漢字、カタカナ。中文字符：床前明月光，疑是地上霜。한국어 문장입니다.",
    "हिन्दी में लिखा हुआ पाठ। ગુજરાતી લખાણ। தமிழ் உரை. ภาษาไทยไม่มีช่องว่าง",
    "العربية من اليمين إلى اليسار، עברית גם כן. ١٢٣٤٥ ۶۷۸ ⅷ ²³",
    "👩‍👩‍👧‍👦🏳️‍🌈 naïve e\u0301 ﬁ Å Å K \u00a0\u2003\u3000 \u200b\u2028 ''s 'S 'ſ",
    "Kiswahili ni lugha ya Kibantu. Euskara hizkuntza bat da. Tiếng Việt có dấu.",
    "",
    " ",
    "\n\n  \n",
    "a" * 300 + " " * 300 + "=" * 300,
)
"""A few lines in many scripts, with what pre-tokenizers disagree on: white space, digits, contractions, marks."""

WITH_TRANSFORMERS = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True, local_files_only=True)
ids = [tokenizer.encode(text, add_special_tokens=False) for text in json.load(sys.stdin)]
texts = [tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in ids]
sys.stdout.write("\\n" + json.dumps([ids, texts]))
"""

Encoded = tuple[list[list[int]], list[str]]
"""Ids of each document, and what they decode to."""


@dataclass(frozen=True)
class Check:
    """How one reader fared: equal of documents, or why it could not run."""

    reader: str
    documents: int = 0
    equal: int = 0
    skipped: str | None = None


@dataclass(frozen=True)
class Agreement:
    """How the readers of an export fared."""

    checks: tuple[Check, ...]

    @property
    def exact(self) -> bool:
        """At least one reader ran, and every document was equal for every reader that ran."""
        ran = [check for check in self.checks if check.skipped is None]
        return bool(ran) and all(check.equal == check.documents for check in ran)

    def lines(self) -> list[str]:
        """A line for each reader."""
        return [
            f"{check.reader}: not checked ({check.skipped})"
            if check.skipped
            else f"{check.reader}: {check.equal} of {check.documents} documents equal"
            + (", exact" if check.equal == check.documents else "")
            for check in self.checks
        ]


def agreement(tokenizer: BaseTokenizer, directory: Path, sample: Sequence[Text] | None = None) -> Agreement:
    """Compare an export with its source on a sample of documents, by default a few lines in many scripts.

    The readers are found by the files: `tokenizers` and `transformers`, or `tiktoken`. transformers runs as a process
    of its own: it loads the directory's code, and takes seconds to import.
    """
    documents = _documents(tokenizer, SAMPLE if sample is None else sample)
    wanted = tokenizer.encode_batch(documents, allow_special=True)
    texts = [tokenizer.decode(row) for row in wanted]
    checks = []
    for reader, encode in _readers(directory).items():
        if importlib.util.find_spec(reader) is None:
            checks.append(Check(reader, skipped=f"{reader} is not installed"))
            continue
        ids, decoded = encode(directory, documents)
        same = (a == b and c == d for a, b, c, d in zip(ids, wanted, decoded, texts, strict=True))
        checks.append(Check(reader, len(documents), sum(same)))
    return Agreement(tuple(checks))


def _documents(tokenizer: BaseTokenizer, sample: Sequence[Text]) -> list[str]:
    """Strings, as the readers take nothing else: what is no UTF-8 becomes U+FFFD. One more holds the special tokens."""
    data = [encode_text(text) if isinstance(text, str) else text for text in sample]
    special = "x".join(["", *tokenizer.special_tokens, " ", *tokenizer.special_tokens])
    return [*(text.decode("utf-8", "replace") for text in data), special]


def _readers(directory: Path) -> dict[str, Callable[[Path, list[str]], Encoded]]:
    if not (directory / "tokenizer.json").is_file():
        return {"tiktoken": _by_tiktoken}
    config = json.loads((directory / "tokenizer_config.json").read_bytes())
    stock = {} if "auto_map" in config else {"tokenizers": _by_tokenizers}
    return {**stock, "transformers": _by_transformers}


def _by_tokenizers(directory: Path, documents: list[str]) -> Encoded:
    from tokenizers import Tokenizer

    reader = Tokenizer.from_file(str(directory / "tokenizer.json"))
    ids = [encoding.ids for encoding in reader.encode_batch(documents, add_special_tokens=False)]
    return ids, reader.decode_batch(ids, skip_special_tokens=False)


def _by_transformers(directory: Path, documents: list[str]) -> Encoded:
    with tempfile.TemporaryDirectory() as modules:
        environment = {**os.environ, "HF_MODULES_CACHE": modules, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", WITH_TRANSFORMERS, str(directory.absolute())],
            input=json.dumps(documents).encode(),
            capture_output=True,
            env=environment,
            cwd=modules,
        )
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no output"]
        raise UserError(f"transformers cannot read the export: {reason[0]}", where=str(directory))
    ids, texts = json.loads(done.stdout.splitlines()[-1])
    return ids, texts


def _by_tiktoken(directory: Path, documents: list[str]) -> Encoded:
    import tiktoken

    facts: dict[str, Any] = read_tiktoken(directory)
    reader = tiktoken.Encoding(**facts)
    ids = [reader.encode(document, allowed_special="all") for document in documents]
    return ids, [reader.decode(row) for row in ids]


def read_tiktoken(directory: Path) -> dict[str, Any]:
    """Arguments of tiktoken.Encoding, from a directory that export_tiktoken wrote."""
    ranks = next(directory.glob("*.tiktoken"))
    facts = json.loads(ranks.with_suffix(".json").read_bytes())
    pairs = (line.split() for line in ranks.read_bytes().splitlines())
    return {
        "name": facts["name"],
        "pat_str": facts["pat_str"],
        "mergeable_ranks": {base64.b64decode(token): int(rank) for token, rank in pairs},
        "special_tokens": facts["special_tokens"],
    }
