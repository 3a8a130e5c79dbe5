"""The settings of a command as one object: name, type, default, help, bounds and check of each option, said once.

    @dataclass(frozen=True)
    class FitSettings(Settings):
        law: Annotated[Literal["auto", "power"], Option("Which law.")] = "auto"
        horizon: Annotated[float | None, Option("Steps of the whole run.", min=0, metavar="STEPS")] = None

The command line makes options of the fields (cli/signature.py), a caller in Python gives the object or keywords, and
run.json and the check of a resumed run take `facts()`. Standard library only: `--help` imports every such class.
"""

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from functools import cache
from math import isnan
from numbers import Real
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import ChoiceError, UserError, closest


@dataclass(frozen=True)
class Option:
    """What the command line says of a field.

    flags: how it is spelled there, where that is not the field's name ("--model -m", "--pack/--no-pack"). min, max:
    both allowed; of each item where the field holds several. matters: whether another value may change what comes
    out. after: the field behind which a subclass's is shown; the last one if not given. shown: False for what callers
    in Python alone may set.
    """

    help: str
    flags: str = ""
    metavar: str | None = None
    min: float | None = None
    max: float | None = None
    matters: bool = True
    after: str | None = None
    shown: bool = True


@dataclass(frozen=True)
class Described:
    """A field of a settings class; without an option it is one that callers in Python alone may set."""

    name: str
    type: Any
    default: Any
    option: Option | None

    @property
    def shown(self) -> bool:
        """Whether the command line has it."""
        return self.option is not None and self.option.shown

    @property
    def flags(self) -> tuple[str, ...]:
        """How the command line spells it."""
        flags = self.option.flags.split() if self.option else []
        return tuple(flags) or (f"--{self.name.strip('_').replace('_', '-')}",)

    @property
    def several(self) -> bool:
        """Whether it holds a sequence."""
        return any(get_origin(kind) not in (None, Literal) for kind in members(self.type))

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types of its value, or of each of its items."""
        return members(get_args(members(self.type)[0])[0]) if self.several else members(self.type)

    @property
    def choices(self) -> tuple[Any, ...]:
        """The words that it may be, or each of its items; none where it may be anything."""
        return tuple(choice for kind in self.kinds if get_origin(kind) is Literal for choice in get_args(kind))

    def check(self, value: Any) -> None:
        """Refuse what the type's choices and the bounds do not allow."""
        shown = f"{self.flags[0].partition('/')[0]} {value}" if self.option else f"{self.name} {value}"
        if self.choices and value not in self.choices:
            words = [str(choice) for choice in self.choices]
            hint = closest(str(value), words) or f"one of {', '.join(words)}"
            raise ChoiceError(f"{shown}: no such choice", hint=hint)
        if {*self.kinds} <= {int, float} and not isinstance(value, Real):  # a caller in Python's
            raise UserError(f"{shown}: {type(value).__name__}, not a number")
        if isinstance(value, float) and isnan(value):
            raise UserError(f"{shown}: not a number")
        low, high = (self.option.min, self.option.max) if self.option else (None, None)
        if low is not None and value < low:
            raise UserError(f"{shown}: wanted {low:g} at least")
        if high is not None and value > high:
            raise UserError(f"{shown}: wanted {high:g} at most")


class Settings:
    """Base of a command's settings, each a frozen dataclass; what it is made with is checked then and there.

    A list is kept as a tuple, and a path may be given as a string.
    """

    def __post_init__(self) -> None:
        for field in describe(type(self)):
            value = getattr(self, field.name)
            kept = tuple(value) if isinstance(value, list) else value
            if isinstance(kept, str) and Path in members(field.type):
                kept = Path(kept)
            object.__setattr__(self, field.name, kept)
            if kept is not None:
                for item in kept if field.several else (kept,):
                    field.check(item)

    @classmethod
    def of(cls, given: Self | None, named: Mapping[str, Any]) -> Self:
        """What a caller in Python gave: the object, keywords, or the object with some keywords changed."""
        known = [field.name for field in describe(cls)]
        for name in named:
            if name not in known:
                hint = closest(name, known)
                raise TypeError(f"{_called()}() has no setting {name!r}{f' ({hint})' if hint else ''}")
        return cls(**named) if given is None else replace(given, **named)  # type: ignore[type-var]

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """What each option that need not be given is when it is not."""
        return {field.name: field.default for field in describe(cls) if field.default is not MISSING}

    def facts(self) -> dict[str, Any]:
        """What may change the result, by name: for run.json, and to be found the same when a run is resumed."""
        return {
            field.name: getattr(self, field.name)
            for field in describe(type(self))
            if field.option is None or field.option.matters
        }

    def options(self) -> dict[str, Any]:
        """The same by how the command line spells it ({"--calibration-tokens": 24576}), as it was given."""
        return {
            field.flags[0].partition("/")[0]: getattr(self, field.name)
            for field in describe(type(self))
            if field.shown and field.option and field.option.matters
        }


def _called() -> str:
    """The function of llmtool that somebody outside has called."""
    frame = sys._getframe(2)
    while frame.f_back and str(frame.f_back.f_globals.get("__name__")).partition(".")[0] == "llmtool":
        frame = frame.f_back
    return str(sys.modules["llmtool"].spelled(frame.f_code))


def describe(kind: type[Settings]) -> tuple[Described, ...]:
    """The fields of a settings class, in order; the default of a required one is MISSING."""
    return _described(kind)  # type: ignore[arg-type]


@cache
def _described(kind: Any) -> tuple[Described, ...]:
    hints = get_type_hints(kind, include_extras=True)
    described: list[Described] = []
    for field in fields(kind):
        hint = hints[field.name]
        plain, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        option = next((note for note in notes if isinstance(note, Option)), None)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        names = [known.name for known in described]
        place = names.index(option.after) + 1 if option and option.after else len(names)
        described.insert(place, Described(field.name, plain, default, option))
    return tuple(described)


def members(kind: Any) -> tuple[Any, ...]:
    """The types of a union without None, or the type alone."""
    if get_origin(kind) in (Union, UnionType):
        return tuple(member for member in get_args(kind) if member is not type(None))
    return (kind,)
