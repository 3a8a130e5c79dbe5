"""What a tokenizer is and how it cuts a text, as facts for JSON and lines for people: `llmtool tokenizer inspect`."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.bpe.vocabulary import Vocabulary, decode_text, encode_text, string_to_token, token_to_string
from llmtool.core.run.numbers import whole


def show(token: bytes) -> str:
    """A token for people: its text where it is text, with white space and undecodable bytes spelled out."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in token)
    escapes = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", " ": "·"}
    return "".join(escapes.get(c, c if c.isprintable() else c.encode("unicode_escape").decode()) for c in text)


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:32]}...({len(text)} characters)"


def describe(tokenizer: BaseTokenizer) -> dict[str, Any]:
    """The tokenizer as a whole."""
    definition, vocabulary = tokenizer.definition, tokenizer.definition.vocabulary
    tokens = vocabulary.id_of
    longest = sorted(tokens, key=lambda token: (-len(token), token))[:5]
    return {
        "schema": "llmtool.tokenizer-inspect/1",
        "algorithm": definition.algorithm,
        "encoder": definition.encoder,
        **({"length": definition.length, "ties": definition.ties} if definition.encoder == "lbpe" else {}),
        "pretokenizer": definition.pretokenizer,
        "normalizer": definition.normalizer_name,
        "ignore_merges": definition.ignore_merges,
        "vocab_size": tokenizer.vocab_size,
        "tokens": tokenizer.token_count,
        "merges": len(vocabulary.merges),
        "scaffolds": len(vocabulary.scaffolds),
        "special_tokens": tokenizer.special_tokens,
        **({"other_added_tokens": others} if (others := _not_special(tokenizer)) else {}),
        "bos": definition.bos,
        "eos": definition.eos,
        "longest_tokens": [_shortened(show(token)) for token in longest],
        "training": definition.training,
        "sha256": tokenizer.fingerprint(),
    }


def _not_special(tokenizer: BaseTokenizer) -> dict[str, int]:
    """Added tokens that always match."""
    special = tokenizer.special_tokens
    return {text: number for text, number in tokenizer.added_tokens.items() if text not in special}


def explain(tokenizer: BaseTokenizer, text: str) -> dict[str, Any]:
    """How a text is cut: pieces, units (scaffolds marked), ids."""
    vocabulary = tokenizer.definition.vocabulary
    pieces = []
    for piece, units in tokenizer.explain(text):
        cut = [_unit_of_text(vocabulary, unit) for unit in units]
        pieces.append({"piece": show(piece), "units": cut})
    ids = tokenizer.encode(text)
    return {"schema": "llmtool.tokenizer-inspect/1", "text": text, "ids": ids, "pieces": pieces}


def _unit_of_text(vocabulary: Vocabulary, unit: int) -> dict[str, Any]:
    """A unit of a cut text: its text, ids, and a scaffold's parts. Beyond the units stands what is unknown."""
    if unit >= len(vocabulary.units):
        number = vocabulary.unknown_ids[unit - len(vocabulary.units)]
        return {"text": vocabulary.spellings[number], "ids": [number]}
    ids = vocabulary.emit[unit]
    scaffold = {"scaffold": [show(vocabulary.tokens[i]) for i in ids]} if len(ids) > 1 else {}
    return {"text": show(vocabulary.units[unit]), "ids": list(ids), **scaffold}


def token_facts(tokenizer: BaseTokenizer, text: str) -> dict[str, Any] | None:
    """What is known of a token or scaffold named by its text, its GPT-2 spelling, or #ID; None if it is none."""
    vocabulary = tokenizer.definition.vocabulary
    if text in vocabulary.added_ids:
        return {"token": text, "id": vocabulary.added_ids[text], "special": text in vocabulary.special}
    if text.startswith("#") and text[1:].isdecimal() and text.isascii():
        number = whole(text[1:], "token")
        token = tokenizer.token_bytes(number)
        if token not in vocabulary.unit_of:
            return {"token": decode_text(token), "id": number, "special": True}
        return _unit_facts(tokenizer, vocabulary.unit_of[token])
    spellings = [encode_text(text)]
    with suppress(KeyError):
        spellings.append(string_to_token(text))
    unit = next((vocabulary.unit_of[token] for token in spellings if token in vocabulary.unit_of), None)
    return None if unit is None else _unit_facts(tokenizer, unit)


def _unit_facts(tokenizer: BaseTokenizer, unit: int) -> dict[str, Any]:
    vocabulary = tokenizer.definition.vocabulary
    token, ids = vocabulary.units[unit], vocabulary.emit[unit]
    made = [
        {"rank": rank, "left": show(vocabulary.units[left]), "right": show(vocabulary.units[right])}
        for rank, (left, right, result) in enumerate(vocabulary.merges)
        if result == unit
    ]
    used = sum(unit in (left, right) for left, right, _ in vocabulary.merges)
    facts: dict[str, Any] = {"token": show(token), "spelling": token_to_string(token), "bytes": token.hex(" ")}
    if len(ids) == 1:
        facts["id"] = ids[0]
    else:
        facts["scaffold"] = [show(vocabulary.tokens[i]) for i in ids]
        facts["ids"] = list(ids)
    return {**facts, "made_by": made, "used_by_merges": used}


def lines_of_text(facts: dict[str, Any]) -> Iterator[str]:
    """A text's cut for people: one line a piece, scaffolds in angle brackets with the parts that are written."""
    width = min(24, max((len(entry["piece"]) for entry in facts["pieces"]), default=0))
    for entry in facts["pieces"]:
        cut = []
        for unit in entry["units"]:
            numbers = " ".join(map(str, unit["ids"]))
            parts = f"<{unit['text']}> = {' + '.join(unit['scaffold'])}" if "scaffold" in unit else unit["text"]
            cut.append(f"{parts} [{numbers}]")
        yield f"{entry['piece']:{width}}  {'  '.join(cut)}"
    number = len(facts["ids"])
    yield f"{number} token{'s' if number != 1 else ''}, {len(encode_text(facts['text']))} bytes"


MOST_TOKENS = 40
"""Special tokens named one by one; models keep hundreds of places free."""


def lines_of_facts(facts: dict[str, Any]) -> Iterator[str]:
    """Facts for people, one a line."""
    for key, value in facts.items():
        if key == "schema":
            continue
        if key == "made_by":
            value = ", ".join(f"{m['left']} + {m['right']} (rank {m['rank']})" for m in value) or "nothing: a byte"
        elif key == "training":
            for name, fact in value.items():
                yield f"  {name.replace('_', ' '):17} {fact:,}" if isinstance(fact, int) else f"  {name:17} {fact}"
            continue
        elif isinstance(value, dict):
            first = ", ".join(f"{name} {number}" for name, number in list(value.items())[:MOST_TOKENS]) or "none"
            value = first + (f", ... ({len(value):,} in all)" if len(value) > MOST_TOKENS else "")
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        elif value is None or isinstance(value, bool):
            value = {None: "none", True: "yes", False: "no"}[value]
        yield f"{key.replace('_', ' '):19} {value}"


def inspect(tokenizer: BaseTokenizer, text: str | None) -> tuple[dict[str, Any], list[str]]:
    """Facts and lines: of the tokenizer; of a text; and where the text is itself a token, of that token too."""
    if text is None:
        facts = describe(tokenizer)
        return facts, list(lines_of_facts(facts))
    token = token_facts(tokenizer, text)
    if token and (text.startswith("#") or token.get("special")):
        return {"schema": "llmtool.tokenizer-inspect/1", **token}, list(lines_of_facts(token))
    facts = explain(tokenizer, text)
    lines = list(lines_of_text(facts))
    return {**facts, "token": token}, lines + (["", *lines_of_facts(token)] if token else [])
