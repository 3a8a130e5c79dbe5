"""Unicode normal forms as `tokenizers` makes them."""

from typing import Literal
from unicodedata import is_normalized, normalize

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


def composed(text: str, form: Form) -> str:
    """The text in a normal form."""
    return text if is_normalized(form, text) else normalize(form, text)
