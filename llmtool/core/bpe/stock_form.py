"""A tokenizer as a tokenizer.json of stock `tokenizers` components: the parts that every encoder's form shares.

An encoder's `to_huggingface` puts `pre_tokenizer` and `model` together from these. All fields are written, in the
values that `tokenizers` itself writes, so that a file it has saved again still equals its source.
"""

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.normalizers import Step, as_component
from llmtool.core.bpe.vocabulary import token_to_string
from llmtool.core.run.errors import UserError


def byte_level(definition: Definition, further: Iterable[Step] = ()) -> dict[str, Any] | None:
    """Pre-tokenizer: the definition's pieces, spelled as GPT-2 characters, then `further` steps."""
    return as_component([*definition.pretokenizer_steps, *further], "pretokenizers")


def bpe(definition: Definition, merges: Iterable[tuple[str, str]], ignore_merges: bool) -> dict[str, Any]:
    """Model: BPE by these merges."""
    unknown = definition.vocabulary.unknown
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown.token,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": unknown.fuse,
        "byte_fallback": unknown.byte_fallback,
        "ignore_merges": ignore_merges,
        "vocab": model_vocabulary(definition),
        "merges": [list(pair) for pair in merges],
    }


def word_level(definition: Definition) -> dict[str, Any]:
    """Model: a piece must be a token. `unk_token` names none, so any other piece is an error, never a wrong id."""
    return {"type": "WordLevel", "vocab": model_vocabulary(definition), "unk_token": ""}


def model_vocabulary(definition: Definition) -> dict[str, int]:
    """Spelling -> id: the tokens, and the special tokens unless `tokenizers` numbers them as we do by itself."""
    numbers = {token_to_string(token): number for token, number in definition.vocabulary.id_of.items()}
    special = _in_order(definition.vocabulary.added_ids)
    shared = next((text for text in special if text in numbers), None)
    if shared is not None:
        what = f"special token {shared!r} is spelled like a token of the vocabulary"
        raise UserError(what, hint="a tokenizer.json cannot hold both")
    if number_added_tokens(special, numbers) != list(special.values()):
        numbers.update(special)
    return _in_order(numbers)


def number_added_tokens(contents: Iterable[str], vocabulary: Mapping[str, int]) -> list[int]:
    """Ids that `tokenizers` gives to added tokens, in order: a file's own numbers are not asked.

    A token of the model keeps its id; the others are counted on from the number of tokens, whatever ids those have.
    """
    following = count(len(vocabulary))
    return [vocabulary[text] if text in vocabulary else next(following) for text in contents]


def tokenizer_json(definition: Definition, pre_tokenizer: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """The whole file, for an encoder's `pre_tokenizer` and `model`."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token.id, "content": token.content, **{flag: getattr(token, flag) for flag in ADDED_TOKEN}}
            for token in sorted(definition.vocabulary.added, key=lambda token: token.id)
        ],
        "normalizer": as_component(definition.normalizer, "normalizers"),
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _prepend_bos(definition) if definition.add_bos else None,
        "decoder": as_component(definition.decoder, "decoders"),
        "model": model,
    }


ADDED_TOKEN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
"""How a special token is matched: as it stands, before anything else."""


def _in_order(numbers: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _prepend_bos(definition: Definition) -> dict[str, Any]:
    bos = definition.bos
    if bos is None:
        raise UserError("add_bos is set, but no special token is named as BOS")
    first: list[dict[str, Any]] = [
        {"SpecialToken": {"id": bos, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    second: list[dict[str, Any]] = [
        {"SpecialToken": {"id": bos, "type_id": 1}},
        {"Sequence": {"id": "B", "type_id": 1}},
    ]
    token = {"id": bos, "ids": [definition.vocabulary.added_ids[bos]], "tokens": [bos]}
    return {
        "type": "TemplateProcessing",
        "single": first,
        "pair": [*first, *second],
        "special_tokens": {bos: token},
    }
