"""The text of a run, tokenised once: into OUT/tokens, by the leading process, mapped by every one.

OUT/tokens/NAME-KEY.npy and its sidecars appear together when a source is whole. KEY is a hash of the text's bytes, of
how it is read and of the tokenizer: the next run of the command, or one that was killed between two sources, finds what
is there, and anything else in the same place is another file. Streams and URLs, whose bytes cannot be hashed beside
the reading, are tokenised in memory.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from llmtool.commands.sources import Source, open_source
from llmtool.core.corpus.provenance import describe
from llmtool.core.corpus.reading import Reading
from llmtool.core.corpus.token_files import TokenFile, is_token_file, open_tokens, write_text
from llmtool.core.corpus.tokenized import sidecars
from llmtool.core.run.atomic import new_directories, sweep
from llmtool.core.run.console import Console
from llmtool.core.run.json_file import dumps, read_json_object

if TYPE_CHECKING:
    from llmtool.tokenizer import Tokenizer

FOLDER = "tokens"
FORM = "npy"
PATIENCE = 1.0
"""Seconds between two looks for what the leading process tokenises."""


@dataclass
class Texts:
    """Sources of a run in `output`, None for one that writes nothing; `kept`: the files of it that they use."""

    output: Path | None
    tokenizer: "Tokenizer | None"
    console: Console
    threads: int | None
    bin_dtype: str | None
    leader: bool = True
    kept: set[Path] = field(default_factory=set)

    def open(self, source: Source, reading: Reading) -> TokenFile:
        """Tokens of a source, mapped from where they are or have been put."""
        entry = None
        if self.output is not None and self.tokenizer is not None and not is_token_file(source.path):
            entry = describe(source.path, Event(), True, reading)
        if entry is None or entry["sha256"] is None:
            return open_source(source, self.tokenizer, self.console, self.threads, reading, self.bin_dtype)
        assert self.output is not None
        assert self.tokenizer is not None
        key = self._key(entry, reading)
        path = self.output / FOLDER / f"{re.sub(r'[^A-Za-z0-9._-]', '_', source.name)[:80]}-{key[:16]}.{FORM}"
        beside = sidecars(path, FORM)
        self.kept |= {path, *beside.values()}
        whole = path.is_file() and all(place.is_file() for place in beside.values())
        if self.leader and not (whole and read_json_object(beside["about"]).get("made_of") == key):
            facts = {"made_of": key}
            with new_directories(path.parent):
                sweep(path.parent)  # what a killed run has left of its tokens
                write_text(self.tokenizer, [source.path], path, facts, source.name, self.console, self.threads, reading)
        elif self.leader:
            self.console.detail(f"{source.name}: tokenised before, {path}")
        while not all(place.is_file() for place in (path, *beside.values())):
            time.sleep(PATIENCE)
        file = open_tokens(path, source.name)
        return replace(file, starts=np.unique(np.asarray(file.starts)))  # a document without a token is none

    def _key(self, entry: dict[str, Any], reading: Reading) -> str:
        """What decides the ids."""
        assert self.tokenizer is not None
        facts = {
            "text": entry["sha256"], "name": Path(entry["path"]).name, "tokenizer": self.tokenizer.fingerprint(),
            "reading": reading.facts(),
        }  # fmt: skip
        return sha256(dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def tidy(self) -> None:
        """Remove what earlier runs in this place have tokenised and this one does not use."""
        for path in sorted((self.output / FOLDER).glob(f"*.{FORM}*")) if self.output else ():
            if path not in self.kept:
                path.unlink()


def warn_of_training_text(files: Sequence[TokenFile], checks: Sequence[TokenFile], console: Console) -> None:
    """What is trained on tells nothing of text that is not known."""
    sizes = {len(file) for file in checks}
    known = {file.fingerprint()["sha256"]: file.name for file in files if len(file) in sizes}
    for file in checks:
        if (name := known.get(file.fingerprint()["sha256"] if known else "")) is not None:
            console.warn(f"--valid {file.name}: the same text as {name}, which is trained on: its loss is not held out")
