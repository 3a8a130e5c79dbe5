"""Instruction data as the commands name it: files, a format, a chat template, a tokenizer -> examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmtool.commands.posttrain.settings import DataOptions
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.model import load_tokenizer
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llmtool.core.train.sft.examples import Counts, Examples
    from llmtool.core.train.sft.template import Specials, Template


@dataclass(frozen=True)
class Reader:
    """The tokenizer and the template of one command."""

    tokenizer: Tokenizer
    specials: "Specials"
    template: "Template | None"
    options: DataOptions

    def encode(self, text: str) -> list[int]:
        """Ids of a part of a text: special tokens are read as such, none is added."""
        return self.tokenizer.encode(text, allow_special=True)

    def examples(self, inputs: Sequence[str], console: Console) -> "tuple[Examples, Counts]":
        """Read, render, tokenize, cut."""
        from llmtool.core.train.sft.examples import make_examples
        from llmtool.core.train.sft.formats import read_conversations

        with console.progress("reading", None, "rows") as bar:
            return make_examples(
                read_conversations(inputs, self.options.format), self.template, self.specials, self.encode,
                self.options.places, drop_overlong=self.options.drop_overlong, advance=bar.advance,
            )  # fmt: skip


def open_reader(inputs: Sequence[str], options: DataOptions) -> Reader:
    """Find tokenizer and template. Data that needs no template (plain text, prompt and completion) goes without one."""
    require("torch", extra="models", why="to post-train")
    from llmtool.core.corpus.inputs import find_inputs
    from llmtool.core.train.sft.formats import read_conversations
    from llmtool.core.train.sft.template import find_specials, find_template

    if options.places < 2:
        raise UserError(f"--length {options.length}: wanted two tokens at least")
    for stream in find_inputs(inputs):
        if stream.size is None:  # read twice: once to see what it is, once for the rows
            raise UserError("instruction data is read from files only", where=stream.source, hint="save it first")
    path = options.tokenizer
    if path.name in ("tokenizer.json", "llmtool.json"):  # what stands beside it belongs to it
        path = path.parent
    tokenizer = load_tokenizer(path, hint="give --tokenizer")
    own = tokenizer.definition
    names = {"bos_token": own.bos, "eos_token": own.eos}
    specials = find_specials(path if path.is_dir() else path.parent, names)
    first = next(iter(read_conversations(inputs, options.format)), None)
    if first is None:
        raise UserError("holds no row", where=", ".join(inputs))
    needed = options.template is not None or not first.pieces
    template = find_template(options.template, options.tokenizer, specials, own.chat_template) if needed else None
    return Reader(tokenizer, specials, template, options)


def count_lines(counts: "Counts") -> list[tuple[str, str]]:
    """What became of the rows, for people."""
    names = {
        "empty": "dropped: empty",
        "masked": "dropped: nothing to train",
        "cut_masked": "dropped: every answer beyond the length",
        "overlong": "dropped: longer than the length",
        "truncated": "kept, but truncated",
    }
    found = [("rows", f"{counts.rows:,}"), ("kept", f"{counts.kept:,}")]
    found += [
        (text, f"{getattr(counts, key):,}, the first at {counts.first[key]}")
        for key, text in names.items()
        if getattr(counts, key)
    ]
    share = counts.trained / max(1, counts.tokens)
    return [*found, ("tokens", f"{counts.tokens:,}, {counts.trained:,} of them trained ({share:.0%})")]
