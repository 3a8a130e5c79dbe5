"""Hugging Face byte-level BPE files read as ours: tokenizer.json, and what stands beside it.

Ids equal those of the `tokenizers` package. A setting that would change them and is not implemented exactly is refused
by name, never approximated. Added tokens become special tokens: plain text unless special tokens are allowed.
The files come from anywhere: every value is checked before use, and nothing in them is run.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from reprlib import Repr
from typing import Any

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.huggingface_config import read_settings_beside
from llmtool.core.bpe.policy import EncodingPolicy
from llmtool.core.bpe.pretokenizers import name_of_pattern
from llmtool.core.bpe.stock_form import number_added_tokens
from llmtool.core.bpe.vocabulary import UNICODE_TO_BYTE, Vocabulary, string_to_token
from llmtool.core.run.errors import UserError, closest

LARGEST_ID = 1 << 24
"""Ids index tables: a larger one is a broken file, not a vocabulary."""

LONGEST_ADDED_TOKEN = 1000
"""Characters; the check for overlapping added tokens is quadratic in it."""

SECTIONS = (
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
    "model",
)  # fmt: skip

NEUTRAL = {
    "dropout": (None, 0),
    "unk_token": (None, ""),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (None, False),
    "byte_fallback": (None, False),
}
"""Options of the model, and the values at which they do nothing."""

_repr = Repr()
_repr.maxstring = _repr.maxother = 100
_brief = _repr.repr
"""A value of any size in a message."""


def read_huggingface(
    facts: dict[str, Any], path: Path, encoders: Mapping[str, EncodingPolicy] | None = None
) -> Definition:
    """The tokenizer of a tokenizer.json, already parsed.

    encoders: by name, the encoders whose own exports are recognised, by writing the export anew and comparing.
    """
    where = str(path)
    _refuse_unknown(facts, SECTIONS, "", where)
    if facts.get("version") != "1.0":
        raise UserError(f"version {_brief(facts.get('version'))} is not '1.0'", where=where)
    for key in ("truncation", "padding"):
        if facts.get(key) is not None:
            raise UserError(f"{key} is set, and it changes ids", where=where, hint=f"set {key} to null")
    model = _model(facts, where)
    numbers = _token_ids(model, where)
    normalizer = _read_normalizer(facts.get("normalizer"), where)
    special = _read_added_tokens(facts.get("added_tokens", []), numbers, normalizer, where)
    vocabulary = _read_vocabulary(model, numbers, special, where)
    decoder = _steps(facts.get("decoder"), "decoder", "decoders", where)
    if [step["type"] for step in decoder] != ["ByteLevel"]:
        raise UserError(f"decoder {_names(decoder)} is not implemented", where=where, hint="only ByteLevel is")
    pretokenizer, further = _read_pretokenizer(facts.get("pre_tokenizer"), where)
    bos = _read_post_processor(facts.get("post_processor"), special, where)
    definition = Definition(
        vocabulary=vocabulary,
        pretokenizer=pretokenizer,
        normalizer=normalizer,
        ignore_merges=_flag(model, "ignore_merges", "model.", where),
    )
    if path.name == "tokenizer.json":
        definition = replace(definition, **read_settings_beside(path.parent, special))
    if bos is not None:
        definition = replace(definition, add_bos=True, bos=bos)
    if not further:
        return definition
    for name, policy in (encoders or {}).items():
        candidate = definition.with_encoder(name)
        with suppress(UserError):
            form = policy.to_huggingface(candidate)
            if all(form[key] == facts[key] for key in ("pre_tokenizer", "model")):
                return candidate
    raise UserError(f"pre_tokenizer: {_names(further)} after ByteLevel is not implemented", where=where)


def _refuse_unknown(facts: Mapping[str, Any], known: Iterable[str], prefix: str, where: str) -> None:
    for key in facts:
        if key not in known:
            raise UserError(f"unknown field {prefix}{_brief(key)}", where=where, hint=closest(key, list(known)))


def _flag(facts: Mapping[str, Any], key: str, prefix: str, where: str) -> bool:
    value = facts.get(key)
    if value is not None and not isinstance(value, bool):
        raise UserError(f"{prefix}{key} is {_brief(value)}, not true or false", where=where)
    return bool(value)


def _steps(component: Any, key: str, inner: str, where: str) -> list[dict[str, Any]]:
    """The steps of a component: itself, or the members of a Sequence (one level: none of the known kinds nests)."""
    if component is None:
        return []
    whole = isinstance(component, dict) and component.get("type") == "Sequence"
    steps: Any = component.get(inner) if whole else [component]
    if not isinstance(steps, list) or not all(isinstance(s, dict) and isinstance(s.get("type"), str) for s in steps):
        raise UserError(f"{key} is not a component with a type", where=where)
    return list(steps)


def _names(steps: list[dict[str, Any]]) -> str:
    return _brief(" then ".join(step["type"] for step in steps)) if steps else "null"


def _model(facts: dict[str, Any], where: str) -> dict[str, Any]:
    model = facts.get("model")
    if not isinstance(model, dict):
        raise UserError("model is not an object", where=where)
    kind = model.get("type", "BPE")  # absent in the first files of GPT-2
    if kind != "BPE":
        raise UserError(f"model.type {_brief(kind)} is not implemented", where=where, hint="only byte-level BPE is")
    _refuse_unknown(model, ("type", "vocab", "merges", "ignore_merges", *NEUTRAL), "model.", where)
    for key, neutral in NEUTRAL.items():
        if model.get(key) not in neutral:
            raise UserError(f"model.{key} {_brief(model[key])} is not implemented", where=where)
    return model


def _token_ids(model: dict[str, Any], where: str) -> dict[str, int]:
    """Spelling -> id of the model's tokens."""
    numbers = model.get("vocab")
    if not isinstance(numbers, dict):
        raise UserError("model.vocab is not an object", where=where)
    for text, number in numbers.items():
        _check_id(number, f"model.vocab[{_brief(text)}]", where)
    return numbers


def _check_id(number: Any, key: str, where: str) -> None:
    if type(number) is not int or not 0 <= number < LARGEST_ID:
        what = f"{key} is {_brief(number)}, not an id"
        raise UserError(what, where=where, hint=f"whole numbers from 0 to {LARGEST_ID - 1}")


def _read_normalizer(component: Any, where: str) -> str | None:
    kinds = [step["type"] for step in _steps(component, "normalizer", "normalizers", where)]
    if not set(kinds) <= {"NFC"}:
        unknown = next(kind for kind in kinds if kind != "NFC")
        raise UserError(f"normalizer {_brief(unknown)} is not implemented", where=where, hint="only NFC is")
    return "NFC" if kinds else None


def _read_added_tokens(tokens: Any, numbers: Mapping[str, int], normalizer: str | None, where: str) -> dict[str, int]:
    """Added token -> id; what would be matched otherwise than here is refused."""
    if not isinstance(tokens, list):
        raise UserError("added_tokens is not a list", where=where)
    special: dict[str, int] = {}
    classes: dict[bool, list[str]] = {False: [], True: []}
    for place, token in enumerate(tokens):
        key = f"added_tokens[{place}]"
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or not 0 < len(content) <= LONGEST_ADDED_TOKEN or not _is_unicode(content):
            raise UserError(f"{key} has no usable content", where=where)
        if content in special:
            raise UserError(f"{key} {_brief(content)} is given twice", where=where)
        _refuse_unknown(
            token, ("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"), f"{key}.", where
        )
        for flag in ("single_word", "lstrip", "rstrip"):
            if _flag(token, flag, f"{key}.", where):
                raise UserError(f"{key} {_brief(content)}: {flag} is not implemented", where=where)
        if not _flag(token, "special", f"{key}.", where) and not (content[0] in "<[" and content[-1] in ">]"):
            what = f"{key} {_brief(content)} is ordinary text that is matched before all else: not implemented"
            raise UserError(what, where=where, hint="only markup such as <think> may have special: false")
        _check_id(token.get("id"), f"{key}.id", where)
        special[content] = token["id"]
        classes[_flag(token, "normalized", f"{key}.", where)].append(content)
    if normalizer and classes[True]:
        what = f"added token {_brief(classes[True][0])}: normalized with a normalizer is not implemented"
        raise UserError(what, where=where)
    _refuse_overlap(classes[False], classes[True], where)
    for (content, wanted), given in zip(special.items(), number_added_tokens(special, numbers), strict=True):
        if wanted != given:
            what = f"added token {_brief(content)} has id {wanted}, but `tokenizers` numbers it {given}"
            raise UserError(what, where=where, hint="save the tokenizer again with `tokenizers`")
    return special


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _refuse_overlap(raw: list[str], normalized: list[str], where: str) -> None:
    """Tokens with and without `normalized` are matched in two passes, here in one: the same unless they overlap."""

    def parts(texts: list[str]) -> tuple[set[str], set[str], set[str]]:
        starts = {text[:end] for text in texts for end in range(1, len(text) + 1)}
        ends = {text[start:] for text in texts for start in range(len(text))}
        return starts, ends, set(texts)

    if not (raw and normalized):
        return
    (starts, ends, whole), (other_starts, other_ends, other_whole) = parts(raw), parts(normalized)
    crossing = (starts & other_ends) | (ends & other_starts)
    contained = {a for a in whole for b in other_whole if a in b} | {b for b in other_whole for a in whole if b in a}
    if crossing or contained:
        what = f"added tokens with and without normalized overlap in {_brief(min(crossing | contained))}"
        raise UserError(what, where=where, hint="give all of them the same value of normalized")


def _read_vocabulary(model: dict[str, Any], numbers: dict[str, int], special: dict[str, int], where: str) -> Vocabulary:
    texts = sorted((text for text in numbers if text not in special), key=numbers.__getitem__)
    units: list[bytes] = []
    for text in texts:
        try:
            units.append(string_to_token(text))
        except KeyError as error:
            what = f"model.vocab[{_brief(text)}] holds {_brief(error.args[0])}, which spells no byte"
            raise UserError(what, where=where, hint="is it an added token that added_tokens lacks?") from None
    letter = next((text for text in special if text in UNICODE_TO_BYTE and text in numbers), None)
    if letter is not None:
        raise UserError(f"added token {letter!r} is also a byte of the alphabet", where=where)
    unit_of = {text: unit for unit, text in enumerate(texts)}
    merges: dict[tuple[int, int], int] = {}
    listed = model.get("merges")
    if not isinstance(listed, list):
        raise UserError("model.merges is not a list", where=where)
    for rank, entry in enumerate(listed):
        if isinstance(entry, str) and entry.startswith("#version"):
            continue
        pair = entry.split(" ") if isinstance(entry, str) else entry
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise UserError(f"model.merges[{rank}] {_brief(entry)} is not a pair of tokens", where=where)
        left, right = pair
        for text in (left, right, left + right):
            if text not in unit_of:
                what = f"the added token {_brief(text)}" if text in special else f"{_brief(text)}, not in model.vocab"
                raise UserError(f"model.merges[{rank}] joins or makes {what}", where=where)
        joined = (unit_of[left], unit_of[right])
        merges.pop(joined, None)  # of a merge listed twice `tokenizers` keeps the last rank
        merges[joined] = unit_of[left + right]
    emit = [(numbers[text],) for text in texts]
    vocabulary = Vocabulary(units, [(left, right, made) for (left, right), made in merges.items()], emit, special)
    vocabulary.check(f"{where}: model.vocab")
    return vocabulary


def _read_pretokenizer(component: Any, where: str) -> tuple[str, list[dict[str, Any]]]:
    """(name of the pre-tokenizer, steps after ByteLevel)."""
    steps = _steps(component, "pre_tokenizer", "pretokenizers", where)
    kinds = [step["type"] for step in steps]
    if kinds[:2] == ["Split", "ByteLevel"]:
        name, cuts, byte_level = _read_split(steps[0], where), True, 1
    elif kinds[:1] == ["ByteLevel"]:
        name, cuts, byte_level = "none", False, 0
    else:
        hint = "a published regex and ByteLevel are"
        raise UserError(f"pre_tokenizer {_names(steps)} is not implemented", where=where, hint=hint)
    step = steps[byte_level]
    if step.get("add_prefix_space") is not False:
        raise UserError("pre_tokenizer: add_prefix_space other than false is not implemented", where=where)
    if step.get("use_regex", True):
        if cuts:
            raise UserError("pre_tokenizer: Split then ByteLevel with use_regex is not implemented", where=where)
        name = "gpt2"
    return name, steps[byte_level + 1 :]


def _read_split(step: dict[str, Any], where: str) -> str:
    pattern = step.get("pattern")
    if not isinstance(pattern, dict) or not isinstance(pattern.get("Regex"), str):
        raise UserError(f"pre_tokenizer: Split by {_brief(pattern)} is not implemented", where=where)
    name = name_of_pattern(pattern["Regex"])
    if name is None:
        what = f"pre_tokenizer: the regex {_brief(pattern['Regex'])} is not implemented"
        raise UserError(what, where=where, hint="the patterns of GPT-2, GPT-4, GPT-4o, Llama 3 and Qwen2 are")
    # Every pattern matches all of any text, so these two ways to cut at its matches are the same.
    how = (step.get("behavior"), step.get("invert", False))
    if how[0] != "Isolated" and how != ("Removed", True):
        raise UserError(f"pre_tokenizer: Split with behavior {_brief(how[0])} is not implemented", where=where)
    return name


def _read_post_processor(component: Any, special: Mapping[str, int], where: str) -> str | None:
    """The token that a template puts before a text; ByteLevel concerns offsets only."""
    bos: str | None = None
    for step in _steps(component, "post_processor", "processors", where):
        if step["type"] == "ByteLevel":
            continue
        if step["type"] != "TemplateProcessing":
            raise UserError(f"post_processor {_brief(step['type'])} is not implemented", where=where)
        match step.get("single"):
            case [{"Sequence": {"id": "A"}}]:
                continue
            case [{"SpecialToken": {"id": str(token)}}, {"Sequence": {"id": "A"}}] if bos is None:
                bos = token
            case template:
                what = f"post_processor: the template {_brief(template)} is not implemented"
                raise UserError(what, where=where, hint="only one token before the text is")
        tokens = step.get("special_tokens")
        entry = tokens.get(bos) if isinstance(tokens, dict) else None
        if bos not in special or not isinstance(entry, dict) or entry.get("ids") != [special[bos]]:
            raise UserError(f"post_processor: {_brief(bos)} is not the added token of that name", where=where)
    return bos
