"""Documents of ids as `llmtool tokenizer encode` wrote them, one after the other: what decode reads."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.run.errors import UserError, explain_os_error
from llmtool.core.run.files import open_plain
from llmtool.core.run.json_file import parse_json
from llmtool.core.run.numbers import LONGEST


def read_token_documents(path: str, tokenizer: BaseTokenizer) -> Iterator[list[int]]:
    """Documents of ids from lines, JSONL or an array with its sidecar, told apart by content. "-" is stdin."""
    if path == "-":
        yield from _read_lines(sys.stdin.buffer, "-")
        return
    source = Path(path)
    sidecar = source.with_name(source.name + ".json")
    try:
        with open_plain(source) as file:
            if file.peek(6)[:6] == b"\x93NUMPY" or source.suffix in (".bin", ".npy"):
                yield from _read_array(source, sidecar, tokenizer)
            else:
                yield from _read_lines(file, path)
    except OSError as error:
        raise UserError(f"cannot read: {explain_os_error(error)}", where=path) from None


def _read_array(path: Path, sidecar: Path, tokenizer: BaseTokenizer) -> Iterator[list[int]]:
    from llmtool.core.corpus.sidecar import open_described  # numpy

    found = open_described(path, sidecar)
    if found.tokenizer != tokenizer.fingerprint():
        raise UserError("was written with another tokenizer", where=str(path), hint=f"see {sidecar}")
    first = 0
    for end in map(int, found.starts[1:]):
        yield found.ids[first:end].tolist()
        first = end


def _read_lines(file: IO[bytes], where: str) -> Iterator[list[int]]:
    for number, line in enumerate(file, 1):
        try:
            if line.lstrip().startswith(b"{"):
                ids = parse_json(line)["ids"]
                if not all(type(token) is int for token in ids):
                    raise ValueError
            else:
                words = line.split()  # int() takes b"1_0" and thousands of digits
                if not all(word.isdigit() and len(word) < LONGEST for word in words):
                    raise ValueError
                ids = [int(word) for word in words]
        except (ValueError, KeyError, TypeError, RecursionError):
            what = "neither a line of ids nor an object with `ids`"
            raise UserError(what, where=f"{where}:{number}", hint="decode reads what encode writes") from None
        yield ids
