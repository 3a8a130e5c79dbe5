"""A checkpoint directory -> a Decoder with its weights; not exported."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from llmtool.core.checkpoint.directory import CheckpointReader, check_tensors, open_checkpoint
from llmtool.core.model.config import Config, ConfigError, parse_config
from llmtool.core.model.decoder import Decoder, expected_shapes
from llmtool.core.run.errors import UserError

OUTPUT, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

Build = Callable[[Config], Decoder]
"""Config -> Decoder with the parts of its methods; looked up through the catalog, so passed in from above."""


def read_architecture(checkpoint: CheckpointReader) -> Config:
    """The checkpoint's config; a field that is not understood is one line that names the file."""
    try:
        return parse_config(checkpoint.config)
    except ConfigError as error:
        raise UserError(str(error), where=str(checkpoint.path / "config.json")) from None


def load_decoder(
    path: str | Path,
    build: Build,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    override: Iterable[str] = (),
) -> Decoder:
    """Read a checkpoint, one tensor at a time; dtype None keeps the one that each tensor has on disk.

    override: fields of config.json given anew, KEY=VALUE each.
    """
    checkpoint = open_checkpoint(path, override)
    decoder = on_meta(checkpoint, build)
    load_tensors(decoder, checkpoint, dtype, device)
    return decoder.eval()


def on_meta(checkpoint: CheckpointReader, build: Build) -> Decoder:
    """The decoder that config.json describes, without memory for its weights."""
    config = read_architecture(checkpoint)
    try:
        with torch.device("meta"):
            return build(config)
    except ConfigError as error:  # a method's own entry
        raise UserError(str(error), where=str(checkpoint.path / "config.json")) from None


def refuse_contradiction(checkpoint: CheckpointReader, build: Build) -> None:
    """Refuse tensors that are not those of config.json; what the files hold beside them is no matter."""
    decoder = on_meta(checkpoint, build)
    expected = expected_shapes(decoder)
    more = {name: checkpoint.shape(name) for name in checkpoint.names() if name not in expected}
    check_tensors(checkpoint, {**more, **expected}, _tied(decoder.config))


def as_weight(x: torch.Tensor, dtype: torch.dtype | None, device: torch.device | str = "cpu") -> torch.Tensor:
    """A checkpoint's tensor in another type; one of whole numbers is a table (MaskMoE's), and keeps its own."""
    return x.to(device=device, dtype=dtype if x.is_floating_point() else None)


def rows_of(decoder: Decoder, checkpoint: CheckpointReader) -> Callable[[str, range], torch.Tensor]:
    """What reads rows of a checkpoint's tensors in float32, for a decoder that holds only some; checked as a whole."""
    check_tensors(checkpoint, expected_shapes(decoder), _tied(decoder.config))
    return lambda name, rows: as_weight(checkpoint.read(name, rows=rows), torch.float32)


def _tied(config: Config) -> dict[str, str]:
    return {OUTPUT: EMBEDDING} if config.tie_word_embeddings else {}


def load_tensors(
    decoder: Decoder,
    checkpoint: CheckpointReader,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Give a decoder, on the meta device or not, the tensors of a checkpoint."""
    config, path = decoder.config, checkpoint.path
    shapes = expected_shapes(decoder)
    check_tensors(checkpoint, shapes, _tied(config))
    state = {name: as_weight(x, dtype, device) for name, x in checkpoint.tensors(shapes)}
    if dtype is None and len({x.dtype for x in state.values() if x.is_floating_point()}) > 1:
        kinds = sorted({checkpoint.dtype(name) for name in shapes if state[name].is_floating_point()})
        raise UserError(f"holds tensors of {' and '.join(kinds)}", where=str(path), hint="choose one with --dtype")
    if config.tie_word_embeddings:
        state[OUTPUT] = state[EMBEDDING]
    decoder.load_state_dict(state, strict=True, assign=True)
    if config.tie_word_embeddings:
        decoder.lm_head.weight = decoder.model.embed_tokens.weight
