"""Tokenizers written for others: a Hugging Face directory, or a tiktoken rank file.

Whatever a form cannot hold exactly is refused by name. The tokenizer's own file goes along, so nothing is lost, and
the export is read back by those it is meant for, on a sample (agreement.py).
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmtool.core.bpe import engine
from llmtool.core.bpe.agreement import Agreement, agreement
from llmtool.core.bpe.definition import Beside, Definition
from llmtool.core.bpe.definition_file import serialize
from llmtool.core.bpe.export_card import card
from llmtool.core.bpe.pretokenizers import PRETOKENIZERS
from llmtool.core.bpe.stock_form import tokenizer_json
from llmtool.core.bpe.tokenizer import BaseTokenizer, Text
from llmtool.core.run.atomic import atomic_directory
from llmtool.core.run.console import Console
from llmtool.core.run.errors import CheckError, CompleteError, UserError
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import Run
from llmtool.core.run.outputs import claim_directory

OWN_FILE = "llmtool.json"
REMOTE_CODE = "tokenization_llmtool"
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
    tokenizer: BaseTokenizer,
    directory: Path,
    *,
    sample: Sequence[Text] | None = None,
    read: Iterable[str | Path] = (),
    force: bool = False,
    console: Console | None = None,
) -> Agreement:
    """Write tokenizer.json and what belongs to it; scaffolds bring their code along (trust_remote_code=True).

    read: where the tokenizer and the sample came from. force: an earlier export that stands there is replaced whole.
    """
    run = _claim(tokenizer, directory, "hf", sample, read, force, console)
    with atomic_directory(directory, run.allowed) as work:
        write_huggingface(tokenizer, work, directory.name)
        seal(work, run)
        return agreement(tokenizer, work, sample, place=directory)


def write_huggingface(tokenizer: BaseTokenizer, work: Path, name: str) -> None:
    """The files of an export into a directory that exists. name: what it will be called."""
    definition = tokenizer.definition
    form = tokenizer.policy.to_huggingface(definition)
    remote_code = form.pop("remote_code", None)
    files: dict[str, Any] = {
        "tokenizer.json": tokenizer_json(definition, **form),
        "tokenizer_config.json": tokenizer_config(definition, remote_code),
        "special_tokens_map.json": named_tokens(definition),
    }
    for file, facts in files.items():
        (work / file).write_text(dumps(facts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (work / OWN_FILE).write_bytes(serialize(definition))
    (work / "README.md").write_text(card(definition, name), encoding="utf-8")
    if remote_code:
        source = Path(__file__).with_name(f"{REMOTE_CODE}.py")
        (work / source.name).write_bytes(source.read_bytes())


def _claim(
    tokenizer: BaseTokenizer, directory: Path, to: str, sample: Sequence[Text] | None, read: Iterable[str | Path],
    force: bool, console: Console | None,
) -> Run:  # fmt: skip
    settings, spelled = {"tokenizer": tokenizer.fingerprint()}, {"tokenizer": "TOK"}
    run = Run(
        f"tokenizer export --to {to}", settings, backend=engine.NAME, kind="tokenizer export", spelled=spelled,
        options=tokenizer.definition.options(),
    )  # fmt: skip
    with checked_again(directory, lambda: tokenizer, sample):
        claim_directory(directory, run, read=read, force=force, console=console)
    return run


@contextmanager
def checked_again(
    directory: Path, standing: Callable[[], BaseTokenizer], sample: Sequence[Text] | None = None
) -> Iterator[None]:
    """Around a claim: an export that stands already is complete only if its readers still agree with its tokenizer."""
    try:
        yield
    except CompleteError:
        checked = agreement(standing(), directory, sample)
        if checked.exact or not checked.ran:
            raise
        what = f"complete already, and not equal: {'; '.join(checked.lines())}"
        raise CheckError(what, where=str(directory)) from None


def seal(work: Path, run: Run) -> None:
    """run.json, which names every file."""
    names = sorted(path.relative_to(work) for path in work.rglob("*") if path.is_file())
    run.save(work / "run.json", [{"path": str(name), "bytes": (work / name).stat().st_size} for name in names])


def named_tokens(definition: Definition) -> dict[str, Any]:
    """Roles as they were read; of a tokenizer of our own, those that its special tokens say by their names."""
    pad = next((token for token in definition.vocabulary.special if token in PAD_NAMES), None)
    roles = {"bos_token": definition.bos, "eos_token": definition.eos}
    if definition.beside == Beside():
        roles["pad_token"] = pad
    return {role: token for role, token in roles.items() if token is not None} | definition.beside.roles


def tokenizer_config(definition: Definition, remote_code: str | None = None) -> dict[str, Any]:
    """tokenizer_config.json: what was read, under a class that runs tokenizer.json as it stands.

    transformers 5 builds the pipeline of some classes anew (LlamaTokenizer, Qwen2Tokenizer), so the source's own class
    would give other ids.
    """
    templates: Any = definition.chat_template
    if definition.beside.templates:
        named = {**({} if templates is None else {"default": templates}), **definition.beside.templates}
        templates = [{"name": name, "template": template} for name, template in named.items()]
    return {
        "clean_up_tokenization_spaces": False,
        **definition.beside.config,
        "tokenizer_class": remote_code or "PreTrainedTokenizerFast",
        "add_bos_token": definition.add_bos,
        **named_tokens(definition),
        "added_tokens_decoder": {
            str(token.id): {"content": token.content, **token.flags} for token in definition.vocabulary.added
        },
        **({} if templates is None else {"chat_template": templates}),
        **({"auto_map": {"AutoTokenizer": [None, f"{REMOTE_CODE}.{remote_code}"]}} if remote_code else {}),
    }


def export_tiktoken(
    tokenizer: BaseTokenizer,
    directory: Path,
    *,
    sample: Sequence[Text] | None = None,
    read: Iterable[str | Path] = (),
    force: bool = False,
    console: Console | None = None,
) -> Agreement:
    """Write NAME.tiktoken (token and rank), NAME.json and a README, NAME being the directory's; else as for hf."""
    run = _claim(tokenizer, directory, "tiktoken", sample, read, force, console)
    definition = tokenizer.definition
    _refuse_for_tiktoken(definition)
    name = re.sub(r"[^\w.-]", "_", directory.absolute().name)
    ranks = sorted((number, token) for token, number in definition.vocabulary.id_of.items())
    facts = {
        "name": name,
        "pat_str": PRETOKENIZERS[definition.pretokenizer].pattern or r"[\s\S]+",
        "special_tokens": dict(definition.vocabulary.added_ids),
        "bos": definition.bos,
        "eos": definition.eos,
        "add_bos": definition.add_bos,
        "chat_template": definition.chat_template,
    }
    with atomic_directory(directory, run.allowed) as work:
        with (work / f"{name}.tiktoken").open("wb") as file:
            file.writelines(b"%s %d\n" % (base64.b64encode(token), number) for number, token in ranks)
        (work / f"{name}.json").write_text(dumps(facts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        (work / OWN_FILE).write_bytes(serialize(definition))
        (work / "README.md").write_text(TIKTOKEN_README.format(name=name), encoding="utf-8")
        seal(work, run)
        return agreement(tokenizer, work, sample, place=directory)


def _refuse_for_tiktoken(definition: Definition) -> None:
    """tiktoken merges any two neighbours that spell a token, the smallest id first: that must mean the same."""
    vocabulary = definition.vocabulary
    reasons = {
        f"the encoder {definition.encoder!r}": definition.encoder != "merge",
        "scaffolds": bool(vocabulary.scaffolds),
        f"the normalizer {definition.normalizer_name}": bool(definition.normalizer),
        "added tokens that are not special": not all(token.plain for token in vocabulary.added),
        f"the pre-tokenizer {definition.pretokenizer}": definition.pretokenizer not in PRETOKENIZERS
        or bool(PRETOKENIZERS[definition.pretokenizer].own_steps),
        "an alphabet of characters": vocabulary.alphabet != "bytes",
        "a vocabulary that lacks bytes": bool(vocabulary.missing_bytes),
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
