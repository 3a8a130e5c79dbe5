"""`llmtool.load_model`: a checkpoint as a function from ids to logits, and as a generator of text.

    from llmtool import load_model
    model = load_model("Llama-3.2-1B", dtype="bf16")
    logits = model([[128000, 9906]])                    # [batch, time, vocabulary]
    for text in model.stream("Once upon a time", max_new_tokens=50): print(text, end="")

Binds the methods of the catalog to the core's decoder, so that the core needs to know none of them.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llmtool import catalog
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.checkpoint.dtypes import element_type, torch_dtype
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.manifest import Run

if TYPE_CHECKING:
    import torch

    from llmtool.core.model.config import Config
    from llmtool.core.model.decoder import Decoder, Parts
    from llmtool.core.model.export import PartFile
    from llmtool.core.model.generate import Sampling


class TextCodec(Protocol):
    """A tokenizer as far as generation needs one."""

    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """Ids of a prompt, with the beginning-of-text token where the tokenizer sets one."""
        ...

    def encode_piece(self, text: str) -> list[int]:
        """Ids of a part of a text: special tokens are read as such, none is added."""
        ...

    @property
    def specials(self) -> dict[str, str | None]:
        """The texts of "bos_token" and "eos_token", as far as the tokenizer itself knows them."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text; a character whose bytes are not all there ends in U+FFFD."""
        ...


def build(config: "Config") -> "Decoder":
    """The decoder of a config, with the parts of its methods."""
    from llmtool.core.model.decoder import Decoder

    return Decoder(config, build_parts(config))


def build_parts(config: "Config") -> "Parts":
    """The base parts, changed by each method in the order of config.json."""
    from llmtool.core.model.decoder import Parts

    parts = Parts()
    for method in config.methods:
        change = catalog.resolve(catalog.ARCHITECTURE, str(method["name"]), "config.json: llmtool.methods")
        parts = change(parts, method)
    return parts


def load_model(path: str | Path, dtype: "str | torch.dtype | None" = None, device: str = "cpu") -> "Model":
    """Read a checkpoint directory. dtype: "bf16", "fp16", "fp32", "fp64" or torch's own; None keeps what is stored."""
    require("torch", extra="models", why="to run models")
    from llmtool.core.model.loading import load_decoder

    wanted = torch_dtype(element_type(dtype)) if isinstance(dtype, str) else dtype
    return Model(load_decoder(path, build, dtype=wanted, device=find_device(device)), Path(path))


class Model:
    """A loaded checkpoint. `.decoder` is the torch module, `.config` its architecture."""

    def __init__(self, decoder: "Decoder", path: Path) -> None:
        self.decoder = decoder
        self.config = decoder.config
        self.path = path

    @property
    def device(self) -> "torch.device":
        """Where the weights are."""
        return self.decoder.lm_head.weight.device

    def __call__(self, ids: "torch.Tensor | Sequence[Sequence[int]]") -> "torch.Tensor":
        """ids [batch, time], a tensor or rows of one length -> logits [batch, time, vocabulary]."""
        import torch

        if not isinstance(ids, torch.Tensor):
            if len({len(row) for row in ids}) != 1:
                raise UserError("rows of ids must have one length", hint="pad them, or call once for each")
            ids = torch.tensor([list(row) for row in ids])
        if ids.dim() != 2 or not ids.numel():
            raise UserError(f"ids of shape {list(ids.shape)}, wanted [batch, time]")
        self.refuse_out_of_range(int(ids.min()), int(ids.max()))
        with torch.inference_mode():
            logits: torch.Tensor = self.decoder(ids.to(self.device))
        return logits

    def refuse_out_of_range(self, least: int, largest: int) -> None:
        """An id without an embedding is one line, not a fault of the device."""
        wrong = least if least < 0 else largest
        if not 0 <= wrong < self.config.vocab_size:
            what = f"id {wrong} is out of range: model.embed_tokens.weight holds {self.config.vocab_size:,} rows"
            raise UserError(what, where=str(self.path), hint="is it the tokenizer of this model?")

    @cached_property
    def tokenizer(self) -> TextCodec:
        """The tokenizer in the checkpoint's directory."""
        codec = load_codec(self.path)
        if codec.vocab_size > self.config.vocab_size:
            what = (
                f"the tokenizer has {codec.vocab_size:,} tokens, model.embed_tokens.weight {self.config.vocab_size:,}"
            )
            raise UserError(f"{what} rows", where=str(self.path), hint="is it the tokenizer of this model?")
        return codec

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a text: eos_token_id of generation_config.json, else of config.json."""
        for name in ("generation_config.json", "config.json"):
            file = self.path / name
            eos = read_json_object(file).get("eos_token_id") if file.is_file() else None
            if eos is not None:
                return frozenset(eos if isinstance(eos, list) else [eos])
        return frozenset()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        sampling: "Sampling | None" = None,
        stop: Collection[int] | None = None,
        compiled: bool = False,
    ) -> Iterator[list[int | None]]:
        """As core.model.generate, with prompts checked; stop defaults to the checkpoint's end-of-text ids."""
        from llmtool.core.model.generate import generate

        if not prompts or not all(prompts):
            raise UserError("a prompt without a single token", hint="the model needs something to continue")
        self.refuse_out_of_range(min(map(min, prompts)), max(map(max, prompts)))
        stop = self.stop_ids if stop is None else stop
        return generate(
            self.decoder, prompts, max_new_tokens=max_new_tokens, sampling=sampling, stop=stop, compiled=compiled
        )

    def stream(self, prompt: str, *, max_new_tokens: int = 128, sampling: "Sampling | None" = None) -> Iterator[str]:
        """The continuation of a text, piece by piece, without the end-of-text token."""
        ids: list[int] = []
        shown = ""
        for (token,) in self.generate(
            [self.tokenizer.encode(prompt)], max_new_tokens=max_new_tokens, sampling=sampling
        ):
            if token is not None and token not in self.stop_ids:
                ids.append(token)
            text = self.tokenizer.decode(ids)
            if not text.endswith("\ufffd"):  # the rest of a character is still to come
                yield text[len(shown) :]
                shown = text
        yield self.tokenizer.decode(ids)[len(shown) :]


def load_codec(path: Path) -> TextCodec:
    """The directory's own tokenizer: ours where it holds our file, else whatever tokenizer.json describes."""
    if (path / "llmtool.json").is_file():
        from llmtool.tokenizer import Tokenizer

        return _OwnCodec(Tokenizer.load(path))
    if not (path / "tokenizer.json").is_file():
        raise UserError("holds no tokenizer.json", where=str(path), hint="give ids with --ids")
    return _HubCodec(path / "tokenizer.json")


def own_codec(file: Path) -> TextCodec:
    """A tokenizer in a file of ours."""
    from llmtool.tokenizer import Tokenizer

    return _OwnCodec(Tokenizer.load(file))


class _OwnCodec:
    """llmtool's tokenizer: every algorithm it knows, scaffolds included."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.vocab_size: int = tokenizer.vocab_size

    def encode(self, text: str) -> list[int]:
        definition = self._tokenizer.definition
        start = [self._tokenizer.special_tokens[definition.bos]] if definition.add_bos and definition.bos else []
        return [*start, *self.encode_piece(text)]

    def encode_piece(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, allow_special=True)
        return list(ids)

    @property
    def specials(self) -> dict[str, str | None]:
        definition = self._tokenizer.definition
        return {"bos_token": definition.bos if definition.add_bos else None, "eos_token": definition.eos}

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(self._tokenizer.decode_bytes(ids)).decode(errors="replace")


class _HubCodec:
    """Any tokenizer.json, SentencePiece's among them, by the `tokenizers` library."""

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"not a tokenizer: {error}", where=str(file)) from None
        self.vocab_size: int = self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def encode_piece(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    @property
    def specials(self) -> dict[str, str | None]:
        return {}

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids))
        return text


def read_ids(text: str) -> list[int]:
    """Ids written as numbers with spaces or commas between."""
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise UserError(f"not ids: {error}", hint="whole numbers with spaces between") from None


def export(
    path: Path, output: Path, *, dtype: str | None = None, force: bool = False, console: Console
) -> dict[str, Any]:
    """`llmtool convert export`: a directory for stock transformers."""
    require("torch", extra="models", why="to read and write weights")
    from llmtool.core.model.export import export_checkpoint
    from llmtool.core.model.loading import read_architecture

    checkpoint: CheckpointReader = open_checkpoint(path)
    config = read_architecture(checkpoint)
    run = Run("convert export", {"checkpoint": str(path), "dtype": dtype})
    report = export_checkpoint(
        checkpoint, output, run=run, parts=part_files(config), dtype=dtype, force=force, console=console
    )
    console.info(f"{output}: {report['parameters']:,} parameters, code and model card written")
    return report


def part_files(config: "Config") -> dict[str, "PartFile"]:
    """The exportable file of each method in use."""
    from inspect import getfile

    from llmtool.core.model.export import PartFile

    names = [str(method["name"]) for method in config.methods]
    kinds = {name: type(catalog.resolve(catalog.ARCHITECTURE, name)) for name in names}
    return {
        name: PartFile(name, Path(getfile(kind)), kind.__name__, getattr(kind, "serving", None))
        for name, kind in kinds.items()
    }


def find_device(name: str) -> str:
    """The device that --device names; auto takes a GPU where there is one."""
    import torch

    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if name.startswith("cuda") and not available:
        raise UserError("no GPU is available", hint="--device cpu")
    try:
        return str(torch.device(name))
    except RuntimeError:
        raise UserError(f"device {name!r} is not known", hint="cpu, cuda or cuda:N") from None
