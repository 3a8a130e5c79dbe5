"""Tokenizers written for others: a Hugging Face directory, or a tiktoken rank file.

Whatever a form cannot hold exactly is refused by name. The tokenizer's own file goes along, so nothing is lost, and
the export is read back by those it is meant for, on a sample (agreement.py).
"""

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmtool.core.bpe.agreement import Agreement, agreement
from llmtool.core.bpe.definition import Definition, serialize
from llmtool.core.bpe.pretokenizers import PRETOKENIZERS
from llmtool.core.bpe.stock_form import ADDED_TOKEN, tokenizer_json
from llmtool.core.bpe.tokenizer import BaseTokenizer, Text
from llmtool.core.run.atomic import atomic_directory
from llmtool.core.run.errors import UserError

OWN_FILE = "llmtool.json"
REMOTE_CODE = "tokenization_llmtool"
OUR_FILES = (
    "README.md", "chat_template.jinja", OWN_FILE, "run.json", "special_tokens_map.json", f"{REMOTE_CODE}.py",
    "tokenizer.json", "tokenizer_config.json", "__pycache__",
)  # fmt: skip
PAD_NAMES = ("<|pad|>", "<pad>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>")
"""Special tokens that say by their name that they fill up a batch."""

TIKTOKEN_README = """\
Written by llmtool. To load it:

    import base64, json, tiktoken

    with open("{name}.json") as file:
        facts = json.load(file)
    with open("{name}.tiktoken", "rb") as file:
        ranks = {{base64.b64decode(token): int(rank) for token, rank in map(bytes.split, file)}}
    encoding = tiktoken.Encoding(
        facts["name"], pat_str=facts["pat_str"], mergeable_ranks=ranks, special_tokens=facts["special_tokens"]
    )
"""


def export_huggingface(
    tokenizer: BaseTokenizer, directory: Path, *, sample: Sequence[Text] | None = None, force: bool = False
) -> Agreement:
    """Write tokenizer.json and what belongs to it; scaffolds bring their code along (trust_remote_code=True).

    With force a directory that stands there is replaced whole.
    """
    _refuse_existing(directory, force)
    definition = tokenizer.definition
    form = tokenizer.policy.to_huggingface(definition)
    remote_code = form.pop("remote_code", None)
    roles = _roles(definition)
    files: dict[str, Any] = {
        "tokenizer.json": tokenizer_json(definition, **form),
        "tokenizer_config.json": _tokenizer_config(definition, roles, remote_code),
        "special_tokens_map.json": roles,
    }
    with atomic_directory(directory) as work:
        for name, facts in files.items():
            (work / name).write_text(json.dumps(facts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        (work / OWN_FILE).write_bytes(serialize(definition))
        if remote_code:
            source = Path(__file__).with_name(f"{REMOTE_CODE}.py")
            (work / source.name).write_bytes(source.read_bytes())
    return agreement(tokenizer, directory, sample)


def _refuse_existing(directory: Path, force: bool) -> None:
    """A directory is replaced whole, so it may hold nothing but an earlier export: not a model's weights."""
    if not directory.is_dir() or not any(directory.iterdir()):
        return
    ours = {*OUR_FILES, f"{directory.name}.json", f"{directory.name}.tiktoken"}
    foreign = sorted(path.name for path in directory.iterdir() if path.name not in ours)
    if foreign:
        what = f"holds {foreign[0]!r}, which is no part of an export"
        raise UserError(what, where=str(directory), hint="export into a directory of its own and copy from there")
    if not force:
        raise UserError("exists already", where=str(directory), hint="use --force to replace the earlier export")


def _roles(definition: Definition) -> dict[str, str]:
    pad = next((token for token in definition.vocabulary.special if token in PAD_NAMES), None)
    roles = {"bos_token": definition.bos, "eos_token": definition.eos, "pad_token": pad}
    return {role: token for role, token in roles.items() if token is not None}


def _tokenizer_config(definition: Definition, roles: dict[str, str], remote_code: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "tokenizer_class": remote_code or "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": definition.add_bos,
        **roles,
        "added_tokens_decoder": {
            str(number): {"content": text, **ADDED_TOKEN} for text, number in definition.vocabulary.special.items()
        },
    }
    if definition.chat_template is not None:
        config["chat_template"] = definition.chat_template
    if remote_code:
        config["auto_map"] = {"AutoTokenizer": [None, f"{REMOTE_CODE}.{remote_code}"]}
    return config


def export_tiktoken(
    tokenizer: BaseTokenizer, directory: Path, *, sample: Sequence[Text] | None = None, force: bool = False
) -> Agreement:
    """Write NAME.tiktoken (token and rank), NAME.json and a README, NAME being the directory's."""
    _refuse_existing(directory, force)
    definition = tokenizer.definition
    _refuse_for_tiktoken(definition)
    name = re.sub(r"[^\w.-]", "_", directory.absolute().name)
    ranks = sorted((number, token) for token, number in definition.vocabulary.id_of.items())
    facts = {
        "name": name,
        "pat_str": PRETOKENIZERS[definition.pretokenizer].pattern or r"[\s\S]+",
        "special_tokens": dict(definition.vocabulary.special),
        "bos": definition.bos,
        "eos": definition.eos,
        "add_bos": definition.add_bos,
        "chat_template": definition.chat_template,
    }
    with atomic_directory(directory) as work:
        with (work / f"{name}.tiktoken").open("wb") as file:
            file.writelines(b"%s %d\n" % (base64.b64encode(token), number) for number, token in ranks)
        (work / f"{name}.json").write_text(json.dumps(facts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        (work / OWN_FILE).write_bytes(serialize(definition))
        (work / "README.md").write_text(TIKTOKEN_README.format(name=name), encoding="utf-8")
    return agreement(tokenizer, directory, sample)


def _refuse_for_tiktoken(definition: Definition) -> None:
    """tiktoken merges any two neighbours that spell a token, the smallest id first: that must mean the same."""
    vocabulary = definition.vocabulary
    reasons = {
        f"the encoder {definition.encoder!r}": definition.encoder != "merge",
        "scaffolds": bool(vocabulary.scaffolds),
        f"the normalizer {definition.normalizer}": definition.normalizer is not None,
    }
    for reason, present in reasons.items():
        if present:
            raise UserError(f"{reason} cannot be written for tiktoken", hint="only plain BPE can; --to hf holds more")
    made = list(dict.fromkeys(vocabulary.emit[result][0] for _, _, result in vocabulary.merges))
    if made != sorted(made):
        place = next(place for place in range(1, len(made)) if made[place] < made[place - 1])
        raise UserError(f"id {made[place]} comes after a larger id in merge order: tiktoken takes ids for ranks")
    unmade = {number for token, number in vocabulary.id_of.items() if len(token) > 1} - set(made)
    if unmade:
        token = vocabulary.tokens[min(unmade)]
        raise UserError(f"token {token!r} is made by no merge, but tiktoken would make it")
