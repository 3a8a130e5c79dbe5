"""Unicode normal forms as `tokenizers` makes them: by the tables of an old version, whatever Python runs.

Python's tables are newer, and get newer. Characters that have come into the forms since are held fixed: what lies
between them is normalized alone, which Unicode promises no version changes.
"""

from functools import lru_cache
from typing import Any, Literal
from unicodedata import is_normalized, normalize

from llmtool.core.bpe.pattern import character_class
from llmtool.core.bpe.unicode_data import FIXED_IN_FORMS

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


def composed(text: str, form: Form) -> str:
    """The text in a normal form."""
    if is_normalized(form, text):  # by newer tables: then by the old ones too
        return text
    fixed = _fixed()
    if not fixed.search(text):
        return normalize(form, text)
    return "".join([part if place % 2 else normalize(form, part) for place, part in enumerate(fixed.split(text))])


@lru_cache
def _fixed() -> Any:
    import regex

    return regex.compile(f"([{character_class(FIXED_IN_FORMS)}]+)")
