"""Data and held-out text as `llmtool train` and `llmtool eval` name them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.core.bpe.foreign_files import holds_tokenizer
from llmtool.core.corpus.inputs import STDIN, distinct_names, split_weight
from llmtool.core.corpus.reading import Reading
from llmtool.core.corpus.remote import is_url
from llmtool.core.run.console import Console
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.numbers import amount
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from llmtool.core.corpus.token_files import TokenFile
    from llmtool.core.eval.loss import PositionLoss
    from llmtool.core.train.objective import Batch
    from llmtool.core.train.world import World


@dataclass(frozen=True)
class Source:
    """A source as it was named: NAME=PATH@WEIGHT, name and weight being optional."""

    name: str
    path: str
    weight: float = 1.0


def parse_source(text: str) -> Source:
    """ "web=web.bin@0.7": a path that exists as it stands is taken as it stands."""
    name, path = "", text
    if not Path(text).exists():
        head, equals, rest = text.partition("=")
        if equals and head and "/" not in head:
            name, path = head, rest
    path, weight = split_weight(path)
    if path != STDIN and not is_url(path) and not Path(path).exists():
        raise UserError("no such file or directory", where=path)
    return Source(name, path, weight)


def parse_sources(texts: Sequence[str]) -> list[Source]:
    """Sources with names of their own: as given, else of their files."""
    sources = [parse_source(text) for text in texts]
    unnamed = [source.path for source in sources if not source.name]
    found = iter(distinct_names(["stdin" if path == STDIN else path for path in unnamed]))
    sources = [source if source.name else replace(source, name=next(found)) for source in sources]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two sources are called {name!r}", hint="name them: NAME=PATH")
    return sources


def find_tokenizer(named: str | None, checkpoint: Path | None, console: Console) -> Tokenizer | None:
    """The tokenizer that was named, else the checkpoint's own; None where there is none that cuts text as we do."""
    if named is not None:
        return Tokenizer.load(named)
    if checkpoint is None or not holds_tokenizer(checkpoint):
        return None
    try:
        return Tokenizer.load(checkpoint)
    except UserError as error:
        console.warn(f"the checkpoint's tokenizer cannot be used on text: {error}")
        return None


def count(text: str | int, option: str) -> int:
    """Tokens of "6M" or 6000000."""
    return amount(text, option)


def open_source(
    source: Source,
    tokenizer: Tokenizer | None,
    console: Console,
    threads: int | None,
    reading: Reading | None = None,
    bin_dtype: str | None = None,
) -> "TokenFile":
    """Map or tokenise a source; one of another tokenizer is refused. bin_dtype: of a .bin that says nothing of it."""
    from llmtool.core.corpus.token_files import encode_text, is_token_file, open_tokens

    if not is_token_file(source.path):
        if tokenizer is None:
            raise UserError(
                "is text, which needs a tokenizer",
                where=source.path,
                hint="give --tokenizer TOK, or make one: llmtool tokenizer train",
            )
        return encode_text(tokenizer, [source.path], source.name, console, threads, reading)
    file = open_tokens(source.path, source.name, bin_dtype)
    if tokenizer is not None and file.tokenizer not in (None, tokenizer.fingerprint()):
        raise UserError("was written with another tokenizer", where=source.path, hint=f"see {source.path}.json")
    return file


def token_bytes(tokenizer: Tokenizer | None, size: int) -> "torch.Tensor | None":
    """Bytes of text that each id stands for [size], whatever it is spelled like (<0x0A> is one byte, SentencePiece's
    mark a space); special tokens stand for none."""
    if tokenizer is None:
        return None
    import torch

    sizes = torch.zeros(size, dtype=torch.int64)
    special = set(tokenizer.special_tokens.values())
    for number, text in tokenizer.texts.items():
        if number < size and number not in special:
            sizes[number] = len(text)
    return sizes


def _count_nothing(rows: float) -> None:
    """Where no bar is drawn."""


class HeldOut:
    """Rows of held-out text, scored with whatever gives the loss of each position.

    The first `tokens` predictions, each once, in rows of `length`; what is left over is a shorter row of its own.
    """

    def __init__(self, file: "TokenFile", length: int, tokens: int, *, mask_documents: bool) -> None:
        if len(file) < 2:
            raise UserError("holds no two tokens: nothing to predict", where=file.name)
        self.file, self.mask_documents = file, mask_documents
        self.tokens = max(1, min(tokens, len(file) - 1))
        self.length = min(length, self.tokens)
        self.rows = -(-self.tokens // self.length)
        self.name = file.name

    def batch(self, first: int, count: int) -> "Batch":
        """Rows first .. first + count - 1 as far as there are any, in order, all of one length: what fills the last one
        up predicts nothing. Beyond the last there is one row, which predicts nothing."""
        import numpy as np
        import torch

        from llmtool.core.train.data import to_batch
        from llmtool.core.train.objective import IGNORED

        size = self.length + 1
        ids, masks, real = [], [], []
        for number in range(first, min(first + count, self.rows)) or [self.rows]:
            start = (number if number < self.rows else 0) * self.length
            known = min(size, self.tokens + 1 - start)
            ids.append(np.pad(self.file.ids[start : start + known].astype("int64"), (0, size - known)))
            mask = self.file.documents(start, known) if self.mask_documents else None
            masks.append(None if mask is None else np.pad(mask, (0, size - known), mode="edge"))
            real.append(known - 1 if number < self.rows else 0)
        batch = to_batch(ids, masks)
        batch.labels[torch.arange(self.length) >= torch.tensor(real)[:, None]] = IGNORED
        return batch

    def score(
        self,
        losses: "Callable[[Batch], torch.Tensor]",
        micro: int,
        world: "World",
        sizes: "torch.Tensor | None" = None,
        advance: Callable[[float], None] = _count_nothing,
    ) -> "PositionLoss":
        """Loss by position, `micro` rows at a time; processes take turns, and each calls `losses` equally often."""
        from llmtool.core.eval.loss import PositionLoss
        from llmtool.core.model.mask import positions_of_documents

        total = PositionLoss.empty(self.length)
        for first in range(0, self.rows, micro * world.size):
            batch = self.batch(first + world.rank * micro, micro)
            positions = None if batch.documents is None else positions_of_documents(batch.documents)
            total.add(losses(batch).cpu(), batch.labels, sizes, positions)
            advance(micro * world.size)
        total.merge(lambda values: world.total(values.to(world.device)))
        return total


def evaluate(
    sets: Sequence[HeldOut],
    losses: "Callable[[Batch], torch.Tensor]",
    micro: int,
    world: "World",
    sizes: "torch.Tensor | None",
) -> dict[str, Any]:
    """{SET: {"loss", "positions", "bits_per_byte"}}."""
    return {held.name: held.score(losses, micro, world, sizes).figures() for held in sets}
