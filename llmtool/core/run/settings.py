"""The settings of a command as one object: name, type, default, help, bounds and check of each option, said once.

    @dataclass(frozen=True)
    class FitSettings(Settings):
        law: Annotated[Literal["auto", "power"], Option("Which law.")] = "auto"
        horizon: Annotated[float | None, Option("Steps of the whole run.", min=0, metavar="STEPS")] = None

The command line makes options of the fields (cli/signature.py), a caller in Python gives the object or keywords, and
run.json and the check of a resumed run take `facts()`. Standard library only: `--help` imports every such class.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from functools import cache, wraps
from inspect import signature
from math import isnan
from numbers import Real
from pathlib import Path, PurePath
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import ChoiceError, UserError, closest
from llmtool.core.run.numbers import EXACT, amount, quantity


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
    def spelled(self) -> str:
        """What an error calls it."""
        return self.flags[0].partition("/")[0] if self.option else self.name

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

    def read(self, value: Any) -> Any:
        """A value, or an item, that a caller in Python gave as text where the command line reads a number or a path."""
        if isinstance(value, PurePath) and str in self.kinds and Path not in self.kinds:
            return str(value)
        if not isinstance(value, str) or str in self.kinds:
            return value
        if Path in self.kinds:
            return Path(value)
        if int in self.kinds:
            return amount(value, self.spelled, low=-EXACT)
        return quantity(value, self.spelled) if float in self.kinds else value

    def check(self, value: Any) -> None:
        """Refuse what the type's choices and the bounds do not allow."""
        shown = f"{self.spelled} {value}"
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

    A list is kept as a tuple, one item may stand for a list of one, and a path or a number may be given as text.
    """

    def __post_init__(self) -> None:
        for field in describe(type(self)):
            value = getattr(self, field.name)
            if field.several:
                items = (value,) if isinstance(value, str | PurePath | Real) else value
                kept = tuple(map(field.read, items)) if isinstance(items, list | tuple) else items
            else:
                kept = field.read(value)
            object.__setattr__(self, field.name, kept)
            if kept is not None:
                for item in kept if field.several else (kept,):
                    field.check(item)

    @classmethod
    def of(cls, given: Self | None, named: Mapping[str, Any]) -> Self:
        """What a caller in Python gave: the object, keywords, or the object with some keywords changed.

        A keyword is the name of a field or of its option: `chunk` of --chunk, where the field is called size.
        """
        known, changes = names(cls), dict[str, Any]()
        for name, value in named.items():
            if name not in known:
                hint = closest(name, list(known))
                raise TypeError(f"{_called()}() has no setting {name!r}{f' ({hint})' if hint else ''}")
            if known[name] in changes:
                raise TypeError(f"{_called()}() got {known[name]!r} twice, once by the name of its option")
            changes[known[name]] = value
        return cls(**changes) if given is None else replace(given, **changes)  # type: ignore[type-var]

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
    """The function of llmtool that somebody outside has called; what stands in this file only passes calls on."""
    frame = sys._getframe(2)
    code = frame.f_code
    while frame.f_back and str(frame.f_back.f_globals.get("__name__")).partition(".")[0] == "llmtool":
        frame = frame.f_back
        code = code if frame.f_globals["__name__"] == __name__ else frame.f_code
    return str(sys.modules["llmtool"].spelled(code))


@cache
def one_or_several(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of which each parameter that is a sequence of texts also takes one text or path, for a list of one.

    A text is a sequence of its letters: "hi" would be two prompts, and "corpus.txt" a folder "." among missing files.
    """
    known = list(signature(function).parameters)
    several = {name for name, hint in function.__annotations__.items() if getattr(hint, "__origin__", None) is Sequence}
    if not several or hasattr(function, "__wrapped__"):
        return function

    @wraps(function)
    def called(*given: Any, **named: Any) -> Any:
        listed = [_listed(value) if name in several else value for name, value in zip(known, given, strict=False)]
        named = {name: _listed(value) if name in several else value for name, value in named.items()}
        return function(*listed, *given[len(listed) :], **named)

    return called


def _listed(value: Any) -> Any:
    """Texts, from one or several texts or paths."""
    items = [value] if isinstance(value, str | PurePath) else value
    return [str(each) if isinstance(each, PurePath) else each for each in items] if isinstance(items, list) else items


def names(kind: type[Settings]) -> dict[str, str]:
    """The names that a caller in Python may use -> the field: its own, and that of its option."""
    found = {field.name: field.name for field in describe(kind)}
    for field in describe(kind):
        if field.shown:
            found.setdefault(field.spelled.lstrip("-").replace("-", "_"), field.name)
    return found


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
