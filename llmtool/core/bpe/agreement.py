"""Does an exported tokenizer do the same? A sample is encoded by those who will read the export, and compared.

Not its ids alone: what an export loses on the way (a flag, a named token, a template) changes what others decode.
"""

import base64
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmtool.core.bpe.tokenizer import BaseTokenizer, Text
from llmtool.core.bpe.vocabulary import encode_text
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.core.run.wording import counted

SAMPLE = (
    "The quick brown fox doesn't jump over 1234567 lazy dogs; it's 3.14 o'clock.\r\n\r\n\tWE'LL SEE...  ",
    'def f(x: int) -> str:\n    return f"{x!r}" * 2  # ===== ------ \n\n\n\tclass A_b2C3: pass\n',
    "Größe, naïve façade, Łódź; Ελληνικά, λόγος. Привет, как дела? Ёлка",
    "日本語のテキストと漢字、カタカナ。中文字符：床前明月光，疑是地上霜。한국어 문장입니다.",
    "हिन्दी में लिखा हुआ पाठ। ગુજરાતી લખાણ। தமிழ் உரை. ภาษาไทยไม่มีช่องว่าง",
    "العربية من اليمين إلى اليسار، עברית גם כן. ١٢٣٤٥ ۶۷۸ ⅷ ²³",
    "👩‍👩‍👧‍👦🏳️‍🌈 naïve e\u0301 ﬁ Å Å K \u00a0\u2003\u3000 \u200b\u2028 ''s 'S 'ſ",
    "Kiswahili ni lugha ya Kibantu. Euskara hizkuntza bat da. Tiếng Việt có dấu.",
    "",
    " ",
    "\n\n  \n",
    "a" * 300 + " " * 300 + "=" * 300,
)
"""A few lines in many scripts, with what pre-tokenizers disagree on: white space, digits, contractions, marks."""

WITH_TRANSFORMERS = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True, local_files_only=True)
documents, named = json.load(sys.stdin)
ids = [tokenizer.encode(text, add_special_tokens=False) for text in documents]
text = {skip: [tokenizer.decode(row, skip_special_tokens=skip, clean_up_tokenization_spaces=False) for row in ids]
        for skip in (False, True)}
added = {str(number): {"content": token.content, **{flag: getattr(token, flag) for flag in
         ("single_word", "lstrip", "rstrip", "normalized", "special")}}
         for number, token in tokenizer.added_tokens_decoder.items()}
facts = {name: getattr(tokenizer, name, None) for name in named}
if "additional_special_tokens" in named:  # their name in transformers 5
    facts["additional_special_tokens"] = facts["additional_special_tokens"] or tokenizer.extra_special_tokens
sys.stdout.write("\\n" + json.dumps([ids, text[False], text[True], tokenizer.encode("a"), added, facts], default=str))
"""

CARRIED = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces")
"""Settings of tokenizer_config.json that a reader shows as attributes of the same name."""


@dataclass(frozen=True)
class Read:
    """What a reader made of the documents, and what it says of the tokenizer.

    ids, texts, stripped: of each document; what its ids decode to, with special tokens and without. prompt: ids of "a"
    as a model is given it. added: id -> added token with its flags; None where a reader does not tell. facts: by name.
    """

    ids: list[list[int]]
    texts: list[str]
    stripped: list[str]
    prompt: list[int]
    added: dict[str, Any] | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """How one reader fared: equal of documents, what else it reads otherwise, or why it could not run."""

    reader: str
    documents: int = 0
    equal: int = 0
    skipped: str | None = None
    differs: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """It ran, and nothing was different."""
        return self.skipped is None and self.equal == self.documents and not self.differs


@dataclass(frozen=True)
class Agreement:
    """How the readers of an export fared."""

    checks: tuple[Check, ...]

    @property
    def exact(self) -> bool:
        """At least one reader ran, and nothing was different for any reader that ran."""
        return bool(self.ran) and all(check.exact for check in self.ran)

    @property
    def ran(self) -> list[Check]:
        """The readers that are installed and take such files."""
        return [check for check in self.checks if check.skipped is None]

    def lines(self) -> list[str]:
        """A line for each reader, and one for each thing that it reads otherwise."""
        found = []
        for check in self.checks:
            if check.skipped:
                found.append(f"{check.reader}: not checked ({check.skipped})")
                continue
            exact = ", exact" if check.exact else ""
            found.append(f"{check.reader}: {check.equal} of {counted(check.documents, 'document')} equal{exact}")
            found += [f"{check.reader}: {what}" for what in check.differs]
        return found


def agreement(
    tokenizer: BaseTokenizer, directory: Path, sample: Sequence[Text] | None = None, *, place: Path | None = None
) -> Agreement:
    """Compare an export with its source on a sample of documents, by default a few lines in many scripts.

    A document is equal when its ids are, special tokens in the text included, and their text, with special tokens and
    without. So must be the ids of a prompt, each added token's flags, the named tokens, the chat templates and the
    carried settings. The readers are found by the files: `tokenizers` and `transformers`, or `tiktoken`. transformers
    runs as a process of its own: it loads the directory's code, and takes seconds to import. place: where the directory
    will stand, if not where it does: a reader may make something of its name.
    """
    place = directory if place is None else place
    with _called(directory, place) as named:
        try:
            return _compare(tokenizer, named, sample)
        except CannotReadError as error:
            raise UserError(str(error), where=str(place)) from None


@contextmanager
def _called(directory: Path, place: Path) -> Iterator[Path]:
    """The directory by the name that `place` has."""
    name = Path(os.path.realpath(place)).name
    if not name or directory == place:
        yield directory
        return
    with tempfile.TemporaryDirectory() as above:
        link = Path(above) / name
        link.symlink_to(directory.absolute(), target_is_directory=True)
        yield link


def _compare(tokenizer: BaseTokenizer, directory: Path, sample: Sequence[Text] | None) -> Agreement:
    documents = _documents(tokenizer, SAMPLE if sample is None else sample)
    wanted = _wanted(tokenizer, documents)
    checks = []
    for reader, read in _readers(directory).items():
        if importlib.util.find_spec(reader) is None:
            checks.append(Check(reader, skipped=f"{reader} is not installed"))
            continue
        try:
            found = read(directory, documents, list(wanted.facts))
        except UnreadableError as error:
            checks.append(Check(reader, skipped=str(error)))
            continue
        rows = zip(
            zip(found.ids, found.texts, found.stripped, strict=True),
            zip(wanted.ids, wanted.texts, wanted.stripped, strict=True),
            strict=True,
        )
        equal = sum(one == other for one, other in rows)
        checks.append(Check(reader, len(documents), equal, differs=tuple(_differences(found, wanted))))
    return Agreement(tuple(checks))


class CannotReadError(Exception):
    """A reader that fails on the export."""


class UnreadableError(Exception):
    """A version of a reader that does not take this kind of file."""


def _wanted(tokenizer: BaseTokenizer, documents: list[str]) -> Read:
    definition = tokenizer.definition
    ids = tokenizer.encode_batch(documents, allow_special=True)
    templates = definition.beside.templates
    if definition.chat_template is not None and templates:
        templates = {"default": definition.chat_template, **templates}
    facts = {
        "bos_token": definition.bos, "eos_token": definition.eos,
        **{role: text for role, text in definition.beside.roles.items() if isinstance(text, str)},
        **{name: definition.beside.config[name] for name in CARRIED if name in definition.beside.config},
        "chat_template": templates or definition.chat_template,
    }  # fmt: skip
    if isinstance(listed := definition.beside.roles.get("additional_special_tokens"), list):
        facts["additional_special_tokens"] = listed
    before, after = definition.around
    return Read(
        ids, tokenizer.decode_batch(ids), tokenizer.decode_batch(ids, skip_special=True),
        [*before, *tokenizer.encode("a"), *after],
        {str(token.id): {"content": token.content, **token.flags} for token in definition.vocabulary.added}, facts,
    )  # fmt: skip


def _differences(found: Read, wanted: Read) -> Iterator[str]:
    """What a reader says otherwise, the first added token and every fact by name."""
    if found.prompt != wanted.prompt:
        yield f"a prompt 'a' is {found.prompt}, not {wanted.prompt}"
    if found.added is not None and found.added != wanted.added:
        numbers = sorted({*found.added, *(wanted.added or {})}, key=int)
        number = next(n for n in numbers if found.added.get(n) != (wanted.added or {}).get(n))
        yield f"added token {number} is {found.added.get(number)}, not {(wanted.added or {}).get(number)}"
    for name, value in wanted.facts.items():
        if name in found.facts and not _same(found.facts[name], value):
            yield f"{name} is {found.facts[name]!r:.100}, not {value!r:.100}"


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, list) and isinstance(wanted, list):
        return sorted(map(str, found)) == sorted(map(str, wanted))
    return bool(found == wanted)


def _documents(tokenizer: BaseTokenizer, sample: Sequence[Text]) -> list[str]:
    """Strings, as the readers take nothing else: what is no UTF-8 becomes U+FFFD. One more holds the special tokens."""
    data = [encode_text(text) if isinstance(text, str) else text for text in sample]
    added = list(tokenizer.added_tokens)
    special = "x".join(["", *added, " ", *added]) + "  ".join([*added, ""])
    return [*(text.decode("utf-8", "replace") for text in data), special]


def _readers(directory: Path) -> dict[str, Callable[[Path, list[str], list[str]], Read]]:
    if not (directory / "tokenizer.json").is_file():
        return {"tiktoken": _by_tiktoken}
    config = parse_json((directory / "tokenizer_config.json").read_bytes())
    stock = {} if "auto_map" in config else {"tokenizers": _by_tokenizers}
    return {**stock, "transformers": _by_transformers}


def _by_tokenizers(directory: Path, documents: list[str], _named: list[str]) -> Read:
    from importlib.metadata import version

    from tokenizers import Tokenizer

    try:
        reader = Tokenizer.from_file(str(directory / "tokenizer.json"))
    except Exception as error:  # the library raises nothing narrower
        raise UnreadableError(f"tokenizers {version('tokenizers')} refuses it: {error!s:.200}") from None
    ids = [encoding.ids for encoding in reader.encode_batch(documents, add_special_tokens=False)]
    listed = getattr(reader, "get_added_tokens_decoder", None)  # 1.0 has none
    added = None if listed is None else {str(number): _token(token) for number, token in listed().items()}
    return Read(
        ids, [reader.decode(row, skip_special_tokens=False) for row in ids],
        [reader.decode(row, skip_special_tokens=True) for row in ids], reader.encode("a").ids, added, {},
    )  # fmt: skip


def _token(token: Any) -> dict[str, Any]:
    names = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return {name: getattr(token, name) for name in names}


def _by_transformers(directory: Path, documents: list[str], named: list[str]) -> Read:
    with tempfile.TemporaryDirectory() as modules:
        environment = {**os.environ, "HF_MODULES_CACHE": modules, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", WITH_TRANSFORMERS, str(directory.absolute())],
            input=dumps([documents, named]).encode(),
            capture_output=True,
            env=environment,
            cwd=modules,
        )
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no output"]
        raise CannotReadError(f"transformers cannot read the export: {reason[0]}")
    return Read(*parse_json(done.stdout.splitlines()[-1]))


def _by_tiktoken(directory: Path, documents: list[str], _named: list[str]) -> Read:
    import tiktoken

    facts: dict[str, Any] = read_tiktoken(directory)
    reader = tiktoken.Encoding(**facts)
    special = set(facts["special_tokens"].values())
    ids = [reader.encode(document, allowed_special="all") for document in documents]
    stripped = [reader.decode([token for token in row if token not in special]) for row in ids]
    return Read(ids, [reader.decode(row) for row in ids], stripped, reader.encode("a"), None, {})


def read_tiktoken(directory: Path) -> dict[str, Any]:
    """Arguments of tiktoken.Encoding, from a directory that export_tiktoken wrote."""
    ranks = next(directory.glob("*.tiktoken"))
    facts = parse_json(ranks.with_suffix(".json").read_bytes())
    pairs = (line.split() for line in ranks.read_bytes().splitlines())
    return {
        "name": facts["name"],
        "pat_str": facts["pat_str"],
        "mergeable_ranks": {base64.b64decode(token): int(rank) for token, rank in pairs},
        "special_tokens": facts["special_tokens"],
    }
