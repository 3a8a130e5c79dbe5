"""`dataclass` as the standard library has it, made in a twentieth of the time.

    from llmtool.core.run.dataclass import dataclass

    @dataclass(frozen=True)
    class Document: ...

The standard one writes and compiles up to six methods for each class, 0.4 ms on a laptop: the 50 classes behind
`llmtool tokenizer encode` took 25 ms of its 170. Here they share their methods, and `__init__` is written at the first
instance. What they do is the same (tests/core/run/test_dataclass.py), and type checkers see the standard one.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import MISSING, FrozenInstanceError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(kind: type | None = None, /, *, frozen: bool = False, **options: Any) -> Any:
        """The standard library's; quickly, with no other options than frozen, kw_only and slots."""
        if kind is None:
            return lambda kind: dataclass(kind, frozen=frozen, **options)
        if options.keys() - {"kw_only", "slots"}:
            return dataclasses.dataclass(kind, frozen=frozen, **options)
        bare: Any = dataclasses.dataclass(kind, init=False, repr=False, eq=False, **options)
        methods = {**(FROZEN if frozen else MUTABLE), "__init__": _first(bare, frozen)}
        if frozen and options.get("slots"):
            methods |= PICKLED
        own = {name for name, method in vars(bare).items() if method is not None}  # a hash of None comes with __eq__
        for name in methods.keys() - own:
            setattr(bare, name, methods[name])
        return bare


class _Mutable:
    """Methods that all share."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented

    def __repr__(self: Any) -> str:
        shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"


class _Frozen:
    """Methods that all share that are frozen."""

    def __setattr__(self, name: str, _: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __hash__(self) -> int:
        return hash(_values(self))

    def __getstate__(self: Any) -> list[Any]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def __setstate__(self: Any, state: Sequence[Any]) -> None:
        for field, value in zip(dataclasses.fields(self), state, strict=True):
            object.__setattr__(self, field.name, value)


MUTABLE = {name: vars(_Mutable)[name] for name in ("__eq__", "__repr__", "__hash__")}
FROZEN = MUTABLE | {name: vars(_Frozen)[name] for name in ("__setattr__", "__delattr__", "__hash__")}
PICKLED = {name: vars(_Frozen)[name] for name in ("__getstate__", "__setstate__")}


def _values(self: Any) -> tuple[Any, ...]:
    """What two instances are compared by."""
    return tuple(getattr(self, name) for name, field in self.__dataclass_fields__.items() if field.compare)


def _first(kind: Any, frozen: bool) -> Callable[..., None]:
    """The `__init__` of a class that had no instance yet."""

    def first(self: Any, *given: Any, **named: Any) -> None:
        kind.__init__ = made = _written(kind, frozen)
        made(self, *given, **named)

    return first


def _written(kind: Any, frozen: bool) -> Callable[..., None]:
    """The `__init__` of a class, from its fields."""
    names: dict[str, Any] = {"__missing__": MISSING, "__put__": object.__setattr__}
    places, keywords, body = ["self"], ["*"], []
    for field in dataclasses.fields(kind):
        name, value = field.name, field.name
        default, make = f"__default_{name}__", f"__make_{name}__"
        if field.default_factory is not MISSING:
            names |= {default: MISSING, make: field.default_factory}
            value = f"{make}() if {name} is __missing__ else {name}" if field.init else f"{make}()"
        elif field.default is not MISSING:
            names[default] = field.default
            value = name if field.init else default
        if field.init:
            (keywords if field.kw_only else places).append(f"{name}={default}" if default in names else name)
        elif default not in names:
            continue  # the class sets it itself
        body.append(f"__put__(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(kind, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = [*places, *(keywords if len(keywords) > 1 else [])]
    lines = "\n ".join([f"def __init__({', '.join(parameters)}):", *(body or ["pass"])])
    exec(lines, names)  # noqa: S102 (of names of our own)
    init: Callable[..., None] = names["__init__"]
    init.__qualname__ = f"{kind.__qualname__}.__init__"
    return init
