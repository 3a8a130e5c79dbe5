"""Options made of a settings object: what Typer is told, and what the function gets."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from llmtool.cli.group import Group
from llmtool.core.run.settings import Option, Settings

Loud = Annotated[bool, Option("Say more.", "--loud")]


@dataclass(frozen=True, kw_only=True)
class Baking(Settings):
    flour: Annotated[Path, Option("What flour.", "--flour -f", metavar="FILE")]
    heat: Annotated[int, Option("Degrees.", min=50, max=300)] = 200
    grains: Annotated[str | int, Option("Grains: 8K.", metavar="N")] = 8192
    crust: Annotated[Literal["thin", "thick"] | None, Option("Crust.")] = None
    seeds: Annotated[Sequence[str], Option("Seeds; may be given again.", metavar="SEED")] = ()
    steam: Annotated[bool, Option("With steam.", "--steam/--no-steam")] = True
    patience: float = 1.0


def bake(*words: str) -> tuple[int, str, list[tuple[str, Baking, bool]]]:
    """Exit status, what was printed, and what the function was called with."""
    app, calls = Group("Bread."), []

    @app.command("bake")
    def bake(oven: str, settings: Baking, loud: Loud = False) -> None:
        """Bake."""
        calls.append((oven, settings, loud))

    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as end:
        app.branch("bread")(["bake", *words])
    assert isinstance(end.value.code, int)
    return end.value.code, said.getvalue(), calls


def test_defaults_are_those_of_the_object() -> None:
    assert bake("gas", "-f", "rye") == (0, "", [("gas", Baking(flour=Path("rye"), grains="8192"), False)])


def test_every_option_arrives() -> None:
    words = "gas --flour rye --heat 90 --grains 1K --crust thin --seeds a --seeds b --no-steam --loud"
    wanted = Baking(flour=Path("rye"), heat=90, grains="1K", crust="thin", seeds=("a", "b"), steam=False)
    assert bake(*words.split()) == (0, "", [("gas", wanted, True)])


@pytest.mark.parametrize("words", ["", "--flour rye --heat 20", "--flour rye --crust none", "--flour rye --patience 2"])
def test_typer_refuses_as_always(words: str) -> None:
    status, _, calls = bake("gas", *words.split())
    assert (status, calls) == (2, [])


def test_help_says_bounds_and_defaults_once() -> None:
    _, text, _ = bake("--help")
    lines = {line.split()[0].rstrip(","): " ".join(line.split()) for line in text.splitlines() if " -" in line}
    assert "Degrees. [default: 200; 50 to 300]" in lines["--heat"]
    assert "Grains: 8K. [default: 8192]" in lines["--grains"]
    assert "FILE What flour. [required]" in lines["-f"]
    assert lines["--seeds"].endswith("SEED Seeds; may be given again.")
    assert "--patience" not in text
