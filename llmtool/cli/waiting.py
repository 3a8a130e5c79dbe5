"""What a command says while people would wonder: that torch is loading, that it reads what they type."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from llmtool.core.run.console import Console

SLOW = {"torch": "loading torch ...", "transformers": "loading transformers ..."}
"""Seconds on a laptop: 1.5 to 3."""


class Watcher:
    """A finder that finds no module, but sees which are looked for; each slow one is said once, when it is imported."""

    def __init__(self) -> None:
        self.left = dict(SLOW)

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> None:
        """Say that a slow one is coming."""
        if fullname in self.left:
            print(self.left.pop(fullname), file=sys.stderr)


def prepare(words: Sequence[str], given: Mapping[str, Any]) -> None:
    """At a terminal, before the command begins; nothing with --quiet."""
    if given.get("quiet") or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return
    sys.meta_path.insert(0, Watcher())
    if reads_stdin(words, given) and sys.stdin is not None and sys.stdin.isatty():
        print("reading what you type; Ctrl-D on an empty line ends it", file=sys.stderr)
        Console.bars = False  # a bar would be drawn over what is typed


def reads_stdin(words: Sequence[str], given: Mapping[str, Any]) -> bool:
    """Whether a command's input is stdin: `-`, or nothing where that means it."""
    if any(value == "-" or (isinstance(value, list | tuple) and "-" in value) for value in given.values()):
        return True
    if [*words] == ["tokenizer", "encode"]:
        return not given["inputs"] and not given["verify"]
    return [*words] == ["generate"] and not given["prompts"] and not given["input"] and not given["chat"]
