"""Write unicode_tables.hpp and unicode_data.py: what `tokenizers` takes characters for.

    pip install unicodedata2==16.0.0 tokenizers==0.23.3
    python generate_unicode.py DIRECTORY_OF_CORE_BPE

The classes are read from the Unicode database of `unicodedata2`, whose version goes into the files, and compared with
Oniguruma inside `tokenizers` on every code point: they must be the same, or nothing is written. Where `tokenizers` uses
other and older tables (its normalizer, its punctuation, its digits), what it does is asked of it, code point by code
point. The engine's table holds the finest split that the patterns of all scanners need, in two stages with blocks of
64 code points, the span of the last byte of a UTF-8 sequence.
"""

import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import regex
import tokenizers
import unicodedata2
from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = 0x110000
BLOCK = 64
CHARACTERS = [chr(code) for code in range(CODE_POINTS) if not 0xD800 <= code < 0xE000]
CATEGORY = {character: unicodedata2.category(character) for character in CHARACTERS}
# In the order of enum class CharClass in scan.hpp; a newline is none of the white space before it.
CLASSES = (
    ("Lu", "Lt"), ("Ll",), ("Lm", "Lo"), ("Mn", "Mc", "Me"), ("Nd", "Nl", "No"), (), (),
    ("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"), ("Sm", "Sc", "Sk", "So"), (), (),
)  # fmt: skip
SPACE, NEWLINE, LATER_NUMBER, OTHER = 5, 6, 9, 10


def classes() -> bytes:
    """The class of each code point."""
    class_of = {category: number for number, categories in enumerate(CLASSES) for category in categories}
    table = bytearray([OTHER]) * CODE_POINTS
    for character, category in CATEGORY.items():
        table[ord(character)] = class_of.get(category, OTHER)
        if regex.match(r"\s", character):
            table[ord(character)] = NEWLINE if character in "\r\n" else SPACE
    for character in later_numbers():
        table[ord(character)] = LATER_NUMBER
    return bytes(table)


@lru_cache
def later_numbers() -> set[str]:
    """What the step Digits takes besides N: its tables are newer than those of patterns."""
    numeric = alone(pre_tokenizers.Digits(individual_digits=True))
    of_category = {character for character, category in CATEGORY.items() if category.startswith("N")}
    if of_category - numeric:
        sys.exit("Digits leaves out a number")
    return numeric - of_category


def alone(step: pre_tokenizers.PreTokenizer, between: str = "a") -> set[str]:
    """The characters that a step cuts off between two characters that it leaves together."""
    text = between + between.join(CHARACTERS) + between
    return {text[start] for _, (start, end) in step.pre_tokenize_str(text) if end - start == 1 and start % 2}


def check_classes() -> None:
    """Oniguruma must agree about every code point."""
    for name in ("Lu", "Lt", "Ll", "Lm", "Lo", "L", "M", "N", "P", "S", "Z", "C"):
        found = alone(pre_tokenizers.Split(Regex(rf"\p{{{name}}}"), "isolated"), "0" if name[0] == "L" else "a")
        known = {character for character, category in CATEGORY.items() if category.startswith(name)}
        if found != known:
            sys.exit(f"tokenizers {tokenizers.__version__} differs from {unicodedata2.unidata_version} in {name}")


def fixed() -> set[str]:
    """Characters that no normal form of `tokenizers` touches, though the Unicode database has a say about them.

    What is unassigned is among them, so that a later version of Python changes nothing.
    """
    found = {character for character, category in CATEGORY.items() if category == "Cn"}
    theirs = {form: getattr(normalizers, form)().normalize_str for form in ("NFC", "NFD", "NFKC", "NFKD")}
    for character in CHARACTERS:
        if any(theirs[form](character) != unicodedata2.normalize(form, character) for form in theirs):
            found.add(character)
            # its parts must not compose either: the first of them is left alone
            found.add(unicodedata2.normalize("NFD", character)[0])
        if unicodedata2.combining(character):
            around = ("a\u0301" + character + "\u0327", "a" + character + "\u0301")
            if any(theirs["NFC"](text) != unicodedata2.normalize("NFC", text) for text in around):
                found.add(character)
    return found


def later_lower_case() -> dict[int, str]:
    """What the step Lowercase does and Python does not: to be asked of the oldest Python that is supported, 3.11."""
    theirs = normalizers.Lowercase().normalize_str
    return {ord(c): theirs(c) for c in CHARACTERS if theirs(c) != c.lower()}


def ranges(characters: Iterable[str]) -> str:
    """Code points as "41-5a 61": hexadecimal, ranges with both ends."""
    runs: list[list[int]] = []
    for code in sorted(map(ord, characters)):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return " ".join(f"{first:x}" if first == last else f"{first:x}-{last:x}" for first, last in runs)


def python_source() -> str:
    """unicode_data.py."""
    punctuation = alone(pre_tokenizers.Punctuation("isolated"))
    changed = {
        character: CATEGORY[character]
        for character in CHARACTERS
        if CATEGORY[character] != "Cn" and not regex.match(rf"\p{{{CATEGORY[character]}}}", character)
    }
    values = {
        "UNASSIGNED": ranges(character for character, category in CATEGORY.items() if category == "Cn"),
        "NUMBERS_OF_DIGITS": ranges(later_numbers()),
        "PUNCTUATION": ranges(punctuation),
        "FIXED_IN_FORMS": ranges(fixed()),
        "COMBINING": ranges(c for c in CHARACTERS if not normalizers.StripAccents().normalize_str(c)),
    }
    lines = [
        f'"""Generated by native/generate_unicode.py from unicodedata2 {unicodedata2.unidata_version} and tokenizers '
        f"{tokenizers.__version__}: do not edit.\n",
        "Ranges of code points in hexadecimal. UNASSIGNED: in UNICODE_VERSION. NUMBERS_OF_DIGITS: what the step Digits",
        "takes besides \\\\p{N}. PUNCTUATION: what the step Punctuation takes. FIXED_IN_FORMS: what no form touches.",
        "COMBINING: what StripAccents takes out. LOWERCASE: what Lowercase makes of letters later than Unicode 14.",
        'CHANGED: the category of characters that later versions have moved.\n"""\n',
        f'UNICODE_VERSION = "{".".join(unicodedata2.unidata_version.split(".")[:2])}"',
        f"LOWERCASE = {later_lower_case()!a}  # fmt: skip  # noqa: E501",
        f"CHANGED = { ({ord(character): category for character, category in changed.items()}) }",
    ]
    for name, text in values.items():
        words = text.split()
        rows = []
        while words:
            row = ""
            while words and len(row) + len(words[0]) < 110:
                row += words.pop(0) + " "
            rows.append(f'    "{row}"')
        lines.append(f"{name} = (\n" + "\n".join(rows) + "\n)")
    return "\n".join(lines) + "\n"


def rows(name: str, kind: str, values: list[int], width: int) -> str:
    """A C++ array, `width` values a line."""
    lines = (",".join(map(str, values[i : i + width])) for i in range(0, len(values), width))
    return f"inline constexpr {kind} {name}[{len(values)}] = {{\n" + ",\n".join(lines) + "};\n"


def header() -> str:
    """unicode_tables.hpp."""
    table = classes()
    blocks: dict[bytes, int] = {}
    index = [blocks.setdefault(table[i : i + BLOCK], len(blocks)) for i in range(0, CODE_POINTS, BLOCK)]
    cells = [cell for block in blocks for cell in block]
    version = ".".join(unicodedata2.unidata_version.split(".")[:2])
    return f"""// Generated by generate_unicode.py from unicodedata2 {unicodedata2.unidata_version}: do not edit.
#pragma once
#include <cstdint>

namespace llmtool {{

inline constexpr const char* kUnicodeVersion = "{version}";
// kBlockOf[code point / 64] is a block; kClassOf[block * 64 + code point % 64] is the code point's class.

{rows("kBlockOf", "uint16_t", index, 32)}
{rows("kClassOf", "uint8_t", cells, BLOCK)}
}}  // namespace llmtool
"""


def main() -> None:
    """Check, then write both files."""
    directory = Path(sys.argv[1])
    check_classes()
    (directory / "unicode_data.py").write_text(python_source(), encoding="utf-8")
    (directory / "native" / "unicode_tables.hpp").write_text(header(), encoding="utf-8")


if __name__ == "__main__":
    main()
