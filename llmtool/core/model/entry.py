"""A method's entry in config.json, read field by field: what is wrong is a ConfigError that names the method.

Exported with checkpoints; standard library only.
"""

from collections.abc import Collection, Mapping
from typing import Any

from llmtool.core.model.config import Config, ConfigError


def count(text: Any) -> int:
    """A whole number of 0 or more, as JSON or as a word of the command line."""
    if isinstance(text, bool) or not str(text).isdecimal():
        raise ValueError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


class Entry:
    """Fields of one entry; a field that nobody knows is refused at once."""

    def __init__(self, raw: Mapping[str, Any], config: Config, known: Collection[str]) -> None:
        self.raw, self.config, self.name = raw, config, str(raw.get("name"))
        if raw.get("version") != 1:
            raise self.error(f"version {raw.get('version')!r} is not supported: only 1 is")
        if strange := raw.keys() - {"name", "version", *known}:
            raise self.error(f"{min(strange)} is not understood")

    def error(self, what: str) -> ConfigError:
        """To be raised."""
        return ConfigError(f"{self.name}: {what}")

    def count(self, key: str, default: int | None = None, least: int = 1, most: int | None = None) -> int:
        """A whole number between least and most."""
        value = self.raw.get(key, default)
        if type(value) is not int or value < least or (most is not None and value > most):
            limit = f"{least} or more" if most is None else f"from {least} to {most}"
            raise self.error(f"{key} {value!r} is not a whole number {limit}")
        return value

    def number(self, key: str, default: float, least: float = 0.0, most: float = 1e6) -> float:
        """A number between least and most."""
        value = self.raw.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.error(f"{key} {value!r} is not a number from {least:g} to {most:g}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.raw.get(key, default)
        if not isinstance(value, bool):
            raise self.error(f"{key} {value!r} is neither true nor false")
        return value

    def word(self, key: str, default: str, words: Collection[str]) -> str:
        """One of some words."""
        value = self.raw.get(key, default)
        if value not in words:
            raise self.error(f"{key} {value!r} is not one of {', '.join(words)}")
        return str(value)

    def layers(self) -> tuple[int, ...]:
        """Numbers of layers, ascending; all where the entry does not say."""
        number = self.config.num_hidden_layers
        layers = self.raw.get("layers", list(range(number)))
        if (
            not isinstance(layers, list)
            or not all(type(layer) is int and 0 <= layer < number for layer in layers)
            or layers != sorted(set(layers))
        ):
            raise self.error(f"layers {layers!r} is not an ascending list of numbers below {number}")
        return tuple(layers)

    def plain_block(self) -> None:
        """Refuse families whose blocks are built otherwise: norms elsewhere, other activations, biases."""
        if self.config.mlp_bias:
            raise self.error("experts have no biases, but mlp_bias is true")
        if getattr(self.config, "activation", "silu") != "silu":
            raise self.error(f"experts are SwiGLU, but the family {self.config.family} has another activation")
        if getattr(self.config, "norms", "before") != "before":
            raise self.error(f"the family {self.config.family} has norms behind its parts: not supported")
