"""Parts that run whole models at Llama-3.2-1B's shape: decode (CUDA graphs) and train (bf16, AdamW)."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from llmtool.commands.bench.device.child import Log, Row
from llmtool.commands.bench.device.kernels import kind_of
from llmtool.core.bench.decode import Contender, Decoding, disagreement, used_weights, weights_read
from llmtool.core.kernels.registry import load_spec
from llmtool.core.kernels.spec import OURS
from llmtool.core.model.config import Config
from llmtool.core.model.decoder import Decoder
from llmtool.core.train.objective import Batch, Objective, linear_cross_entropy
from llmtool.core.train.parallel import Trainee
from llmtool.core.train.world import World
from llmtool.model import build

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads", "head_dim", "max_position_embeddings")  # fmt: skip
FULL = ("llama", 128_256, 2048, 8192, 16, 32, 8, 64, 131_072)
SMALL = ("llama", 97, 32, 64, 2, 4, 2, 8, 64)
EXPERTS, OPEN_BIAS = 8, -0.184
"""A router drawn as torch draws a linear layer gives logits of deviation 0.58 on normed inputs: with this bias a gate
is open for 3 of 8 tokens, each token and layer with its own choice. The share that was met stands in the rows."""
DECODED = {"cuda": ((1, 2048), (1, 16_384), (16, 4096)), "cpu": ((1, 8),)}
"""Batch and context."""
NEW = {"cuda": 64, "cpu": 4}
INFERENCE = ("rms_norm", "rope", "swiglu", "dsmoe_ffn", "shared_softmax_attention")
TRAINING = ("rms_norm", "rope", "swiglu")
ROWS, STEPS = {"cuda": (4, 2048), "cpu": (1, 8)}, {"cuda": (3, 8), "cpu": (0, 2)}
"""Rows and length of a batch; steps before and while it is timed."""


def config(device: torch.device, *names: str) -> Config:
    """The shape, with these methods."""
    family, *sizes = FULL if device.type == "cuda" else SMALL
    layers = int(sizes[3])
    experts = EXPERTS if device.type == "cuda" else 4
    known: Mapping[str, dict[str, Any]] = {
        "dsmoe": {"name": "dsmoe", "version": 1, "experts": experts, "layers": list(range(layers)),
                  "gate_scale": [1.0] * layers, "tau": 0.5},
        "uniattn": {"name": "uniattn", "version": 1, "compensation": "linear",
                    "groups": [list(range(first, min(first + 4, layers))) for first in range(0, layers, 4)]},
    }  # fmt: skip
    methods = tuple(known[name] for name in names)
    named: dict[str, Any] = dict(zip(SIZES, map(int, sizes), strict=True))
    return Config(str(family), windows=(None,) * layers, methods=methods, **named)


MODELS = {"dense": (), "dsmoe": ("dsmoe",), "uniattn": ("uniattn",), "dsmoe+uniattn": ("dsmoe", "uniattn")}


def pair(shape: Config, device: torch.device, dtype: torch.dtype) -> tuple[Decoder, Decoder]:
    """A model drawn at random on the device, by torch's operators, and the same weights with the kernels."""
    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            plain = build(shape).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(usual)
    for name, parameter in plain.named_parameters():
        if name.endswith("router.bias"):
            parameter.fill_(OPEN_BIAS)
    with torch.device("meta"):
        fast = build(shape, {op: load_spec(op).implementation(OURS).load() for op in INFERENCE})
    fast.load_state_dict(plain.state_dict(), assign=True)
    return plain, fast.eval().requires_grad_(False)


def decode(log: Log, _: str, device: torch.device) -> None:
    """Each model with torch's operators and with ours, at each batch and context: seconds a token."""
    dtype = kind_of(device)
    made: dict[str, tuple[Decoder, Decoder]] = {}

    def decoders(model: str) -> tuple[Decoder, Decoder]:
        if model not in made:
            made.clear()
            made[model] = pair(config(device, *MODELS[model]), device, dtype)
        return made[model]

    def work(model: str, kernels: str, batch: int, context: int) -> Iterator[Row]:
        plain, fast = decoders(model)
        contender = Contender(model, fast if kernels == "triton" else plain, {}, plain)
        facts: Row = {"model": model, "kernels": kernels, "batch": batch, "context": context}
        if kernels == "triton" and (said := disagreement(contender)):
            yield {**facts, "failed": said}
        else:
            yield {**facts, **decoding(contender, batch, context, NEW[device.type])}

    need = 6 if device.type == "cuda" else 1
    for model, kernels in itertools.product(MODELS, ("torch", "triton")):
        for batch, context in DECODED[device.type]:
            log.unit(f"{model} {kernels} {batch} {context}", partial(work, model, kernels, batch, context), need)


def decoding(contender: Contender, batch: int, context: int, new: int) -> Row:
    """Medians, and the bytes that a step moves at least."""
    run = Decoding(contender, batch, context, new)
    run.run()
    taken = [run.run() for _ in range(3)]
    use = used_weights(contender, batch, min(context, 256))
    read = weights_read(contender.decoder) - use.bytes_saved
    return {
        "first": statistics.median(first for first, _ in taken),
        "token": statistics.median(token for _, token in taken),
        "graph": run.graph, "weights_read": read, "cache_bytes": run.cache_bytes, "ffn_share": use.share,
        "ffn_share_read": use.read,
    }  # fmt: skip


VARIANTS = {"torch": (False, False), "kernels": (True, False), "torch, compiled": (False, True),
            "kernels, compiled": (True, True)}  # fmt: skip
"""Label -> our kernels, torch.compile; a rehearsal leaves the compiled ones out."""


def train(log: Log, _: str, device: torch.device) -> None:
    """A step of AdamW in bf16 autocast on one repeated batch."""
    for label, (own, compiled) in VARIANTS.items():
        if compiled and device.type == "cpu":
            continue
        log.unit(label, partial(variant, label, own, compiled, device), 8 if device.type == "cuda" else 1)


def variant(label: str, own: bool, compiled: bool, device: torch.device) -> list[Row]:
    """Its one row."""
    return [{"variant": label, **training(own, compiled, device)}]


def training(own: bool, compiled: bool, device: torch.device) -> Row:
    """Tokens a second, and operations a second as MFU counts them: 6 a parameter and token, and causal attention."""
    torch.manual_seed(0)
    kernels = {op: load_spec(op).implementation(OURS).load() for op in TRAINING} if own else {}
    with device:
        model = build(config(device), kernels)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.02) if weight.dim() > 1 else weight.fill_(1.0)
    loss_of = load_spec("linear_cross_entropy").implementation(OURS).load() if own else linear_cross_entropy
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    trainee = Trainee(model, Objective({}, loss_of), World(str(device)), dtype=dtype, compiled=compiled)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")
    (rows, length), (before, timed) = ROWS[device.type], STEPS[device.type]
    ids = torch.randint(model.config.vocab_size, (rows, length), device=device)
    batch = Batch(ids, ids.roll(-1, 1), None)
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    losses, seconds = [], []
    for number in range(before + timed):
        wait()
        started = time.perf_counter()
        loss, _ = trainee.loss(batch)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        wait()
        if number >= before:
            seconds.append(time.perf_counter() - started)
        losses.append(float(loss.detach()))
    shape, taken = model.config, statistics.median(seconds)
    matrices = sum(x.numel() for x in model.model.layers.parameters()) + shape.hidden_size * shape.vocab_size
    attention = 6 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim * length
    return {
        "seconds": taken, "tokens_per_s": rows * length / taken,
        "flops_per_s": rows * length * (6 * matrices + attention) / taken, "loss": losses[0], "loss_after": losses[-1],
        "peak_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    }  # fmt: skip


PARTS: dict[str, Callable[[Log, str, torch.device], None]] = {"decode": decode, "train": train}
