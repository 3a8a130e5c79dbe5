"""Pre-tokenizers by name: the published ways to cut a text into pieces before any merge.

The steps are the definition (pretokenizer_steps.py); the engine's scanners and `split` below must cut exactly so.
Undecodable bytes are one code point each, neither letter nor number nor white space (U+DC80..U+DCFF, PEP 383).
"""

from llmtool.core.bpe.normalizers import Step
from llmtool.core.bpe.pattern import UNICODE_VERSION as UNICODE_VERSION
from llmtool.core.bpe.pretokenizer_steps import GPT2_PATTERN, pieces_of
from llmtool.core.bpe.vocabulary import decode_text, encode_text, string_to_token
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError, closest

CUSTOM = "custom"
"""The name of every way to cut that has none."""

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_WHITE = r"\s*[\r\n]+|\s+(?!\S)|\s+"

BYTES: Step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
"""Spells bytes, cuts nothing."""

GPT2: Step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


DIGITS: Step = {"type": "Digits", "individual_digits": True}


def isolating(pattern: str) -> Step:
    """Every match is a piece, and so is what lies between two matches."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


@dataclass(frozen=True)
class Pretokenizer:
    """A named way to cut; other spellings in the wild that cut the same are in `aliases`.

    pattern: the one regex that cuts; empty where nothing cuts, or it takes several steps.
    """

    name: str
    pattern: str
    source: str
    aliases: tuple[str, ...] = ()
    own_steps: tuple[Step, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """As a tokenizer.json holds them."""
        if self.own_steps:
            return self.own_steps
        return (isolating(self.pattern), BYTES) if self.pattern else (BYTES,)


def _contractions_then_letters(digits: str) -> str:
    return _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _WHITE


_CL100K = _contractions_then_letters(r"\p{N}{1,3}")


def _words(contraction: str, digits: str) -> str:
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{contraction}"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{contraction}"
        rf"|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_WHITE}"
    )


def _ling(digits: str) -> str:
    return (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]++[\r\n]*"
        r"|\s*[\r\n]|\s+(?!\S)|\s+"
    )


def _without_han(letters: str) -> str:
    return rf"[{letters}&&[^\p{{Han}}]]"


_KIMI = (
    rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?{_without_han(_UPPER)}*{_without_han(_LOWER)}+{_CONTRACTION}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_without_han(_UPPER)}+{_without_han(_LOWER)}*{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_WHITE}"
)

_FALCON: tuple[Step, ...] = (
    {"type": "Punctuation", "behavior": "Contiguous"},
    GPT2,
    {"type": "Digits", "individual_digits": False},
    isolating("[0-9][0-9][0-9]"),
)

_QWEN35 = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + _WHITE

_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
)

PRETOKENIZERS = {
    entry.name: entry
    for entry in (
        Pretokenizer("none", "", "the whole document is one piece"),
        Pretokenizer(
            "gpt2",
            r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            "GPT-2 (Radford et al. 2019)",
            (
                GPT2_PATTERN,
                r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
                r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++\Z|\s+(?!\S)|\s",
            ),
        ),
        Pretokenizer("cl100k", _CL100K, "GPT-4"),
        Pretokenizer("o200k", _words(_CONTRACTION + "?", r"\p{N}{1,3}"), "GPT-4o"),
        Pretokenizer("llama3", _CL100K, "Llama 3 (the same pattern as GPT-4's)"),
        Pretokenizer(
            "qwen2",
            _contractions_then_letters(r"\p{N}"),
            "Qwen2, Qwen3 (single digits)",
            (_ling(r"\p{N}"),),  # Ling's and LLaDA's: possessive where nothing could be given back
        ),
        Pretokenizer(
            "smollm", "", "SmolLM, StarCoder, Granite 3: single digits, then GPT-2's", own_steps=(DIGITS, GPT2)
        ),
        Pretokenizer("qwen35", _QWEN35, "Qwen3.5, Qwen3.6 (marks with letters)"),
        Pretokenizer("tekken", _words("", r"\p{N}"), "Mistral-Nemo, Nemotron 3"),
        Pretokenizer(
            "deepseek3", "", "DeepSeek V3, R1, V4", own_steps=(*(isolating(pattern) for pattern in _DEEPSEEK3), BYTES)
        ),
        Pretokenizer("nanochat", _ling(r"\p{N}{1,2}"), "nanochat (two digits)"),
        Pretokenizer("kimi", _KIMI, "Kimi K2 (Chinese characters apart)"),
        Pretokenizer("falcon", "", "Falcon: punctuation, then GPT-2's, then three digits", own_steps=_FALCON),
        Pretokenizer("bloom", r" ?[^(\s|[.,!?…。，、।۔،])]+", "BLOOM"),
    )
}


def find_pretokenizer(name: str) -> Pretokenizer:
    """The pre-tokenizer of that name, or a UserError that lists them."""
    if name not in PRETOKENIZERS:
        known = list(PRETOKENIZERS)
        raise UserError(f"unknown pre-tokenizer {name!r}", hint=closest(name, known) or f"one of {', '.join(known)}")
    return PRETOKENIZERS[name]


def name_of_pattern(pattern: str) -> str | None:
    """The name of a pattern met in a foreign file; None when it is none of ours to the letter."""
    for entry in PRETOKENIZERS.values():
        if pattern and pattern in (entry.pattern, *entry.aliases):
            return entry.name
    return None


def name_of_steps(steps: tuple[Step, ...], normalizer: tuple[Step, ...] = ()) -> str:
    """The name of a way to cut met in a file; CUSTOM when it is none of ours. normalizer: of the same file."""
    match steps:
        case ({"type": "Split", "pattern": {"String": " "}, "invert": False},) if _leaves_no_space(normalizer):
            return "none"  # Gemma's
    key = _key(steps)
    if not key:  # nothing cuts, and nothing spells bytes
        return "none"
    return next((entry.name for entry in PRETOKENIZERS.values() if key == _key(entry.steps)), CUSTOM)


def _key(steps: tuple[Step, ...]) -> tuple[object, ...]:
    """The steps without what does not change where a text is cut; a known pattern is its name."""
    key: list[object] = []
    for step in steps:
        match step:
            case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": cuts}:
                key += ["gpt2", "bytes"] if cuts else ["bytes"]
            case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
                key.append(name_of_pattern(pattern) or pattern)
            case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True} if (
                name_of_pattern(pattern) is not None  # such a pattern matches all of any text
            ):
                key.append(name_of_pattern(pattern))
            case _:
                key.append(tuple(sorted((name, str(value)) for name, value in step.items())))
    return tuple(key)


def _leaves_no_space(normalizer: tuple[Step, ...]) -> bool:
    """Whether no text holds a space after it: one step replaces them all, and none after that makes any."""
    spaces = True
    for step in normalizer:
        match step:
            case {"type": "Replace", "pattern": pattern, "content": str(content)}:
                spaces = " " in content or (spaces and pattern != {"String": " "})
            case {"type": "Prepend", "prepend": str(text)}:
                spaces = spaces or " " in text
            case {"type": "NFKC" | "NFKD" | "Precompiled" | "SentencePiece"}:  # U+00A0 becomes one
                spaces = True
    return not spaces


def split(name: str, text: bytes) -> list[bytes]:
    """Pieces of a document by definition, and the portable engine's scanner."""
    if name == "none":
        return [text] if text else []
    return byte_pieces(decode_text(text), PRETOKENIZERS[name].steps)


def byte_pieces(text: str, steps: tuple[Step, ...], at_start: bool = True) -> list[bytes]:
    """Pieces of a segment as the bytes that the model works with."""
    spelled = any(step["type"] == "ByteLevel" for step in steps)
    return [string_to_token(piece) if spelled else encode_text(piece) for piece in pieces_of(text, steps, at_start)]
