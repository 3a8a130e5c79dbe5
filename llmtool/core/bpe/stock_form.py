"""A tokenizer as a tokenizer.json of stock `tokenizers` components: the parts that every encoder's form shares.

An encoder's `to_huggingface` puts `pre_tokenizer` and `model` together from these. All fields are written, in the
values that `tokenizers` itself writes, so that a file it has saved again still equals its source.
"""

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from llmtool.core.bpe.definition import Definition
from llmtool.core.bpe.normalizers import Step, as_component, stock_steps
from llmtool.core.bpe.post_processors import template
from llmtool.core.bpe.pretokenizers import GPT2
from llmtool.core.bpe.vocabulary import decode_text, token_to_string
from llmtool.core.run.errors import UserError


def cutting(definition: Definition, further: Iterable[Step] = ()) -> dict[str, Any] | None:
    """Pre-tokenizer: the definition's pieces, then `further` steps.

    GPT-2's regex is written as ByteLevel's own: `tokenizers` 1.0 knows no other spelling of it that is ours.
    """
    steps = (GPT2,) if definition.pretokenizer == "gpt2" else definition.pretokenizer_steps
    return as_component([*steps, *further], "pretokenizers")


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
        "merges": _spelled_merges(list(merges)),
    }


def _spelled_merges(pairs: list[tuple[str, str]]) -> list[Any]:
    """As "a b", which every version of `tokenizers` reads; as pairs, from 0.20 on, only where a token holds a space."""
    if any(" " in part for pair in pairs for part in pair):
        return [list(pair) for pair in pairs]
    return [f"{left} {right}" for left, right in pairs]


def word_level(definition: Definition) -> dict[str, Any]:
    """Model: a piece must be a token. `unk_token` names none, so any other piece is an error, never a wrong id."""
    return {"type": "WordLevel", "vocab": model_vocabulary(definition), "unk_token": ""}


def model_vocabulary(definition: Definition) -> dict[str, int]:
    """Spelling -> id: the tokens, and the added tokens unless `tokenizers` numbers them as we do by itself."""
    vocabulary = definition.vocabulary
    spell = token_to_string if vocabulary.alphabet == "bytes" else decode_text
    numbers = {
        spell(unit): ids[0] for unit, ids in zip(vocabulary.units, vocabulary.emit, strict=True) if len(ids) == 1
    }
    numbers |= vocabulary.unused
    added = _in_order(vocabulary.added_ids)
    shared = next((text for text in added if numbers.get(text, added[text]) != added[text]), None)
    if shared is not None:
        what = f"special token {shared!r} is spelled like a token of the vocabulary"
        raise UserError(what, hint="a tokenizer.json cannot hold both")
    if number_added_tokens(added, numbers) != list(added.values()):
        numbers.update(added)
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
            {"id": token.id, "content": token.content, **token.flags}
            for token in sorted(definition.vocabulary.added, key=lambda token: token.id)
        ],
        "normalizer": as_component(stock_steps(definition.normalizer), "normalizers"),
        "pre_tokenizer": pre_tokenizer,
        "post_processor": definition.post_processor or (_prepend_bos(definition) if definition.add_bos else None),
        "decoder": as_component(definition.decoder, "decoders"),
        "model": model,
    }


def _in_order(numbers: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _prepend_bos(definition: Definition) -> dict[str, Any]:
    if definition.bos is None:
        raise UserError("add_bos is set, but no special token is named as BOS")
    return template([definition.bos], [], definition.vocabulary.added_ids)
