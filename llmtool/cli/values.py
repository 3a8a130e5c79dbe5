"""How the command line reads one value: a count with its K, M or G, a number, or one of several words.

Typer would say `'scafold' is not one of 'bpe', ...` and `'8k' is not a valid int`. Here one parser reads every number
(core/run/numbers.py), and what is wrong is one line with the closest word that would be right.
"""

from typing import Any, get_args

import typer

from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import EXACT, amount, quantity
from llmtool.core.run.settings import Described, members

STANDINS = {int: "N", float: "X", str: "TEXT"}
NAMED = {
    "EPOCHS": "epochs stage1_epochs",
    "NATS": "max_kl max_loss_jump",
    "PROBABILITY": "top_p certainty",
    "RATE": "lr muon_lr end_lr stage1_lr",
    "SECONDS": "every",
    "SHARE": "holdout final_lr decay depth share max_overlap min_similarity",
    "STEPS": "steps stage1_steps warmup eval_every save_every",
    "TOKENS": "length tokens max_tokens new",
}
"""What stands behind an option that does not say itself what it wants: by its name, else by its type."""
_NAMED = {name: standin for standin, names in NAMED.items() for name in names.split()}


class UsageError(typer.BadParameter):
    """A command line that cannot be read, told in one line."""

    def format_message(self) -> str:
        """The line, with no `Invalid value for` before it."""
        return self.message


class Value:
    """Reads the words of one option or argument; Typer calls it, help and completions ask what it takes."""

    def __init__(self, field: Described) -> None:
        kinds = members(field.type)
        self.field = field
        self.choices = tuple(map(str, field.choices))
        self.kind = next((kind for kind in (*kinds, *(get_args(kinds[0]))[:1]) if kind in (int, float)), None)
        self.name = field.flags[0].partition("/")[0] if field.option else field.name  # an argument's: KIND
        self.__name__ = self.name

    @property
    def wanted(self) -> bool:
        """Whether there is anything to read here that Typer does not read as well: words, paths and flags are its."""
        return bool(self.choices) or (self.kind is not None and str not in members(self.field.type))

    def __call__(self, value: Any) -> Any:
        """The value, checked; `value` is a word, or what a settings file or a default holds."""
        try:
            if self.kind is int:
                value = amount(value, self.name, low=-EXACT)
            elif self.kind is float:
                value = quantity(value, self.name)
            self.field.check(value)
        except UserError as error:
            raise UsageError(str(error)) from None
        return value


def standin(field: Described) -> str | None:
    """What stands for the value in help: what the option says, its choices, or a letter."""
    value = Value(field)
    if field.option and field.option.metavar:
        return field.option.metavar
    if value.choices or not (value.kind or str in members(field.type)):
        return "|".join(value.choices) or None
    return _NAMED.get(field.name) or STANDINS[value.kind or str]
