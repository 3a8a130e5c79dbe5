"""What post-training starts from: a checkpoint, with adapters beside its matrices where LoRA is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool.commands.options import method_settings
from llmtool.commands.posttrain.settings import LoraOptions
from llmtool.commands.train.start import with_settings
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError
from llmtool.core.run.extras import require
from llmtool.model import build

if TYPE_CHECKING:
    import torch

    from llmtool.core.model.config import Config
    from llmtool.core.model.decoder import Decoder
    from llmtool.core.train.sharding import Rows


@dataclass(frozen=True)
class Start:
    """A checkpoint to train on. raw: config.json of the result. options: what --set says to the methods' objectives."""

    checkpoint: CheckpointReader
    config: "Config"
    raw: dict[str, Any]
    options: Mapping[str, dict[str, str]] = field(default_factory=dict)

    def decoder(self, seed: int) -> "Decoder":
        """In float32 on the CPU; adapters that the checkpoint does not have are new and change nothing."""
        import torch

        from llmtool.core.model.loading import load_tensors, read_architecture
        from llmtool.methods.lora.merge import is_adapter

        decoder, before = on_meta(self.config), read_architecture(self.checkpoint)
        if before == self.config:
            load_tensors(decoder, self.checkpoint, torch.float32)
            return decoder
        plain = on_meta(before)
        load_tensors(plain, self.checkpoint, torch.float32)
        held = plain.state_dict()
        new = {n: self._first(n, value, seed) for n, value in decoder.state_dict().items() if n not in held}
        assert all(map(is_adapter, new))
        decoder.load_state_dict({**held, **new}, strict=True, assign=True)
        if self.config.tie_word_embeddings:
            decoder.lm_head.weight = decoder.model.embed_tokens.weight
        return decoder

    def shards(self, seed: int) -> "tuple[Decoder, Rows]":
        """The decoder on the meta device, and what reads its rows, or draws those of new adapters."""
        from llmtool.core.model.loading import read_architecture, rows_of

        decoder, plain = on_meta(self.config), on_meta(read_architecture(self.checkpoint))
        read, held = rows_of(plain, self.checkpoint), plain.state_dict()
        new = {name: value for name, value in decoder.state_dict().items() if name not in held}

        def rows(name: str, wanted: range) -> "torch.Tensor":
            if name not in new:
                return read(name, wanted)
            return self._first(name, new[name], seed)[wanted.start : wanted.stop].clone()

        return decoder, rows

    def _first(self, name: str, like: "torch.Tensor", seed: int) -> "torch.Tensor":
        """A new adapter's values, drawn by its name: the same however many processes share the model."""
        import torch

        from llmtool.core.model.new import draw
        from llmtool.methods.lora.merge import first_spread

        values = torch.empty(like.shape)
        with torch.no_grad():
            draw(name, values, first_spread(name, values.shape), seed)
        return values

    def files(self) -> dict[str, bytes]:
        """Tokenizer, generation defaults and licence, which go along."""
        return {str(name): (self.checkpoint.path / name).read_bytes() for name in self.checkpoint.carried_files}


def open_start(path: Path, lora: LoraOptions | None, settings: Sequence[str] = ()) -> Start:
    """The checkpoint, and the config that training writes. settings: METHOD.KEY=VALUE each."""
    start = _opened(path, lora)
    config, raw, options = with_settings(start.config, start.raw, method_settings(settings))
    return Start(start.checkpoint, config, raw, options)


def _opened(path: Path, lora: LoraOptions | None) -> Start:
    require("torch", extra="models", why="to post-train")
    from llmtool.core.model.config import ConfigError
    from llmtool.core.model.export import method_config
    from llmtool.core.model.loading import read_architecture

    checkpoint = open_checkpoint(path)
    config = read_architecture(checkpoint)
    adapted = any(method["name"] == "lora" for method in config.methods)
    if lora is None or adapted:
        if lora is not None:
            raise UserError("has adapters already", where=str(path), hint="go on without --lora, or merge-lora first")
        return Start(checkpoint, config, dict(checkpoint.config))
    config = replace(config, methods=(*config.methods, lora.entry()))
    try:
        on_meta(config)
    except ConfigError as error:
        raise UserError(str(error), hint="see --lora and --lora-targets") from None
    return Start(checkpoint, config, method_config(checkpoint.config, config))


def on_meta(config: "Config") -> "Decoder":
    """Without memory for a single weight; what a method refuses is found here."""
    import torch

    with torch.device("meta"):
        return build(config)


def only_adapters(name: str) -> bool:
    """What moves under LoRA: adapters, and compensations, which are new as well."""
    return "lora_" in name or "compensation" in name


def only_compensation(name: str) -> bool:
    """What moves in UniAttn's first stage."""
    return "compensation" in name
