"""Sizes as people write them."""

import re

from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import LONGEST, shown, whole

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"(?=\.?\d)(\d*)(?:\.(\d+))?\s*(?:([kmgt])(i?))?b?", re.IGNORECASE | re.ASCII)
MOST = 1 << 63
"""Bytes."""


def parse_size(text: str) -> int:
    """Bytes of "10G", "1.5 GB" (powers of 1000), "512KiB", "64Mi" (powers of 1024) or "4096"; at least 1."""
    match = _SIZE.fullmatch(text.strip()) if len(text) <= LONGEST else None
    if match is None:
        raise UserError(
            f"{shown(text)!r} is not a size", hint="write 500M or 10GB (powers of 1000), 512MiB (1024) or bytes"
        )
    digits, decimals, letter, binary = match.groups(default="")
    unit = (1024 if binary else 1000) ** _POWERS[letter.lower()]
    size: int = whole(digits + decimals, "size", high=10**LONGEST) * unit // 10 ** len(decimals)
    if size > MOST:
        raise UserError(f"the size {shown(text)} is more than any disk holds", hint="write 500M, 10GB or 512MiB")
    if size < 1:
        raise UserError(f"the size {text!r} is less than one byte", hint="write 500M, 10GB or 512MiB")
    return size
