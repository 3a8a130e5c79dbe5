"""A model by its size."""

import pytest

from llmtool.core.model.new import parse_parameters
from llmtool.core.run.errors import UserError

pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("3M", 3_000_000), ("300k", 300_000), ("1.5B", 1_500_000_000), ("300000", 300_000), ("llama.json", None),
     ("1.5", None), ("-3", None), ("3e6", None), ("", None)],
)  # fmt: skip
def test_a_size_is_a_number_with_or_without_a_unit(text: str, wanted: int | None) -> None:
    assert parse_parameters(text) == wanted


@pytest.mark.parametrize("text", ["0", "0K", "9" * 40])
def test_a_size_has_bounds(text: str) -> None:
    with pytest.raises(UserError, match="--model"):
        parse_parameters(text)
