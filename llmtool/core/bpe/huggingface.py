"""Hugging Face BPE files read as ours: tokenizer.json, and what stands beside it.

Ids equal those of the `tokenizers` package. A setting that would change them and is not implemented exactly is refused
by name, never approximated.
The files come from anywhere: every value is checked before use, and nothing in them is run.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import compress
from operator import add
from pathlib import Path
from reprlib import Repr
from typing import Any

from llmtool.core.bpe.added_tokens import AddedToken, read_added_token
from llmtool.core.bpe.decoders import BYTE_TOKEN, read_decoder
from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.engine import plain_units
from llmtool.core.bpe.huggingface_config import read_settings_beside
from llmtool.core.bpe.normalizers import Step, read_normalizer
from llmtool.core.bpe.packed import PackedIds
from llmtool.core.bpe.policy import EncodingPolicy
from llmtool.core.bpe.post_processors import template
from llmtool.core.bpe.pretokenizer_steps import read_pretokenizer, refuse_unknown_start
from llmtool.core.bpe.pretokenizers import name_of_pattern, name_of_steps
from llmtool.core.bpe.stock_form import number_added_tokens
from llmtool.core.bpe.vocabulary import (
    LARGEST_ID,
    UNICODE_TO_BYTE,
    Alphabet,
    Unknown,
    Vocabulary,
    encode_text,
    find_unknown,
    strings_to_tokens,
)
from llmtool.core.run.errors import UserError, closest

SECTIONS = (
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
    "model",
)  # fmt: skip

NEUTRAL = {
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
}
"""Options of the model that are not implemented, and the values at which they do nothing."""

_repr = Repr()
_repr.maxstring = _repr.maxother = 100
_brief = _repr.repr
"""A value of any size in a message."""


def read_huggingface(
    facts: dict[str, Any],
    path: Path,
    encoders: Mapping[str, EncodingPolicy] | None = None,
    vocabulary: Vocabulary | None = None,
) -> Definition:
    """The tokenizer of a tokenizer.json, already parsed.

    encoders: by name, the encoders whose own exports are recognised, by writing the export anew and comparing.
    vocabulary: where it has been read before (compiled.py); the fields that hold it are then not looked at.
    """
    where = str(path)
    named: Mapping[str, str] | None = None
    if "named" in facts and not path.name.endswith("tokenizer.json"):  # read from another kind of file
        named = facts["named"]
        facts = {key: value for key, value in facts.items() if key != "named"}
    _refuse_unknown(facts, SECTIONS, "", where)
    if facts.get("version", "1.0") != "1.0":
        raise UserError(f"version {_brief(facts.get('version'))} is not '1.0'", where=where)
    # truncation and padding change every encoding that `tokenizers` makes; transformers resets them, and so it is here
    model = _model(facts, where)
    steps, further = _cut_at_byte_level(read_pretokenizer(facts.get("pre_tokenizer"), where, name_of_pattern))
    spells_bytes = any(step["type"] == "ByteLevel" for step in steps)
    exported = vocabulary is None and not model.get("merges")
    if vocabulary is None:
        numbers = _token_ids(model, where)
        added = _read_added_tokens(facts.get("added_tokens"), numbers, where)
        vocabulary = _read_vocabulary(model, numbers, added, "bytes" if spells_bytes else "characters", where)
    normalizer = read_normalizer(facts.get("normalizer"), where)
    refuse_unknown_start((*steps, *further), normalizer, where)
    definition = Definition(
        vocabulary=vocabulary,
        pretokenizer=name_of_steps(steps, normalizer),
        steps=steps,
        normalizer=normalizer,
        decoder=read_decoder(facts.get("decoder"), where),
        post_processor=facts.get("post_processor"),
        ignore_merges=_flag(model, "ignore_merges", "model.", where),
    )
    bos = _read_post_processor(facts.get("post_processor"), vocabulary.added_ids, where)
    if path.name == "tokenizer.json" or named is not None:
        beside = read_settings_beside(path.parent, vocabulary.added_ids, facts.get("pre_tokenizer"))
        definition = replace(definition, **beside)
        if facts.get("post_processor") is not None:  # which says itself what stands around a text
            definition = replace(definition, add_bos=False)
        elif definition.eos is not None and definition.beside.config.get("add_eos_token"):
            first = [definition.bos] if definition.add_bos and definition.bos else []
            around = template(first, [definition.eos], vocabulary.added_ids)
            definition = replace(definition, post_processor=around, add_bos=False)
    if bos is not None:
        definition = replace(definition, add_bos=True, bos=bos)
    for role, token in (named or {}).items():
        if role == "bos_token" and definition.bos is None:
            definition = replace(definition, bos=token)
        elif role == "eos_token" and definition.eos is None:
            definition = replace(definition, eos=token)
    if not further:
        return definition
    for name, policy in (encoders or {}).items() if exported else ():
        candidate = definition.with_encoder(name)
        with suppress(UserError):
            form = policy.to_huggingface(candidate)
            if all(form[key] == facts[key] for key in ("pre_tokenizer", "model")):
                return candidate
    steps = (*steps, *further)
    return replace(definition, pretokenizer=name_of_steps(steps, normalizer), steps=steps)


def _cut_at_byte_level(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps up to ByteLevel, and those after it: an encoder's own export, or a file's further cuts."""
    kinds = [step["type"] for step in steps]
    end = kinds.index("ByteLevel") + 1 if "ByteLevel" in kinds else len(kinds)
    return steps[:end], steps[end:]


def _refuse_unknown(facts: Mapping[str, Any], known: Iterable[str], prefix: str, where: str) -> None:
    for key in facts:
        if key not in known:
            raise UserError(f"unknown field {prefix}{_brief(key)}", where=where, hint=closest(key, list(known)))


def _flag(facts: Mapping[str, Any], key: str, prefix: str, where: str) -> bool:
    value = facts.get(key)
    if value is not None and not isinstance(value, bool):
        raise UserError(f"{prefix}{key} is {_brief(value)}, not true or false", where=where)
    return bool(value)


def _model(facts: dict[str, Any], where: str) -> dict[str, Any]:
    model = facts.get("model")
    if not isinstance(model, dict):
        raise UserError("model is not an object", where=where)
    kind = model.get("type", "BPE")  # absent in the first files of GPT-2
    if kind != "BPE":
        hint = (
            "SentencePiece's Unigram and BERT's WordPiece are other algorithms than BPE"
            if kind != "WordLevel"
            else None
        )
        raise UserError(f"model.type {_brief(kind)} is not implemented", where=where, hint=hint or "only BPE is")
    for key, neutral in NEUTRAL.items():
        if model.get(key) not in neutral:
            raise UserError(f"model.{key} {_brief(model[key])} is not implemented", where=where)
    return model


def _token_ids(model: dict[str, Any], where: str) -> dict[str, int]:
    """Spelling -> id of the model's tokens."""
    numbers = model.get("vocab")
    if not isinstance(numbers, dict):
        raise UserError("model.vocab is not an object", where=where)
    values = numbers.values()
    if not set(map(type, values)) <= {int} or not 0 <= min(values, default=0) <= max(values, default=0) <= LARGEST_ID:
        for text, number in numbers.items():
            _check_id(number, f"model.vocab[{_brief(text)}]", where)
    return numbers


def _check_id(number: Any, key: str, where: str) -> None:
    if type(number) is not int or not 0 <= number <= LARGEST_ID:
        what = f"{key} is {_brief(number)}, not an id"
        raise UserError(what, where=where, hint=f"whole numbers from 0 to {LARGEST_ID}")


def _read_added_tokens(tokens: Any, numbers: Mapping[str, int], where: str) -> tuple[AddedToken, ...]:
    """Added tokens in the file's order, without repeats; empty ones are nothing, as for `tokenizers`."""
    if not isinstance(tokens, list | None):
        raise UserError("added_tokens is not a list", where=where)
    added: dict[str, AddedToken] = {}
    for place, facts in enumerate(tokens or []):
        key = f"added_tokens[{place}]"
        token = read_added_token(facts, key, where)
        if not _is_unicode(token.content):
            raise UserError(f"{key} has no usable content", where=where)
        if token.content in added and added[token.content] != token:
            raise UserError(f"{key} {_brief(token.content)} is given twice", where=where)
        if token.content:
            added[token.content] = token
    for token, given in zip(added.values(), number_added_tokens(added, numbers), strict=True):
        if token.id != given:
            what = f"added token {_brief(token.content)} has id {token.id}, but `tokenizers` numbers it {given}"
            raise UserError(what, where=where, hint="save the tokenizer again with `tokenizers`")
    return tuple(added.values())


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _read_vocabulary(
    model: dict[str, Any], numbers: dict[str, int], added: tuple[AddedToken, ...], alphabet: Alphabet, where: str
) -> Vocabulary:
    """Units are the symbols, what merges join and make, and with ignore_merges every entry; the rest is unused."""
    fuse, byte_fallback = (_flag(model, key, "model.", where) for key in ("fuse_unk", "byte_fallback"))
    unknown = find_unknown(_text_or_none(model, "unk_token", where), fuse, byte_fallback, numbers)
    contents = {token.content for token in added}
    apart = {"", *contents, *([unknown.token] if unknown.token else [])}
    if unknown.byte_ids:
        apart.update(text for text in numbers if text[:3] == "<0x" and BYTE_TOKEN.fullmatch(text))
    whole = bool(model.get("ignore_merges"))
    plain = None if whole and unknown != Unknown() else _read_plain(model, numbers, {""} if whole else apart, alphabet)
    texts, units, merges = plain or _read_closely(model, numbers, apart, unknown, alphabet, where)
    rest = numbers.keys() - set(texts) if len(texts) < len(numbers) else set()
    unused = {text: numbers[text] for text in rest - contents}
    emit = PackedIds.single([numbers[text] for text in texts])
    vocabulary = Vocabulary(units, merges, emit, added, unused, unknown, alphabet)
    vocabulary.check_ids(f"{where}: model.vocab")  # the rest holds by how it was read
    return vocabulary


Read = tuple[list[str], Sequence[bytes], Sequence[tuple[int, int, int]]]
"""The texts of the units, their bytes, and the merges."""


def _in_order(numbers: dict[str, int], apart: set[str]) -> list[str]:
    """The texts that are units, by their ids."""
    listed = list(numbers.values())
    texts = list(numbers) if listed == sorted(listed) else sorted(numbers, key=numbers.__getitem__)
    return [text for text in texts if text not in apart] if apart & numbers.keys() else texts


def _read_plain(model: dict[str, Any], numbers: dict[str, int], apart: set[str], alphabet: Alphabet) -> Read | None:
    """As _read_closely, by the engine and some ten times as fast; None where a closer look is needed."""
    texts = _in_order(numbers, {text for text in apart if len(text) != 1})
    listed = model.get("merges")
    read = plain_units(texts, listed, alphabet) if isinstance(listed, list) else None
    return None if read is None else (texts, *read)


def _read_closely(
    model: dict[str, Any],
    numbers: dict[str, int],
    apart: set[str],
    unknown: Unknown,
    alphabet: Alphabet,
    where: str,
) -> Read:
    """By definition; apart: what is no unit, unless it is a symbol, is joined or is made."""
    lefts, rights = _read_merges(model, where)
    made = list(map(add, lefts, rights))
    parts = apart.intersection(lefts) | apart.intersection(rights)
    stray = next((t for t in parts if len(t) > 1 and (t == unknown.token or BYTE_TOKEN.fullmatch(t))), None)
    if stray is not None:
        raise UserError(f"model.merges join {_brief(stray)}, which stands for unknown text", where=where)
    if model.get("ignore_merges"):
        apart = {""}
    apart -= {text for text in apart if len(text) == 1} | parts | apart.intersection(made)
    texts = _in_order(numbers, apart)
    units, unspelled = _spelled(texts, alphabet)
    if unspelled:
        texts = [text for text in texts if text not in unspelled]
        kept = [not unspelled & {*three} for three in zip(lefts, rights, made, strict=True)]
        _check_merges(lefts, rights, made, numbers, where)
        lefts, rights, made = (list(compress(column, kept)) for column in (lefts, rights, made))
    unit_of = dict(zip(texts, range(len(texts)), strict=True))
    try:
        merges = list(zip(*(map(unit_of.__getitem__, column) for column in (lefts, rights, made)), strict=True))
    except KeyError:
        _check_merges(lefts, rights, made, numbers, where)
        raise
    if len(set(merges)) < len(merges):  # of a pair listed twice `tokenizers` keeps the last rank
        merges = list(dict.fromkeys(reversed(merges)))[::-1]
    return texts, units, merges


def _read_merges(model: dict[str, Any], where: str) -> tuple[list[str], list[str]]:
    """Left and right of each pair in rank order."""
    listed = model.get("merges")
    if not isinstance(listed, list):
        raise UserError("model.merges is not a list", where=where)
    pairs: list[Any] = listed
    if set(map(type, listed)) != {list}:
        lines = [entry for entry in listed if not (isinstance(entry, str) and entry.startswith("#version"))]
        pairs = [entry.split(" ") if isinstance(entry, str) else entry for entry in lines]
    if not (set(map(type, pairs)) <= {list} and set(map(len, pairs)) <= {2}):
        place, pair = next((n, p) for n, p in enumerate(listed) if not _is_pair(p))
        raise UserError(f"model.merges[{place}] {_brief(pair)} is not a pair of tokens", where=where)
    lefts, rights = ([pair[side] for pair in pairs] for side in (0, 1))
    if not set(map(type, lefts)) | set(map(type, rights)) <= {str}:
        place, pair = next((n, p) for n, p in enumerate(listed) if not _is_pair(p))
        raise UserError(f"model.merges[{place}] {_brief(pair)} is not a pair of tokens", where=where)
    return lefts, rights


def _is_pair(entry: Any) -> bool:
    if isinstance(entry, str):
        return entry.startswith("#version") or len(entry.split(" ")) == 2
    return isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)


def _check_merges(lefts: list[str], rights: list[str], made: list[str], numbers: Mapping[str, int], where: str) -> None:
    """Refuse a merge of what is no entry of the vocabulary, by its place."""
    for rank, texts in enumerate(zip(lefts, rights, made, strict=True)):
        missing = next((text for text in texts if text not in numbers), None)
        if missing is not None:
            what = f"model.merges[{rank}] joins or makes {_brief(missing)}, not in model.vocab"
            raise UserError(what, where=where)


def _text_or_none(model: dict[str, Any], key: str, where: str) -> str | None:
    value = model.get(key)
    if value is not None and not isinstance(value, str):
        raise UserError(f"model.{key} is {_brief(value)}, not a text", where=where)
    return value


def _spelled(texts: list[str], alphabet: Alphabet) -> tuple[list[bytes], set[str]]:
    """Bytes of each text that spells some, and the other texts."""
    if alphabet == "characters":
        return list(map(encode_text, texts)), set()
    try:
        return strings_to_tokens(texts), set()
    except KeyError:
        unspelled = {text for text in texts if any(character not in UNICODE_TO_BYTE for character in text)}
        return strings_to_tokens([text for text in texts if text not in unspelled]), unspelled


def _steps(component: Any, key: str, inner: str, where: str) -> list[dict[str, Any]]:
    """The steps of a component: itself, or the members of a Sequence (one level: none of the known kinds nests)."""
    if component is None:
        return []
    whole = isinstance(component, dict) and component.get("type") == "Sequence"
    steps: Any = component.get(inner) if whole else [component]
    if not isinstance(steps, list) or not all(isinstance(s, dict) and isinstance(s.get("type"), str) for s in steps):
        raise UserError(f"{key} is not a component with a type", where=where)
    return list(steps)


def _read_post_processor(component: Any, added: Mapping[str, int], where: str) -> str | None:
    """The token that a template puts before a text, where that is all it does; ByteLevel concerns offsets only."""
    bos: str | None = None
    for step in _steps(component, "post_processor", "processors", where):
        if step["type"] in ("ByteLevel", "RobertaProcessing", "BertProcessing"):
            continue
        if step["type"] != "TemplateProcessing":
            raise UserError(f"post_processor {_brief(step['type'])} is not implemented", where=where)
        tokens = step.get("special_tokens")
        for text, entry in tokens.items() if isinstance(tokens, dict) else ():
            if text in added and (not isinstance(entry, dict) or entry.get("ids") != [added[text]]):
                raise UserError(f"post_processor: {_brief(text)} is not the added token of that name", where=where)
        match step.get("single"):
            case [{"SpecialToken": {"id": str(token)}}, {"Sequence": {"id": "A"}}] if bos is None:
                if token not in added or not isinstance(tokens, dict) or token not in tokens:
                    raise UserError(f"post_processor: {_brief(token)} is not the added token of that name", where=where)
                bos = token
    return bos
