"""What an export says of itself: who reads it, from which version on, and what llama.cpp calls its pre-tokenizer."""

from llmtool.core.bpe.definition import Definition

GGUF_PRE = {
    "gpt2": "gpt-2", "cl100k": "llama-bpe", "llama3": "llama-bpe", "qwen2": "qwen2", "o200k": "gpt-4o",
    "qwen35": "qwen35", "tekken": "tekken", "deepseek3": "deepseek-v3", "smollm": "smollm",
    "bloom": "bloom", "kimi": "kimi-k2",
}  # fmt: skip
"""Pre-tokenizer -> the value of tokenizer.ggml.pre under which llama.cpp cuts by the same pattern. There is none for
nanochat's; under "falcon" no piece ends inside of a character, as some of Falcon's do.
"""

MERGES_IGNORED = ("llama-bpe", "tekken")
"""Values under which llama.cpp takes a piece that is a token as that token, as ignore_merges does."""


def gguf_pre(definition: Definition) -> str | None:
    """tokenizer.ggml.pre of a conversion to GGUF; None where llama.cpp has none that gives the same ids."""
    vocabulary = definition.vocabulary
    plain = definition.encoder == "merge" and not vocabulary.scaffolds and vocabulary.alphabet == "bytes"
    name = GGUF_PRE.get(definition.pretokenizer) if plain else None
    if name == "llama-bpe" and not definition.ignore_merges:
        return "dbrx"  # the same pattern, by merges alone
    return name if definition.ignore_merges == (name in MERGES_IGNORED) else None


def versions(definition: Definition) -> str:
    """The versions of `tokenizers` that read tokenizer.json."""
    if definition.vocabulary.scaffolds and definition.encoder == "merge":
        return "tokenizers >= 0.19, < 1, by the Python file in this directory (trust_remote_code=True)"
    if definition.encoder == "lbpe":
        return "tokenizers >= 0.19, < 1: older ones pass over `ignore_merges` and give single bytes"
    if definition.ignore_merges:
        return "tokenizers >= 0.19, which is the first to know `ignore_merges`"
    return "tokenizers >= 0.13"


def card(definition: Definition, name: str) -> str:
    """README.md of an export."""
    pre = gguf_pre(definition)
    if pre is not None:
        gguf = (
            "llama.cpp knows a pre-tokenizer by a hash of ids, so it does not recognize a new vocabulary. The value\n"
            f"of tokenizer.ggml.pre that fits is `{pre}`: in `get_vocab_base_pre` of its converter, for the hash that\n"
            f'it prints, add `res = "{pre}"`. Check the ids of the GGUF file all the same.'
        )
    else:
        gguf = "llama.cpp has no pre-tokenizer that is known to give these ids."
    code = ", trust_remote_code=True" if definition.vocabulary.scaffolds and definition.encoder == "merge" else ""
    return f"""\
Written by llmtool: a tokenizer of {definition.vocabulary.size:,} ids, algorithm {definition.algorithm}, encoder
{definition.encoder}, pre-tokenizer {definition.pretokenizer}. To load it:

    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained("{name}"{code})

Read by {versions(definition)}.

`tokenizer_class` is PreTrainedTokenizerFast or a class of this directory, and must stay so: a class such as
LlamaTokenizer or Qwen2Tokenizer builds its own pipeline in transformers 5, whatever tokenizer.json says.

GGUF: {gguf}
"""
