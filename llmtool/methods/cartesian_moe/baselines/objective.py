"""The rivals' objective: the balance loss of their routers; `hash` has none, and its loss is 0."""

from collections.abc import Mapping
from typing import Any

from llmtool.core.model.config import Config
from llmtool.core.train.balance import Balance, coefficient
from llmtool.core.train.objective import Term
from llmtool.methods.cartesian_moe.baselines.rivals_part import NAME, read_settings


def term(config: Config, settings: Mapping[str, Any], options: Mapping[str, str]) -> Term:
    """The term of a checkpoint's method entry; options: coefficient."""
    read = read_settings(settings, config)
    return Balance(NAME, [str(layer) for layer in read.layers], coefficient(NAME, options))
