"""Hugging Face tokenizers of every kind that can be read, trained on the spot with the `tokenizers` package."""

import copy
import json
from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers import pre_tokenizers as steps

Facts = dict[str, Any]

EOS, BOS, THINK = "<|endoftext|>", "<|begin|>", "<think>"

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = GPT4.replace("{1,3}", "")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def cut_by(pattern: str, behavior: str = "isolated", invert: bool = False) -> Any:
    """The published pattern, then bytes."""
    byte_level = steps.ByteLevel(add_prefix_space=False, use_regex=False)
    return steps.Sequence([steps.Split(Regex(pattern), behavior, invert), byte_level])


def trained(
    texts: list[str], pre_tokenizer: Any, size: int = 700, first: tuple[str, ...] = (), normalizer: Any = None
) -> Tokenizer:
    """BPE by `tokenizers`; the tokens `first` take the first ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = steps.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(first), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def gpt2(texts: list[str]) -> Facts:
    return written(trained(texts, steps.ByteLevel(add_prefix_space=False), first=(EOS,)))


def gpt4(texts: list[str]) -> Facts:
    tokenizer = trained(texts, cut_by(GPT4, "removed", True))
    tokenizer.add_special_tokens([EOS, "<|end|>", "<|endoftext|>!"])
    return written(tokenizer)


def gpt4o(texts: list[str]) -> Facts:
    return written(trained(texts, cut_by(GPT4O), first=(EOS, BOS)))


def llama3(texts: list[str]) -> Facts:
    """ignore_merges, with a token that no merge makes; BOS before each text."""
    facts = written(trained(texts, cut_by(GPT4)))
    model = facts["model"]
    model["ignore_merges"] = True
    model["vocab"]["Ġxylophone"] = len(model["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(facts))
    tokenizer.add_special_tokens([BOS, EOS])
    number = tokenizer.token_to_id(BOS)
    template = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, number)]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return written(tokenizer)


def qwen3(texts: list[str]) -> Facts:
    """NFC, single digits, added tokens that are not special."""
    tokenizer = trained(texts, cut_by(QWEN2), normalizer=normalizers.NFC())
    tokenizer.add_special_tokens([EOS])
    tokenizer.add_tokens([AddedToken(THINK, normalized=False), AddedToken("</think>", normalized=False)])
    return written(tokenizer)


def no_pattern(texts: list[str]) -> Facts:
    lines = [line for text in texts for line in text.splitlines()]
    return written(trained(lines, steps.ByteLevel(add_prefix_space=False, use_regex=False), first=(EOS,)))


KINDS: dict[str, Callable[[list[str]], Facts]] = {
    "gpt2": gpt2, "gpt4": gpt4, "gpt4o": gpt4o, "llama3": llama3, "qwen3": qwen3, "no_pattern": no_pattern,
}  # fmt: skip


def written(tokenizer: Tokenizer) -> Facts:
    """The object of the file."""
    facts: Facts = json.loads(tokenizer.to_str())
    return facts


def as_strings(facts: Facts) -> Facts:
    """The older spelling of merges: "a b" for ["a", "b"]."""
    facts = copy.deepcopy(facts)
    facts["model"]["merges"] = ["#version: 0.2", *(" ".join(pair) for pair in facts["model"]["merges"])]
    return facts


def their_ids(facts: Facts, texts: list[str]) -> list[list[int]]:
    """What `tokenizers` makes of it."""
    tokenizer = Tokenizer.from_str(json.dumps(facts))
    return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
