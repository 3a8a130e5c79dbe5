"""Instruction data as the commands name it: files, a format, a chat template, a tokenizer -> examples."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmtool.commands.posttrain.settings import DataOptions
from llmtool.core.bpe.foreign_files import FILES
from llmtool.core.run.console import Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.wording import counted
from llmtool.model import load_tokenizer
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llmtool.core.train.sft.example import Examples
    from llmtool.core.train.sft.examples import Around, Counts
    from llmtool.core.train.sft.template import Template


@dataclass(frozen=True)
class Reader:
    """The tokenizer and the template of one command."""

    tokenizer: Tokenizer
    around: "Around"
    template: "Template | None"
    options: DataOptions

    def examples(self, inputs: Sequence[str], console: Console) -> "tuple[Examples, Counts]":
        """Read, render, tokenize, cut."""
        from llmtool.core.train.sft.examples import make_examples
        from llmtool.core.train.sft.formats import read_conversations

        with console.progress("reading", None, "rows") as bar:
            return make_examples(
                read_conversations(inputs, self.options.format, self.options.ignore), self.template, self.around,
                self.tokenizer.encode_with_places, self.options.places, drop_overlong=self.options.drop_overlong,
                advance=bar.advance,
            )  # fmt: skip

    @property
    def day(self) -> str | None:
        """The day that the template writes; None for one that writes none."""
        return self.template.now[:10] if self.template and self.template.dated and self.template.now else None

    def spelled_out(self) -> dict[str, int]:
        """What looks like a special token in the template and is none of the tokenizer's, with the tokens it takes."""
        if self.template is None:
            return {}
        found = {mark for source in self.template.sources.values() for mark in MARK.findall(source)}
        sizes = {mark: len(self.tokenizer.encode(mark, allow_special=True)) for mark in sorted(found)}
        return {mark: size for mark, size in sizes.items() if size > 1}

    def warnings(self, counts: "Counts") -> list[str]:
        """What will go otherwise than people think."""
        found = []
        if marks := self.spelled_out():
            named = ", ".join(f"{mark!r} takes {size}" for mark, size in list(marks.items())[:4])
            found.append(f"the chat template writes what the tokenizer has no tokens for: {named}")
        if counts.endless > sum(counts.ends.values()):
            first = counts.first["endless"]
            found.append(
                f"no special token ends {counts.endless:,} answers, the first at {first}: the model learns no end"
            )
        if counts.broken:
            what = f"lone surrogates, no characters, in {counted(counts.broken, 'row')}, the first at"
            found.append(f"{what} {counts.first['broken']}: bytes that are no UTF-8 are trained; mend or drop them")
        return found


MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|<[a-z]+_of_[a-z]+>")
"""How special tokens are written: <|im_start|>, <start_of_turn>."""


def open_reader(inputs: Sequence[str], options: DataOptions) -> Reader:
    """Find tokenizer and template. Data that needs no template (plain text, prompt and completion) goes without one."""
    require("torch", extra="models", why="to post-train")
    from llmtool.core.corpus.inputs import find_inputs
    from llmtool.core.train.sft.examples import Around
    from llmtool.core.train.sft.formats import read_conversations
    from llmtool.core.train.sft.template_files import find_specials, find_template

    if options.places < 2:
        raise UserError(f"--length {options.length}: wanted two tokens at least")
    for stream in find_inputs(inputs):
        if stream.size is None:  # read twice: once to see what it is, once for the rows
            raise UserError("instruction data is read from files only", where=stream.source, hint="save it first")
    path = options.tokenizer
    if path.name in FILES:  # what stands beside it belongs to it
        path = path.parent
    tokenizer = load_tokenizer(path, hint="give --tokenizer")
    own = tokenizer.definition
    names: dict[str, Any] = {**own.beside.roles, "bos_token": own.bos, "eos_token": own.eos}
    specials = find_specials(path if path.is_dir() else path.parent, names)
    first = next(iter(read_conversations(inputs, options.format, options.ignore)), None)
    if first is None:
        raise UserError("holds no row", where=", ".join(inputs))
    template, held = None, _templates(own.chat_template, own.beside.templates)
    if options.template is not None or not first.pieces:
        template = find_template(options.template, path, specials, held, now=options.now)
    ends = frozenset(tokenizer.special_tokens.values()) | {
        number for number in [tokenizer.eos_id] if number is not None
    }
    after = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
    return Reader(tokenizer, Around(tuple(own.around[0]), after, ends), template, options)


def _templates(default: str | None, others: Mapping[str, str]) -> dict[str, str]:
    return {**others, **({"default": default} if default is not None else {})}


def count_lines(counts: "Counts") -> list[tuple[str, str]]:
    """What became of the rows, for people."""
    losses = {
        "empty": "dropped: empty",
        "masked": "dropped: nothing to train",
        "cut_masked": "dropped: every answer beyond the length",
        "overlong": "dropped: longer than the length",
        "truncated": "kept, but truncated",
    }
    odd = {
        "unprompted": "answers that begin otherwise than prompted",
        "thoughtless": "answers trained without their thought",
        "seams": "answers that begin within a token",
        "endless": "answers without a special token at the end",
        "broken": "rows with lone surrogates",
    }

    def one(key: str, count: int) -> str:
        return f"{count:,}, the first at {counts.first[key]}"

    found = [("rows", f"{counts.rows:,}"), ("kept", f"{counts.kept:,}")]
    found += [(text, one(key, getattr(counts, key))) for key, text in losses.items() if getattr(counts, key)]
    if counts.answers:
        trained = counts.answers - sum(counts.untrained.values())
        found.append(("answers", f"{counts.answers:,}, {trained:,} of them trained"))
    found += [(f"not trained: {why}", one(f"untrained {why}", n)) for why, n in counts.untrained.items()]
    found += [(text, one(key, getattr(counts, key))) for key, text in odd.items() if getattr(counts, key)]
    found += [(f"turns of {role}", f"{count:,}") for role, count in counts.roles.items()]
    found += [
        (f"turns of {role} that the template hides", one(f"hidden {role}", n)) for role, n in counts.hidden.items()
    ]
    found += [(f"field {name}", f"{count:,}, for the template") for name, count in counts.fields.items()]
    found += [(f"field {name}", f"{one(f'unread {name}', n)}: not read") for name, n in counts.unread.items()]
    share = counts.trained / max(1, counts.tokens)
    return [*found, ("tokens", f"{counts.tokens:,}, {counts.trained:,} of them trained ({share:.0%})")]
