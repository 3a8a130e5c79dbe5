"""Files of ranks, as `tiktoken` reads them, and Mistral's tekken.json: read as the tokenizer.json that means the same.

A rank file (cl100k_base.tiktoken, qwen.tiktoken, Llama 3's tokenizer.model) holds a line `base64 rank` a token. The
definition: a piece that is a token is one; else of all neighbours that spell a token those with the lowest rank are
merged, leftmost first, until none do. Every way to make a token of two others is therefore a merge, by its rank. What
cuts a text stands elsewhere: in NAME.json beside NAME.tiktoken, as `tokenizer export --to tiktoken` writes it, or it is
known by the file's name. A tekken.json holds all of it; its ids begin behind its special tokens.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmtool.core.bpe.added_tokens import FLAGS
from llmtool.core.bpe.normalizers import NFC
from llmtool.core.bpe.pretokenizer_steps import pieces_of
from llmtool.core.bpe.pretokenizers import BYTES, PRETOKENIZERS, isolating
from llmtool.core.bpe.vocabulary import token_to_string
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.numbers import whole

LONGEST = 1024
"""Bytes of a token; those of published files have up to 128."""

_CHAT = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
_LLAMA3 = {
    "<|begin_of_text|>": 128000, "<|end_of_text|>": 128001, "<|start_header_id|>": 128006,
    "<|end_header_id|>": 128007, "<|eot_id|>": 128009,
}  # fmt: skip
_FILL = {"<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260}
_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++\z|\s*[\r\n]|\s+(?!\S)|\s"
)
"""As tiktoken 0.14 has it: white space that ends a text is one piece, which the pre-tokenizer `cl100k`, Llama 3's too,
cuts behind its last newline. Written as a tokenizer.json means it: {n,m} for {n,m}+, and \\z for $."""

KNOWN: dict[str, tuple[str, dict[str, int]]] = {
    "gpt2": ("gpt2", {"<|endoftext|>": 50256}),
    "r50k_base": ("gpt2", {"<|endoftext|>": 50256}),
    "p50k_base": ("gpt2", {"<|endoftext|>": 50256}),
    "cl100k_base": (_CL100K, {"<|endoftext|>": 100257, **_FILL, "<|endofprompt|>": 100276}),
    "o200k_base": ("o200k", {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}),
    "qwen": ("qwen2", _CHAT | {f"<|extra_{number}|>": 151646 + number for number in range(205)}),
    "llama3": ("llama3", _LLAMA3),
}
"""Published files by name: the pre-tokenizer or the pattern, and the special tokens, which no file holds. Of Llama 3's
those that all versions share."""
LLAMA3_RANKS = 128_000
"""What tells Llama 3's tokenizer.model, which is called like SentencePiece's."""

TEKKEN_SPECIAL = [
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
]  # fmt: skip
"""Of a tekken.json that lists none, by their ids; the rest of its places are called <SPECIAL_id>."""

_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d{1,9}\r?(\n|$)")


def is_ranks(data: bytes) -> bool:
    """Whether bytes are a file of ranks: its first line tells."""
    return _LINE.match(data) is not None


def pattern_beside(path: Path) -> Path:
    """Where the pattern and the special tokens of a rank file may stand; a tokenizer.json is another file."""
    return path.with_suffix(".json" if path.stem != "tokenizer" else ".tiktoken.json")


def read_ranks(data: bytes, path: Path) -> dict[str, Any]:
    """The tokenizer.json of a rank file, and under "named" what begins and ends a text."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        token, _, rank = line.partition(b" ")
        _put(ranks, token, rank.strip().decode("ascii", "replace"), f"{path}, line {number}")
    beside = pattern_beside(path)
    if beside.is_file():
        facts = read_json_object(beside)
        cut, special = _cut_by(facts.get("pat_str"), str(beside)), _special(facts.get("special_tokens", {}), beside)
        named = {f"{role}_token": facts[role] for role in ("bos", "eos") if facts.get(role) in special}
        return _tokenizer_json(ranks, cut, special, named, str(path))
    name = path.name.removesuffix(".tiktoken")
    if path.suffix == ".model" and len(ranks) == LLAMA3_RANKS:
        name = "llama3"
    if name not in KNOWN:
        what = "a rank file of tiktoken's, which does not say how a text is cut"
        hint = f'put {beside.name} beside it: {{"pat_str": PATTERN, "special_tokens": {{TOKEN: ID}}}}'
        raise UserError(what, where=str(path), hint=hint)
    kind, special = KNOWN[name]
    ends = [token for token in ("<|endoftext|>", "<|end_of_text|>") if token in special]
    named = {"eos_token": ends[0]} | ({"bos_token": "<|begin_of_text|>"} if name == "llama3" else {})
    steps = PRETOKENIZERS[kind].steps if kind in PRETOKENIZERS else (isolating(kind), BYTES)
    made = _tokenizer_json(ranks, steps, special, named, str(path))
    return made | {"normalizer": dict(NFC)} if name == "qwen" else made


def is_tekken(facts: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a tekken.json."""
    config = facts.get("config")
    return isinstance(config, dict) and "pattern" in config and isinstance(facts.get("vocab"), list)


def read_tekken(facts: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The tokenizer.json of a tekken.json: its first ids are special tokens, named or not."""
    config = facts["config"]
    count, size = (_whole(config.get(f"default_{name}"), name, where) for name in ("num_special_tokens", "vocab_size"))
    if size < count:
        raise UserError(f"vocab_size {size} is less than its {count} special tokens", where=where)
    listed = facts.get("special_tokens")
    given = listed if listed is not None else [{"token_str": text} for text in TEKKEN_SPECIAL[:count]]
    if not isinstance(given, list) or len(given) > count:
        raise UserError("special_tokens: not a list of as many as there are places", where=where)
    special = {f"<SPECIAL_{number}>": number for number in range(len(given), count)}
    for place, entry in enumerate(given):
        text = entry.get("token_str") if isinstance(entry, dict) else None
        number = _whole(entry.get("rank", place), "rank", where) if isinstance(entry, dict) else place
        if not isinstance(text, str) or text in special or number >= count:
            raise UserError(f"special_tokens[{place}] is not a token with a place of its own", where=where)
        special[text] = number
    ranks: dict[bytes, int] = {}
    for place, entry in enumerate(facts["vocab"][: size - count]):
        if not isinstance(entry, dict) or not isinstance(entry.get("token_bytes"), str):
            raise UserError(f"vocab[{place}] is not a token", where=where)
        number = _whole(entry.get("rank"), f"vocab[{place}].rank", where) + count
        _put(ranks, entry["token_bytes"].encode("ascii", "replace"), str(number), f"{where}, vocab[{place}]")
    named = {f"{role}_token": text for role, text in (("bos", "<s>"), ("eos", "</s>")) if text in special}
    return _tokenizer_json(ranks, _cut_by(config["pattern"], where), special, named, where)


def _put(ranks: dict[bytes, int], spelled: bytes, rank: str, where: str) -> None:
    try:
        token = base64.b64decode(spelled, validate=True)
    except binascii.Error:
        raise UserError("not base64", where=where, hint="is the file complete?") from None
    if not token or len(token) > LONGEST or not rank.isdecimal() or len(rank) > 9:
        raise UserError(f"not a token of 1 to {LONGEST} bytes and its rank", where=where)
    if token in ranks:
        raise UserError(f"token {token!r:.60} stands here again", where=where)
    ranks[token] = whole(rank, "rank", where=where)


def _whole(value: Any, name: str, where: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 24:
        raise UserError(f"{name} {value!r:.40} is not a count", where=where)
    return value


def _cut_by(pattern: Any, where: str) -> list[dict[str, Any]]:
    """The steps of a pattern: of the pre-tokenizer that it is, else its own."""
    if not isinstance(pattern, str) or not pattern:
        raise UserError("no pattern (pat_str) says how a text is cut", where=where)
    if pattern == r"[\s\S]+":
        return [dict(BYTES)]
    for known in PRETOKENIZERS.values():
        if pattern in (known.pattern, *known.aliases):
            return [dict(step) for step in known.steps]
    if pattern.replace("{1,3}+", "{1,3}").replace("$", r"\z") == _CL100K:
        return [dict(isolating(_CL100K)), dict(BYTES)]
    if re.search(r"\}\+|\$", pattern):  # possessive and the text's end in tiktoken, repeated and a line's elsewhere
        what = "a pattern with {n,m}+ or $ is not implemented"
        raise UserError(what, where=where, hint=r"write {n,m} where it means that, and \z for the text's end")
    return [dict(isolating(pattern)), dict(BYTES)]


def _special(given: Any, path: Path) -> dict[str, int]:
    if not isinstance(given, dict):
        raise UserError("special_tokens is not an object", where=str(path))
    return {text: _whole(number, f"special_tokens[{text!r:.60}]", str(path)) for text, number in given.items()}


def _tokenizer_json(
    ranks: Mapping[bytes, int], steps: Sequence[Mapping[str, Any]], special: Mapping[str, int],
    named: Mapping[str, str], where: str,
) -> dict[str, Any]:  # fmt: skip
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise UserError(f"{len(missing)} bytes have no rank, 0x{missing[0]:02x} is the first", where=where)
    if len({*ranks.values(), *special.values()}) < len(ranks) + len(special):
        raise UserError("two tokens have the same rank", where=where)
    numbers = {token_to_string(token): number for token, number in ranks.items()}
    merges = _merges(numbers)
    added = [
        {"id": number, "content": text, **{flag: flag == "special" for flag in FLAGS}}
        for text, number in sorted(special.items(), key=lambda item: item[1])
    ]
    if [token["id"] for token in added] != list(range(len(ranks), len(ranks) + len(added))):
        for text, number in special.items():  # a tokenizer.json can number others than the next ones only so
            if text in numbers or len(pieces_of(text, steps)) == 1:
                what = f"special token {text!r:.60} is a piece of text too, which is not implemented"
                raise UserError(what, where=where, hint=f"give it an id from {len(ranks)} on, without gaps")
            numbers[text] = number
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [dict(step) for step in steps]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel"},
        "added_tokens": added,
        "model": {"type": "BPE", "vocab": numbers, "merges": merges, "ignore_merges": True},
        "named": dict(named),
    }


def _merges(numbers: Mapping[str, int]) -> list[str]:
    """Every way to make a token of two others, by its rank."""
    merges = [
        (number, numbers[text[:place]], text[:place], text[place:])
        for text, number in numbers.items()
        for place in range(1, len(text))
        if text[:place] in numbers and text[place:] in numbers
    ]
    merges.sort()
    return [f"{left} {right}" for _, _, left, right in merges]
