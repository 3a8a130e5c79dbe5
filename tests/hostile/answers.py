"""What every reader of hostile files needs: results without NaN, and a command line as typed."""

import io
import math
from typing import Any

from llmtool.core.run.errors import UserError

MADE = "made"
"""Where a reader may write; emptied before each."""


def finite(value: Any) -> Any:
    """A result without NaN and infinity, which JSON cannot say."""
    if isinstance(value, float):
        assert math.isfinite(value), "a result that is no number"
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        finite(inner)
    return value


def command_line(words: list[str]) -> None:
    """As typed; a usage error is an answer."""
    import sys

    from tests.faults.trial import invoke

    held, sys.stdout = sys.stdout, io.StringIO()
    errors, sys.stderr = sys.stderr, io.StringIO()
    try:
        status = invoke(words)
        said = sys.stderr.getvalue()
    finally:
        sys.stdout, sys.stderr = held, errors
    assert status in (0, 1, 2), f"status {status}: {said}"
    assert status != 1 or said.startswith("error: ") or "\nerror: " in said, said
    if status:
        raise UserError("refused on the command line")
