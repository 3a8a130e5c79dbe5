"""Where a directory's tokenizer lies, and other files than a tokenizer.json, read as the tokenizer.json that they mean.

vocab.json and merges.txt (GPT-2's two files, also as encoder.json and vocab.bpe) hold tokens and merges only: what cuts
a text is said by the class that tokenizer_config.json or config.json names, GPT-2's where none does. SentencePiece's
tokenizer.model says all itself. Both get the added tokens that stand beside them. Files of ranks: rank_files.py.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmtool.core.bpe.added_tokens import FLAGS
from llmtool.core.bpe.normalizers import NFC
from llmtool.core.bpe.pretokenizers import GPT2, PRETOKENIZERS
from llmtool.core.bpe.rank_files import is_ranks, pattern_beside, read_ranks
from llmtool.core.run.errors import UserError
from llmtool.core.run.files import LARGEST, read_plain, read_text
from llmtool.core.run.json_file import json_object, read_json_object

STOCK, OWN, MODEL, TEKKEN = "tokenizer.json", "llmtool.json", "tokenizer.model", "tekken.json"
PAIRS = {"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}
FILES = frozenset({STOCK, OWN, MODEL, TEKKEN, *PAIRS, *PAIRS.values()})
"""What a directory's tokenizer may be called."""
SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json")
"""What changes the reading of a file that is no tokenizer.json."""

END_OF_TEXT = "<|endoftext|>"
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

CUT_BY = {
    "GPT2": "gpt2", "CodeGen": "gpt2", "Whisper": "gpt2", "Blenderbot": "roberta", "OPT": "gpt2", "opt": "gpt2",
    "gpt2": "gpt2", "gpt_neo": "gpt2", "gptj": "gpt2", "codegen": "gpt2", "whisper": "gpt2",
    "GPTNeoX": "gpt2", "gpt_neox": "gpt2", "Qwen2": "qwen2", "qwen2": "qwen2", "qwen2_moe": "qwen2", "qwen3": "qwen2",
    "qwen3_moe": "qwen2", "Roberta": "roberta", "roberta": "roberta", "Bart": "roberta", "bart": "roberta",
    "Longformer": "roberta", "longformer": "roberta", "PreTrained": "gpt2", "Tokenizers": "gpt2",
}  # fmt: skip
"""How classes and model types whose files are two cut their texts."""


def holds_tokenizer(directory: Path) -> bool:
    """Whether a directory holds a tokenizer of any kind that is read."""
    return find_file(directory) is not None


def find_file(directory: Path) -> Path | None:
    """The file of a directory that others would read; our own only where theirs needs remote code, or is not there.

    A stock tokenizer.json may have been edited or saved again since we wrote ours beside it.
    """
    stock, own, config = (directory / name for name in (STOCK, OWN, "tokenizer_config.json"))
    if stock.is_file() and not (own.is_file() and config.is_file() and "auto_map" in read_json_object(config)):
        return stock
    if own.is_file():
        return own
    for vocabulary, merges in PAIRS.items():
        if (directory / vocabulary).is_file() and (directory / merges).is_file():
            return directory / vocabulary
    ranks = sorted(directory.glob("*.tiktoken"))
    others = [directory / TEKKEN, directory / MODEL, *(ranks if len(ranks) == 1 else [])]
    return next((path for path in others if path.is_file()), None)


def merges_beside(path: Path) -> Path | None:
    """The merges that belong to a file of tokens: merges.txt to vocab.json, x-merges.txt to x-vocab.json."""
    if path.name in PAIRS:
        name = PAIRS[path.name]
    elif path.name.endswith("-vocab.json"):  # as `tokenizers` saves a model with a prefix
        name = path.name.removesuffix("vocab.json") + "merges.txt"
    else:
        return None
    return path.with_name(name) if path.with_name(name).is_file() else None


def tokens_beside(path: Path) -> Path | None:
    """The tokens that belong to a file of merges."""
    names = {merges: tokens for tokens, merges in PAIRS.items()}
    name = names.get(path.name, "")
    if path.name.endswith("-merges.txt"):
        name = path.name.removesuffix("merges.txt") + "vocab.json"
    return path.with_name(name) if name and path.with_name(name).is_file() else None


def is_foreign(path: Path, data: bytes) -> bool:
    """Whether a file is read by this module."""
    return is_sentencepiece(data) or is_ranks(data) or merges_beside(path) is not None


def is_sentencepiece(data: bytes) -> bool:
    """Whether bytes look like a SentencePiece model: a message that begins with a piece, and that with its text."""
    return data[:1] == b"\x0a" and len(data) > 4 and b"\x0a" in data[2:4]


OPENINGS = {
    b"PK\3\4": ("a zip file, as weights of PyTorch are", "name the tokenizer that stands beside them"),
    b"GGUF": ("a GGUF file", "`llmtool convert gguf` makes a checkpoint of it, tokenizer included"),
    b"\x1f\x8b": ("packed by gzip", "unpack it first"),
    b"\x28\xb5\x2f\xfd": ("packed by Zstandard", "unpack it first"),
    b"#version": ("a list of merges without its tokens", "put the vocab.json that belongs to it beside"),
}
ENDINGS = {
    ".bin": ("holds ids, and is no tokenizer", "name the tokenizer first: TOK INPUT"),
    ".npy": ("holds ids, and is no tokenizer", "name the tokenizer first: TOK INPUT"),
    ".safetensors": ("holds weights, and is no tokenizer", "name the directory that it stands in"),
    ".model": ("neither a SentencePiece model nor a rank file", "is the file complete?"),
    ".tiktoken": ("not a rank file: wanted lines of base64 and a rank", "is the file complete?"),
    ".vocab": ("a list of pieces, without SentencePiece's rules", "name the .model that was written along with it"),
    ".txt": ("a list of tokens or a text, and no tokenizer that is read", "wanted a tokenizer.json or its directory"),
}
"""What other files are that are named for a tokenizer: by their first bytes, else by their ends."""


def refuse_others(path: Path, data: bytes) -> None:
    """Refuse a file that is no JSON by what it is, where that can be told."""
    if path.suffix == ".json" or data.lstrip()[:1] == b"{":
        return
    opened = next((said for opening, said in OPENINGS.items() if data.startswith(opening)), None)
    found = opened or ENDINGS.get(path.suffix.lower())
    if found:
        raise UserError(found[0], where=str(path), hint=found[1])


def read_foreign(path: Path, data: bytes) -> dict[str, Any]:
    """The tokenizer.json that a file means, and under "named" what its own file calls begin and end of a text."""
    if is_sentencepiece(data):
        from llmtool.core.bpe.sentencepiece_model import read_sentencepiece

        facts = read_sentencepiece(data, str(path))
        return {**facts, "added_tokens": _added(path, facts["model"]["vocab"], facts["added_tokens"])}
    if is_ranks(data):
        return read_ranks(data, path)
    facts = _read_pair(data, path)
    usual = [_token(END_OF_TEXT, number) for text, number in facts["model"]["vocab"].items() if text == END_OF_TEXT]
    named = dict.fromkeys(("bos_token", "eos_token"), END_OF_TEXT) if facts["added_tokens"] == usual != [] else {}
    by_id = _numbered(path, facts["model"])
    known = {token["content"] for token in facts["added_tokens"]}
    more = [_token(text, number) for text, number in by_id.values() if text not in known]
    facts["added_tokens"] += {token["id"]: token for token in more}.values()
    facts["added_tokens"].sort(key=lambda token: token["id"] if type(token["id"]) is int else -1)
    return {**facts, "named": named | {role: text for role, (text, _) in by_id.items()}}


def all_that_counts(path: Path, data: bytes) -> bytes:
    """What a reading of such a file depends on: the name of its cache entry is the hash of this."""
    merges = merges_beside(path)
    beside = [path.with_name(name) for name in SIDE_FILES]
    if is_ranks(data):
        beside = [pattern_beside(path)]
        data = path.name.encode(errors="surrogateescape") + b"\n" + data  # the name tells which file it is
    more = [read_plain(file) for file in (merges, *beside) if file is not None and file.is_file()]
    return b"".join(len(part).to_bytes(8, "little") + part for part in (data, *more))


def _read_pair(data: bytes, path: Path) -> dict[str, Any]:
    """The tokenizer.json of a file of tokens, already read, and of the merges beside it."""
    merges = merges_beside(path)
    assert merges is not None
    numbers = json_object(data, str(path))
    lines = read_text(merges, largest=LARGEST, wanted="merges").split("\n")
    lines = [line.rstrip("\r") for line in lines]
    kind = _cut_by(path)
    steps = PRETOKENIZERS[kind].steps if kind in PRETOKENIZERS and kind != "gpt2" else (GPT2,)
    if any(text.endswith("</w>") for text in list(numbers)[:1000]):
        raise UserError("end_of_word_suffix '</w>' is not implemented (CLIP's kind)", where=str(path))
    facts: dict[str, Any] = {
        "normalizer": dict(NFC) if kind == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [dict(step) for step in steps]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": numbers, "merges": [line for line in lines if line]},
    }
    config = _optional(path.with_name("tokenizer_config.json"))
    if config.get("add_prefix_space"):
        facts["pre_tokenizer"] = {**GPT2, "add_prefix_space": True}
    facts["added_tokens"] = _added(path, numbers, [])
    if not facts["added_tokens"] and END_OF_TEXT in numbers:  # as GPT-2's class has it by itself
        facts["added_tokens"] = [_token(END_OF_TEXT, numbers[END_OF_TEXT])]
    if kind == "roberta":
        _put_roberta_around(facts, path)
    return facts


def _cut_by(path: Path) -> str:
    """How texts are cut, by the class that is named beside."""
    config, model = _optional(path.with_name("tokenizer_config.json")), _optional(path.with_name("config.json"))
    named = config.get("tokenizer_class") or model.get("tokenizer_class") or model.get("model_type")
    if named is None:
        return "gpt2"
    name = str(named).removesuffix("Fast").removesuffix("Tokenizer").removesuffix("Backend")
    kind = CUT_BY.get(name)
    if kind is None:
        what = f"two files of {named!r:.60}: how it cuts texts is not known"
        raise UserError(what, where=str(path), hint="save it with `transformers` as a tokenizer.json")
    return kind


def _optional(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def _token(
    content: str, number: int, facts: Mapping[str, Any] | None = None, *, special: bool = True
) -> dict[str, Any]:
    given = {name: (facts or {}).get(name, name == "special" and special) for name in FLAGS}
    return {"id": number, "content": content, **given}


def _added(path: Path, numbers: Mapping[str, int], known: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Added tokens: those of the file itself, of added_tokens_decoder and added_tokens.json, and the named ones."""
    config = _optional(path.with_name("tokenizer_config.json"))
    added = {token["content"]: token for token in known}
    listed = config.get("added_tokens_decoder")
    for number, entry in listed.items() if isinstance(listed, dict) else ():
        content = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(content, str) or not number.isdecimal():
            what = f"added_tokens_decoder[{number!r:.60}] is not an id and a token"
            raise UserError(what, where=str(path.with_name("tokenizer_config.json")))
        added[content] = _token(content, int(number), entry, special=False)
    named = {**_optional(path.with_name("special_tokens_map.json")), **config}
    specials = [named.get(role) for role in ROLES]
    more = named.get("additional_special_tokens")
    specials += more if isinstance(more, list) else []
    special = {}
    for entry in specials:
        content = entry.get("content") if isinstance(entry, dict) else entry
        if isinstance(content, str):
            special[content] = entry if isinstance(entry, dict) else {}
    places: dict[str, Any] = {**_optional(path.with_name("added_tokens.json"))}
    for content in [*places, *special]:
        number = places.get(content, numbers.get(content))
        if content not in added and number is not None:
            facts = {name: special.get(content, {}).get(name, False) for name in FLAGS if name != "special"}
            added[content] = _token(content, number, {**facts, "special": content in special})
    return sorted(added.values(), key=lambda token: token["id"] if type(token["id"]) is int else -1)


def _numbered(path: Path, model: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Special tokens that config.json names by their ids: role -> token, id.

    An id of a token that merges make, or of a byte, is left alone: configurations carry the ids of other vocabularies.
    """
    config = _optional(path.with_name("config.json"))
    texts = {number: text for text, number in model["vocab"].items() if type(number) is int}
    made = {merge.replace(" ", "", 1) for merge in model["merges"]}
    found: dict[str, tuple[str, int]] = {}
    for role in ROLES:
        named = config.get(f"{role}_id")
        number = named[0] if isinstance(named, list) and named else named
        if isinstance(number, int) and len(text := texts.get(number, "")) > 1 and text not in made:
            found[role] = (text, number)
    return found


def _put_roberta_around(facts: dict[str, Any], path: Path) -> None:
    """RoBERTa's `<s>` text `</s>`."""
    named = {
        **_optional(path.with_name("special_tokens_map.json")),
        **_optional(path.with_name("tokenizer_config.json")),
    }
    numbers, around = facts["model"]["vocab"], {}
    for key, usual in (("cls", "<s>"), ("sep", "</s>")):
        entry = named.get(f"{key}_token", usual)
        content = entry.get("content") if isinstance(entry, dict) else entry
        if content not in numbers:
            raise UserError(f"{key}_token {content!r:.60} is not in the vocabulary", where=str(path))
        around[key] = [content, numbers[content]]
    facts["post_processor"] = {"type": "RobertaProcessing", **around, "trim_offsets": True, "add_prefix_space": False}
