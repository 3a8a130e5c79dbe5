"""The tokenizer.json of every family of open models, with small vocabularies trained on the spot.

The pipelines are those that the families publish: normalizer, pre-tokenizer, flags of the model, kinds of added tokens,
post-processor, decoder. The vocabularies are two, one of bytes and one of characters (SentencePiece), as merges are
read the same whatever they hold.
"""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as steps

Facts = dict[str, Any]

C = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
X = r"[^\r\n\p{L}\p{N}]?"
U = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
W = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
S = r"\s*[\r\n]+|\s+(?!\S)|\s+"
CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def cl100k(digits: str, others: str = r" ?[^\s\p{L}\p{N}]+[\r\n]*") -> str:
    return rf"{C}|{X}\p{{L}}+|{digits}|{others}|{S}"


def o200k(contraction: str, digits: str) -> str:
    others = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
    return f"{X}{U}*{W}+{contraction}|{X}{U}+{W}*{contraction}|{digits}|{others}|{S}"


QWEN35 = rf"{C}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{S}"
DEEPSEEK3 = (  # CR and LF are characters of the file, not escapes
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
)
KIMI = (
    rf"[\p{{Han}}]+|{X}[{U}&&[^\p{{Han}}]]*[{W}&&[^\p{{Han}}]]+{C}?|{X}[{U}&&[^\p{{Han}}]]+[{W}&&[^\p{{Han}}]]*{C}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{S}"
)


def ling(digits: str) -> str:
    others = r" ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    return rf"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{{L}}\p{{N}}]?+\p{{L}}+|{digits}|{others}"


TIKTOKEN_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)


def split(pattern: str, behavior: str = "Isolated", invert: bool = False, kind: str = "Regex") -> Facts:
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(use_regex: bool = False, add_prefix_space: bool = False) -> Facts:
    return {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def digits(individual: bool) -> Facts:
    return {"type": "Digits", "individual_digits": individual}


def metaspace(scheme: str, split: bool = False) -> Facts:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


NFC = {"type": "NFC"}
BYTES = byte_level()
GPT2_BYTES = byte_level(use_regex=True)

BYTE_PIPELINES: dict[str, tuple[Facts | None, list[Facts]]] = {
    "GPT-2, OPT": (None, [GPT2_BYTES]),
    "RoBERTa": (None, [byte_level(use_regex=True, add_prefix_space=True)]),
    "GPT-NeoX, Pythia, OLMo-1, MPT": (NFC, [GPT2_BYTES]),
    "Phi-1, Phi-2": (None, [GPT2_BYTES]),
    "ModernBERT": (NFC, [GPT2_BYTES]),
    "Whisper": (None, [GPT2_BYTES]),
    "StarCoder, SmolLM, Granite 3": (None, [digits(True), GPT2_BYTES]),
    "Command-R": (NFC, [digits(True), GPT2_BYTES]),
    "Falcon": (
        None,
        [{"type": "Punctuation", "behavior": "Contiguous"}, GPT2_BYTES, digits(False), split("[0-9][0-9][0-9]")],
    ),
    "BLOOM": (None, [split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), BYTES]),
    "GPT-4 cl100k, OLMo-2, Granite 4": (None, [split(cl100k(r"\p{N}{1,3}"), "Removed", True), BYTES]),
    "Phi-4": (None, [split(cl100k(r"\p{N}{1,3}"), "Removed", True), BYTES]),
    "Llama 3, SmolLM3": (None, [split(cl100k(r"\p{N}{1,3}")), BYTES]),
    "GLM-4, GLM-5": (None, [split(cl100k(r"\p{N}{1,3}")), BYTES]),
    "Qwen2, Qwen2.5, Qwen3": (NFC, [split(cl100k(r"\p{N}")), BYTES]),
    "Qwen3.5, Qwen3.6": (NFC, [split(QWEN35), BYTES]),
    "gpt-oss, Llama 4": (None, [split(o200k(f"{C}?", r"\p{N}{1,3}")), BYTES]),
    "GPT-4o": (None, [split(o200k(f"{C}?", r"\p{N}{1,3}"), "Removed", True), BYTES]),
    "Mistral-Nemo, Nemotron 3": (None, [split(o200k("", r"\p{N}")), BYTES]),
    "DeepSeek V3, R1, V4": (None, [split(r"\p{N}{1,3}"), split(CJK), split(DEEPSEEK3), BYTES]),
    "DeepSeek-LLM, V2": (
        None,
        [
            split("[\r\n]"), split(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-Ֆ]+"),
            split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"), split("[一-龥ࠀ-一가-퟿]+"), digits(True), BYTES,
        ],
    ),
    "DeepSeek-coder": (
        None,
        [
            split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), digits(True), BYTES,
        ],
    ),
    "Kimi": (None, [split(KIMI), BYTES]),
    "nanochat": (None, [split(ling(r"\p{N}{1,2}")), BYTES]),
    "Ling, LLaDA": (None, [split(ling(r"\p{N}")), BYTES]),
    "MiniCPM5": (None, [split(r"\p{N}{1,3}"), split(cl100k(r"\p{N}+")), BYTES]),
    "Laguna": (None, [split(r"(?:\r?\n)+(?!\r?\n)", "MergedWithNext"), split(cl100k(r"\p{N}")), BYTES]),
    "Command, newer": (NFC, [split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(o200k(f"{C}?", r"\p{N}{1,3}")), BYTES]),
    "Seed-Coder": (
        None,
        [split(rf"{C}|{X}\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"), BYTES],
    ),
    "cl100k as tiktoken spells it": (None, [split(TIKTOKEN_CL100K), BYTES]),
    "Claude 2": ({"type": "NFKC"}, [GPT2_BYTES]),
}  # fmt: skip
"""Families of bytes: (normalizer, steps of the pre-tokenizer)."""

TO_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, TO_MARK]}

CHARACTER_PIPELINES: dict[str, tuple[Facts | None, list[Facts], bool]] = {
    "Llama 2, TinyLlama, Yi": (PREPEND, [], True),
    "Phi-3": (PREPEND, [], True),
    "Mistral 7B": (None, [metaspace("first")], True),
    "Yi-Coder": (None, [metaspace("never")], False),
    "Metaspace, split": (None, [metaspace("always", split=True)], True),
    "Gemma 1": (TO_MARK, [], False),
    "Gemma 2, Gemma 3": (TO_MARK, [split(" ", "MergedWithPrevious", kind="String")], False),
    "BORA": (TO_MARK, [metaspace("never"), split(" ", kind="String")], False),
}
"""Families of characters: (normalizer, steps of the pre-tokenizer, whether the decoder takes the first space off)."""


def families(texts: list[str]) -> Iterator[tuple[str, Facts]]:
    """(name, tokenizer.json) of each."""
    of_bytes, of_characters = byte_tokenizer(texts), character_tokenizer(texts)
    for name, (normalizer, pipeline) in BYTE_PIPELINES.items():
        facts = copy.deepcopy(of_bytes)
        facts["normalizer"] = normalizer
        facts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": pipeline} if len(pipeline) > 1 else pipeline[0]
        if name in CHANGES:
            CHANGES[name](facts)
        yield name, facts
    for name, (normalizer, pipeline, strips) in CHARACTER_PIPELINES.items():
        facts = copy.deepcopy(of_characters)
        facts["normalizer"] = normalizer
        facts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": pipeline} if pipeline else None
        if not strips:
            facts["decoder"]["decoders"].pop()
        if name in CHANGES:
            CHANGES[name](facts)
        yield name, facts


def byte_tokenizer(texts: list[str]) -> Facts:
    """900 tokens, merges that reach over words, and three special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = steps.Sequence([steps.Split("\n", "isolated"), steps.ByteLevel(False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=SPECIAL, initial_alphabet=steps.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())  # type: ignore[no-any-return]


SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def character_tokenizer(texts: list[str]) -> Facts:
    """SentencePiece's kind: `<unk>`, `<s>`, `</s>`, a token for each byte, 150 characters, merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = steps.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=700, limit_alphabet=150, initial_alphabet=["▁"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens = [*first, *sorted(learned["vocab"], key=learned["vocab"].__getitem__)]
    merges = [tuple(pair) for pair in learned["merges"]]
    model = models.BPE(
        vocab={text: number for number, text in enumerate(tokens)},
        merges=merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(first[:3])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return json.loads(tokenizer.to_str())  # type: ignore[no-any-return]


def _added(facts: Facts, *tokens: AddedToken) -> None:
    tokenizer = Tokenizer.from_str(json.dumps(facts))
    tokenizer.add_tokens(list(tokens))
    facts["added_tokens"] = json.loads(tokenizer.to_str())["added_tokens"]


def _runs(facts: Facts) -> None:
    """White space as ordinary tokens, longest run first, as GPT-NeoX has it."""
    _added(facts, *(AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)))


def _runs_and_tabs(facts: Facts) -> None:
    _added(facts, *(AddedToken(kind * n, normalized=True) for kind in "\t " for n in range(9, 1, -1)))


def _mask(facts: Facts) -> None:
    _runs(facts)
    _added(facts, AddedToken("[MASK]", lstrip=True, special=True, normalized=False))


def _roberta(facts: Facts) -> None:
    _added(facts, AddedToken("<mask>", lstrip=True, special=True, normalized=False))
    facts["post_processor"] = {
        "type": "RobertaProcessing", "sep": ["<|im_end|>", 2], "cls": ["<|im_start|>", 1], "trim_offsets": True,
        "add_prefix_space": True,
    }  # fmt: skip


def _whisper(facts: Facts) -> None:
    facts["model"]["vocab"][""] = len(facts["model"]["vocab"])


def _phi4(facts: Facts) -> None:
    both = {"lstrip": True, "rstrip": True, "special": True, "normalized": False}
    _added(facts, AddedToken("<|user|>", **both), AddedToken("<|sep|>", **both))


def _llama3(facts: Facts) -> None:
    facts["model"]["ignore_merges"] = True
    facts["model"]["vocab"][" xylophone".replace(" ", "Ġ")] = len(facts["model"]["vocab"])


def _qwen(facts: Facts) -> None:
    words = ("<tool_call>", "</tool_call>", "<think>", "</think>")
    _added(facts, *(AddedToken(text, normalized=False) for text in words))


def _deepseek(facts: Facts) -> None:
    _added(facts, AddedToken("<｜User｜>", normalized=True), AddedToken("｜DSML｜", normalized=True))
    _added(facts, AddedToken("foobarium", single_word=True, normalized=True))


def _starcoder(facts: Facts) -> None:
    """Bytes that no UTF-8 text of the training holds are missing, as in SmolLM's."""
    from llmtool.core.bpe.vocabulary import BYTE_TO_UNICODE

    model = facts["model"]
    missing = {
        BYTE_TO_UNICODE[byte] for byte in (*range(0x02, 0x06), *range(0x0E, 0x14), 0xC0, 0xC1, *range(0xF1, 0x100))
    }
    model["merges"] = [pair for pair in model["merges"] if not missing & set("".join(pair))]
    kept = [text for text in sorted(model["vocab"], key=model["vocab"].__getitem__) if not missing & set(text)]
    model["vocab"] = {text: number for number, text in enumerate(kept)}


def _gemma1(facts: Facts) -> None:
    """A token for each byte but one; ordinary tokens for white space and markup."""
    vocab = facts["model"]["vocab"]
    vocab["<unused0>"] = vocab.pop("<0x09>")
    tokens = ["<unused0>", "\n\n", "\n\n\n", "▁▁", "▁▁▁", "▁▁▁▁", "<h1>", "<table>"]
    _added(facts, *(AddedToken(text, normalized=False) for text in tokens))


def _phi3(facts: Facts) -> None:
    special = {"rstrip": True, "special": True, "normalized": False}
    _added(facts, AddedToken("<|user|>", **special), AddedToken("<|assistant|>", **special))
    _added(facts, AddedToken("</s>x", rstrip=True, normalized=True))


CHANGES: dict[str, Callable[[Facts], None]] = {
    "RoBERTa": _roberta, "GPT-NeoX, Pythia, OLMo-1, MPT": _runs, "Phi-1, Phi-2": _runs_and_tabs, "ModernBERT": _mask,
    "Whisper": _whisper, "StarCoder, SmolLM, Granite 3": _starcoder, "Phi-4": _phi4, "Llama 3, SmolLM3": _llama3,
    "GLM-4, GLM-5": _llama3, "Qwen2, Qwen2.5, Qwen3": _qwen, "Qwen3.5, Qwen3.6": _qwen,
    "DeepSeek V3, R1, V4": _deepseek,
    "Gemma 1": _gemma1, "Phi-3": _phi3,
}  # fmt: skip
