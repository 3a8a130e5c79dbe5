"""The one kind of failure that is shown without a traceback, and the exit codes of every command.

Anything that is not a UserError is a bug and keeps its traceback.
"""

import re
from collections.abc import Collection
from enum import IntEnum
from pathlib import Path
from typing import Any


class ExitCode(IntEnum):
    """Exit statuses, the same for every command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    CHECK_FAILED = 3
    RESUMABLE = 4
    INTERRUPT = 130
    CLOSED_PIPE = 141


LONGEST = 800
"""Characters of each part of an error: a file may hold a name of a million."""


class UserError(Exception):
    """An expected failure: what is wrong, where (file, line, key), and how to mend it."""

    status = ExitCode.FAILURE
    goes_on = False
    """Whether what was made before stays, so that the same command goes on from there."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        """One line: `where: what (hint)`."""
        where, what, hint = (f"{part[:LONGEST]}..." if part and len(part) > LONGEST else part
                             for part in (self.where, self.what, self.hint))  # fmt: skip
        text = f"{where}: {what}" if where else f"{what}"
        text = f"{text} ({hint})" if hint else text
        return printable(" ".join(text.split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Whole from another process too: an exception is made again of its text alone."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[UserError], args: tuple[Any, ...], facts: dict[str, Any]) -> UserError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(facts)
    return error


class ChoiceError(UserError):
    """A value that is not one of the choices: a matter of how the command line is written."""

    status = ExitCode.USAGE


class CompleteError(UserError):
    """No failure but success found beforehand: the output stands, complete, from the same inputs and settings."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.next: str | None = None
        """What the command line says comes next."""
        self.quiet = self.as_json = False
        """How it is said there."""
        super().__init__("complete already, nothing to do", where=str(output))


class CheckError(UserError):
    """An output that stands, and has not passed its check; the same command says so again."""

    status = ExitCode.CHECK_FAILED


def printable(text: str) -> str:
    """Text without what a terminal would obey: control characters are spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def explain_os_error(error: OSError) -> str:
    """The plain reason of an operating system error, without its number."""
    return (error.strerror or str(error)).lower()


_CLAUSES = re.compile(r"(, or |, and |; )")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_ELSEWHERE = re.compile(r"(?<![\w-])(llmtool|posttrain|train|convert|extend|pip|torchrun)\s.*--")
"""Words before an option that make it another command's."""


def followable(hint: str, known: Collection[str]) -> str | None:
    """A hint without the clauses that name an option which this command has not; None where nothing is left.

    The library writes its hints for many commands: "correct the row, or read without --strict to skip it" is to be
    followed as far as "correct the row" where there is no --strict.
    """
    parts = _CLAUSES.split(hint)
    left = ""
    for joint, clause in zip(["", *parts[1::2]], parts[::2], strict=True):
        if _ELSEWHERE.search(clause) or all(option in known for option in _OPTION.findall(clause)):
            left += joint + clause if left else clause
    return left or None


def closest(name: str, known: list[str]) -> str | None:
    """A hint naming the known spelling nearest to `name`, if any is near."""
    from difflib import get_close_matches

    matches = get_close_matches(name, known, n=1)
    return f"did you mean {matches[0]!r}?" if matches else None
