"""The tokenizer in a GGUF file -> tokenizer.json and tokenizer_config.json.

Two models: "gpt2", byte-level BPE whose pre-tokenizer is known by a name, and "llama", SentencePiece's BPE, whose
merges are found again from the scores: of two pieces that join to a third, the better the third's score the earlier.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import whole

CONTROL, DEFINED, BYTE = 3, 4, 6
"""tokenizer.ggml.token_type of special tokens, of tokens that a user added, of single bytes."""

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def _byte_level(regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex}


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _byte_level(False)]}


PRETOKENIZERS: Mapping[str, dict[str, Any]] = {
    "gpt-2": _byte_level(True),
    "smollm": {
        "type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _byte_level(True)],
    },
    "llama-bpe": _split(_LLAMA3),
    "qwen2": _split(_QWEN2),
}  # fmt: skip
"""tokenizer.ggml.pre -> what stands in tokenizer.json."""


def tokenizer_json(facts: Mapping[str, Any], where: str) -> dict[str, Any]:
    """tokenizer.json of a file's metadata."""
    tokens, kinds = facts.get("tokenizer.ggml.tokens"), facts.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, list) or not isinstance(kinds, list) or len(tokens) != len(kinds):
        raise UserError("holds no tokenizer", where=where)
    if len(set(tokens)) != len(tokens):
        raise UserError("two tokens of its vocabulary have one spelling", where=where)
    model = facts.get("tokenizer.ggml.model")
    common = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [_added(token, text, kinds[token]) for token, text in enumerate(tokens)
                         if kinds[token] in (CONTROL, DEFINED)],
        "post_processor": _beginning(facts, tokens),
    }  # fmt: skip
    if model == "gpt2":
        name = facts.get("tokenizer.ggml.pre")
        if not isinstance(name, str) or name not in PRETOKENIZERS:
            known = ", ".join(PRETOKENIZERS)
            raise UserError(f"tokenizer.ggml.pre {name!r} is not known: wanted one of {known}", where=where)
        bpe = _bpe(tokens, [line.split(" ", 1) for line in facts.get("tokenizer.ggml.merges") or []])
        bpe["ignore_merges"] = name == "llama-bpe"
        decoder = {**_byte_level(True), "add_prefix_space": True}
        normalizer = {"type": "NFC"} if name == "qwen2" else None
        return {**common, "normalizer": normalizer, "pre_tokenizer": PRETOKENIZERS[name], "decoder": decoder,
                "model": bpe}  # fmt: skip
    if model == "llama":
        return {**common, **_sentencepiece(facts, tokens, kinds, where)}
    raise UserError(f"tokenizer.ggml.model {model!r} is not known: wanted gpt2 or llama", where=where)


def tokenizer_config(facts: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json: special tokens and the chat template."""
    tokens = facts["tokenizer.ggml.tokens"]
    keys = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    special = {
        f"{name}_token": _token(tokens, facts[f"tokenizer.ggml.{key}_token_id"])
        for name, key in keys.items()
        if facts.get(f"tokenizer.ggml.{key}_token_id") is not None
    }
    template = facts.get("tokenizer.chat_template")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", **special, "clean_up_tokenization_spaces": False,
        **({"chat_template": template} if isinstance(template, str) else {}),
    }  # fmt: skip


def _token(tokens: Sequence[str], number: Any) -> str:
    """The token of an id that the file names."""
    return tokens[whole(number, "token id", high=len(tokens) - 1)]


def _added(token: int, text: str, kind: int) -> dict[str, Any]:
    return {
        "id": token, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": kind == CONTROL,
    }  # fmt: skip


def _beginning(facts: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any] | None:
    """A template that puts the beginning-of-text token first, where the file asks for it."""
    first = facts.get("tokenizer.ggml.bos_token_id")
    asked = facts.get("tokenizer.ggml.add_bos_token")
    asked = facts.get("tokenizer.ggml.model") == "llama" if asked is None else asked
    if not asked or first is None:
        return None
    text = _token(tokens, first)
    special, a = {"SpecialToken": {"id": text, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing", "single": [special, a],
        "pair": [special, a, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {text: {"id": text, "ids": [whole(first, "bos_token_id")], "tokens": [text]}},
    }  # fmt: skip


def _bpe(tokens: Sequence[str], merges: Sequence[Sequence[str]]) -> dict[str, Any]:
    return {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": {text: token for token, text in enumerate(tokens)}, "merges": [list(pair) for pair in merges],
    }  # fmt: skip


def _sentencepiece(facts: Mapping[str, Any], tokens: Sequence[str], kinds: Sequence[int], where: str) -> dict[str, Any]:
    scores = facts.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise UserError("its tokenizer has no scores to find merges by", where=where)
    unknown = facts.get("tokenizer.ggml.unknown_token_id")
    prefix = facts.get("tokenizer.ggml.add_space_prefix", True)
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    before = [{"type": "Prepend", "prepend": "\u2581"}] if prefix else []
    after = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    model = _bpe(tokens, merges_of(tokens, kinds, scores))
    model |= {
        "unk_token": None if unknown is None else _token(tokens, unknown), "fuse_unk": True,
        "byte_fallback": BYTE in kinds,
    }  # fmt: skip
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*before, space]}, "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *after]},
        "model": model,
    }  # fmt: skip


def merges_of(tokens: Sequence[str], kinds: Sequence[int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """The merges of SentencePiece's BPE in order: every pair of pieces that join to a piece, the best score first.

    Of pairs that make one piece those with earlier tokens come first, as transformers orders them.
    """
    plain = {text: token for token, text in enumerate(tokens) if kinds[token] not in (CONTROL, BYTE)}
    pairs = []
    for text, token in plain.items():
        for place in range(1, len(text)):
            left, right = text[:place], text[place:]
            if left in plain and right in plain:
                pairs.append((-scores[token], token, plain[left], plain[right], left, right))
    pairs.sort(key=lambda pair: pair[:4])
    return [(left, right) for *_, left, right in pairs]
