"""FSDP2: a step cut over the processes, block by block; and a decoder that never was whole in any of them.

Built on the meta device, cut there, and then given its values by rows: a process reads from the checkpoint's files the
bytes of its own shards, one tensor at a time, and holds nothing else.
"""

from collections.abc import Callable

import torch
from torch import nn

from llmtool.core.model.decoder import Decoder
from llmtool.core.train.world import World

Rows = Callable[[str, range], torch.Tensor]
"""(a checkpoint's name, rows of its first dimension) -> those rows in float32, or in the type of a table."""
OUTPUT, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def shard(step: nn.Module, decoder: Decoder, world: World, dtype: torch.dtype) -> None:
    """Cut every block, then the rest. dtype: of products; sums over processes are in float32."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    # Inputs are not cast: a carry's auxiliary losses and rotary tables stay as they are.
    half = None if dtype == torch.float32 else dtype
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in decoder.model.layers:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(step, mesh=mesh, mp_policy=policy)


def fill(decoder: Decoder, rows: Rows, world: World) -> None:
    """Give a decoder that was cut on the meta device its values, each process its own rows; buffers are whole."""
    from torch.distributed.tensor import DTensor

    tied = decoder.config.tie_word_embeddings
    state: dict[str, torch.Tensor] = {}
    for name, value in decoder.state_dict().items():
        if tied and name == OUTPUT:
            continue
        if isinstance(value, DTensor):
            local = rows(name, own_rows(len(value), world)).to(world.device)
            state[name] = DTensor.from_local(
                local, value.device_mesh, value.placements, run_check=False, shape=value.shape, stride=value.stride()
            )
        else:
            state[name] = rows(name, range(len(value))).to(world.device)
    if tied:
        state[OUTPUT] = state[EMBEDDING]
    decoder.load_state_dict(state, strict=True, assign=True)
    if tied:
        decoder.lm_head.weight = decoder.model.embed_tokens.weight


def own_rows(count: int, world: World) -> range:
    """Which of so many rows FSDP2 leaves to a process: equal parts, the last ones shorter or empty."""
    most = -(-count // world.size)
    return range(min(count, world.rank * most), min(count, (world.rank + 1) * most))
