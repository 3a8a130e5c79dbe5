"""The model that training starts from: a size or a config with new weights, or a checkpoint with its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import parse_json, read_json_object
from llmtool.core.run.numbers import real
from llmtool.model import build, build_parts, override, settable
from llmtool.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llmtool.core.kernels.spec import Compute
    from llmtool.core.model.config import Config
    from llmtool.core.model.decoder import Decoder
    from llmtool.core.train.sharding import Rows

NEW_LENGTH, LONGEST = 256, 2048
"""Context of a new model, and the most that an existing one is trained at, where --length is not given."""


@dataclass
class Start:
    """raw: config.json; checkpoint: where weights come from, None for new ones."""

    raw: dict[str, Any]
    config: "Config"
    checkpoint: CheckpointReader | None = None

    def _spread(self) -> float:
        from llmtool.core.model.new import SPREAD

        return real(self.raw.get("initializer_range") or SPREAD, "initializer_range", low=0, high=100)

    def decoder(self, seed: int, kernels: "Mapping[str, Compute] | None" = None) -> "Decoder":
        """The decoder in float32, on the CPU; kernels as core.kernels.choice.choose gives them."""
        import torch

        from llmtool.core.model.loading import load_tensors
        from llmtool.core.model.new import initialise

        torch.manual_seed(seed)  # for what a method's part draws when it is made
        decoder = build(self.config, kernels)
        if self.checkpoint is None:
            initialise(decoder, seed, self._spread())
        else:
            load_tensors(decoder, self.checkpoint, torch.float32)
        return decoder

    def shards(self, seed: int, kernels: "Mapping[str, Compute] | None" = None) -> "tuple[Decoder, Rows | None]":
        """The decoder on the meta device, and what reads its rows, so that no process holds it whole."""
        import torch

        from llmtool.core.model.decoder import Block
        from llmtool.core.model.loading import rows_of
        from llmtool.core.model.new import FirstRows

        parts = build_parts(self.config, kernels)
        with torch.device("meta"):
            decoder = build(self.config, kernels)
        if self.checkpoint is not None:
            return decoder, rows_of(decoder, self.checkpoint)
        first = FirstRows(decoder, seed, self._spread(), lambda layer: Block(self.config, parts, layer))
        return (self.decoder(seed, kernels), None) if first.missing else (decoder, first)

    def take_settings(self, options: Mapping[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        """Settings that a method's part reads go into the model (dsmoe.tau); those of its objective are handed back."""
        self.config, self.raw, rest = with_settings(self.config, self.raw, options)
        return rest

    def describe(self) -> dict[str, Any]:
        """What a resumed run must find the same."""
        weights = self.checkpoint.fingerprint()["sha256"] if self.checkpoint else "new"
        return {"weights": weights, "architecture": self.raw}


def with_settings(
    config: "Config", raw: dict[str, Any], options: Mapping[str, dict[str, str]]
) -> tuple["Config", dict[str, Any], dict[str, dict[str, str]]]:
    """A config and its config.json with the settings that parts read, and those of objectives, which are left."""
    own = {str(method["name"]): settable(str(method["name"])) for method in config.methods}
    taken = {name: {k: v for k, v in kv.items() if k in own.get(name, {})} for name, kv in options.items()}
    config = override(config, {name: kv for name, kv in taken.items() if kv})
    if config.methods:
        raw = {**raw, "llmtool": {**raw["llmtool"], "methods": [*map(dict, config.methods)]}}
    rest = {name: {k: v for k, v in kv.items() if k not in taken[name]} for name, kv in options.items()}
    return config, raw, {name: kv for name, kv in rest.items() if kv}


def find_start(
    model: str, length: int | None, tokenizer: Tokenizer | None, vocab_size: int | None, overrides: Sequence[str]
) -> Start:
    """model: "3M", a config.json, or a checkpoint directory. vocab_size: of the data, where no tokenizer says more."""
    from llmtool.core.model.config import ConfigError, parse_config
    from llmtool.core.model.new import config_of_size, parse_parameters

    path, checkpoint = Path(model), None
    size = None if path.exists() else parse_parameters(model)
    if tokenizer is not None:
        vocab_size = tokenizer.definition.vocabulary.id_limit
    if path.is_dir():
        checkpoint = open_checkpoint(path)
        raw = dict(checkpoint.config)
    elif path.is_file():
        raw = read_json_object(path)
    elif size is not None:
        if vocab_size is None:
            raise UserError("the vocabulary is not known", hint="give --tokenizer")
        raw = config_of_size(size, vocab_size, length or NEW_LENGTH)
        raw |= _roles(tokenizer)
    else:
        raise UserError(f"--model {model}: no such file", hint="a size such as 3M, a config.json or a checkpoint")
    raw |= dict(_override(text) for text in overrides)
    where = str(path / "config.json" if path.is_dir() else path)
    try:
        config = parse_config(raw)
    except ConfigError as error:
        raise UserError(str(error), where=where) from None
    if vocab_size is not None and vocab_size > config.vocab_size:
        what = f"the model has {config.vocab_size:,} tokens, the tokenizer or the data {vocab_size:,}"
        raise UserError(what, where=where, hint="is it the tokenizer of this model?")
    if length is not None and length > config.max_position_embeddings:
        what = f"rows of {length:,} tokens, but the model was made for {config.max_position_embeddings:,}"
        raise UserError(what, where=where, hint=f"--length {config.max_position_embeddings}, or --override "
                        f"max_position_embeddings={length} (and a larger rope_theta)")  # fmt: skip
    return Start(raw, config, checkpoint)


def row_length(start: Start, length: int | None) -> int:
    """Tokens in a row."""
    return length or min(start.config.max_position_embeddings, LONGEST)


def _override(text: str) -> tuple[str, Any]:
    """KEY=VALUE of config.json; a value that is no JSON is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--override {text}: wanted KEY=VALUE, a field of config.json")
    try:
        return key, parse_json(value)
    except ValueError:
        return key, value


def _roles(tokenizer: Tokenizer | None) -> dict[str, int]:
    """Ids of the special tokens that config.json names."""
    if tokenizer is None:
        return {}
    definition = tokenizer.definition
    named = {"bos_token_id": definition.bos, "eos_token_id": definition.eos}
    return {key: tokenizer.added_tokens[token] for key, token in named.items() if token is not None}


def tokenizer_files(tokenizer: Tokenizer | None, checkpoint: CheckpointReader | None) -> dict[str, bytes]:
    """What goes along with the weights: the tokenizer in the forms that others read, and the source's licence."""
    if checkpoint is not None:
        return {str(name): (checkpoint.path / name).read_bytes() for name in checkpoint.carried_files}
    if tokenizer is None:
        return {}
    from llmtool.core.bpe.definition_file import serialize
    from llmtool.core.bpe.export import export_huggingface

    with TemporaryDirectory(prefix="llmtool-") as folder:
        try:
            export_huggingface(tokenizer, Path(folder) / "tokenizer")
        except UserError as error:
            if isinstance(error.__cause__, OSError):  # no room to write it is no reason to do without
                raise
            return {"llmtool.json": serialize(tokenizer.definition)}
        written = sorted((Path(folder) / "tokenizer").iterdir())
        return {path.name: path.read_bytes() for path in written if path.name not in ("run.json", "README.md")}
