"""Rows of instruction data, with their numbers: whatever the corpus reader takes for rows."""

from collections.abc import Iterator, Sequence
from typing import Any

from llmtool.core.corpus.document import ReadReport
from llmtool.core.corpus.inputs import find_inputs
from llmtool.core.corpus.readers import read_records
from llmtool.core.run.errors import UserError


def read_rows(inputs: Sequence[str]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(source, row from 1, object) of all inputs; a row that is none is an error, plain text in a directory is not."""
    report = ReadReport()
    for source, number, row in read_records(find_inputs(inputs, report=report), report=report, strict=True):
        if not isinstance(row, dict):
            what = f"a {type(row).__name__}, not an object"
            raise UserError(what, where=f"{source}:{number}", hint="JSONL has one object a line")
        yield source, number, row
