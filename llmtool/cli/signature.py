"""From settings to options: the signature that Typer reads, made from a command's settings object.

A parameter whose type is a Settings class becomes an option for each of its fields, in their order; the function is
called with the object; a name that two objects share is one option. Such a command has --config and --print-config.
Options that settings share with single parameters (commands/options.py) are translated too.
"""

from collections.abc import Callable, Sequence
from dataclasses import MISSING
from inspect import Parameter, signature
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from llmtool.cli.config import Config, PrintConfig
from llmtool.cli.values import Value, standin
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.settings import Described, Option, Settings, describe


@dataclass(frozen=True)
class Only:
    """Some of an object's fields are shown, the others are at their defaults: Annotated[Kind, Only("a b")]."""

    names: str
    """With spaces between."""


@dataclass(frozen=True)
class Behind:
    """An object's options stand after this one, not at their own place: Annotated[Kind, Behind("length")]."""

    name: str


@dataclass(frozen=True)
class Choice:
    """An argument that is one of the words of a Literal."""

    metavar: str
    help: str


FILES: tuple[tuple[str, Any, Any], ...] = (("config", Config, None), ("print_config", PrintConfig, False))
"""Options of every command that has settings."""


def spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as Typer takes it."""
    hints = get_type_hints(function, include_extras=True)
    parameters: list[Parameter] = []
    objects: dict[str, tuple[type[Settings], list[Described]]] = {}
    empty: dict[str, Any] = {}
    for name, parameter in signature(function).parameters.items():
        hint = hints[name]
        kind = getattr(hint, "__origin__", hint)
        if isinstance(kind, type) and issubclass(kind, Settings):
            shown = _shown(kind, getattr(hint, "__metadata__", ()))
            objects[name] = (kind, shown)
            known = [parameter.name for parameter in parameters]
            after = [
                known.index(note.name) + 1 for note in getattr(hint, "__metadata__", ()) if isinstance(note, Behind)
            ]
            place = after[0] if after else len(known)
            parameters[place:place] = [_parameter(field) for field in shown if field.name not in known]
        else:
            chosen = _chosen(name, hint)
            if chosen is not None:
                parameters.append(parameter.replace(annotation=chosen))
                continue
            single = _single(parameter, hint)
            parameters.append(_parameter(single) if single else parameter.replace(annotation=hint))
            if single and single.several:
                empty[name] = single.default
    if objects:
        parameters += [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint) for name, hint, default in FILES
        ]
    parameters = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in parameters]

    def command(**given: Any) -> Any:
        given = {name: value for name, value in given.items() if not objects or name not in [each[0] for each in FILES]}
        given |= {name: default for name, default in empty.items() if given[name] is None}
        options = dict(given)
        for name, (kind, shown) in objects.items():
            values = {field.name: options[field.name] for field in shown}
            given = {key: value for key, value in given.items() if key not in values}
            unset = [field.name for field in shown if field.several and values[field.name] is None]
            given[name] = kind(**{name: value for name, value in values.items() if name not in unset})
        return function(**given)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__signature__ = signature(function).replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _shown(kind: type[Settings], notes: Sequence[Any]) -> list[Described]:
    """The fields that become options."""
    shown = [field for field in describe(kind) if field.shown]
    for note in notes:
        if isinstance(note, Only):
            names = note.names.split()
            assert set(names) <= {field.name for field in shown}, f"{kind.__name__} has not all of {names}"
            shown = [field for field in shown if field.name in names]
    return shown


def _parameter(field: Described) -> Parameter:
    """An option of the command line for one field."""
    default = field.default
    if field.several:  # Typer shows an empty list as a default, and None as nothing
        default = list(default) or None
    elif isinstance(default, int) and _words(field.type):
        default = str(default)
    return Parameter(
        field.name, Parameter.KEYWORD_ONLY, default=Parameter.empty if default is MISSING else default,
        annotation=Annotated[_kind(field), _option(field)],
    )  # fmt: skip


def _kind(field: Described) -> Any:
    """The type as Typer reads it: a sequence is a list or None, of words where only some will do; a number that may
    have a unit (8K) is a word."""
    if field.several:
        item = get_args(field.type)[0]
        return list[str] | None if field.choices else list[item] | None  # type: ignore[valid-type]
    if _words(field.type):
        return str | None if field.default is None else str
    return field.type


def _words(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType) and {str, int} <= set(get_args(kind))


def _option(field: Described) -> Any:
    option = field.option
    assert option is not None
    value = Value(field)
    read = value if value.wanted else None
    return typer.Option(*field.flags, help=option.help, metavar=standin(field), parser=read)


def _single(parameter: Parameter, hint: Any) -> Described | None:
    """A parameter that is described by an Option, as if it were a field; None for Typer's own."""
    option = next((note for note in getattr(hint, "__metadata__", ()) if isinstance(note, Option)), None)
    default = MISSING if parameter.default is Parameter.empty else parameter.default
    return Described(parameter.name, hint.__origin__, default, option) if option else None


def _chosen(name: str, hint: Any) -> Any:
    """Typer's argument for a Choice, read as options are; None for anything else."""
    note = next((note for note in getattr(hint, "__metadata__", ()) if isinstance(note, Choice)), None)
    if note is None:
        return None
    read = Value(Described(note.metavar, hint.__origin__, MISSING, None))
    return Annotated[hint.__origin__, typer.Argument(help=note.help, metavar=note.metavar, parser=read)]
