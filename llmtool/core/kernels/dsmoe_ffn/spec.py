"""DSMoE's feed-forward layer: x [tokens, width], inner channels in `experts` blocks, `active` of them open a token."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from llmtool.core.kernels.spec import (
    ARCHITECTURES,
    Case,
    CompileConfig,
    Direction,
    Implementation,
    Sizes,
    Spec,
    Tuning,
    case,
    draw,
    grid,
    itemsize,
    tiles,
)  # fmt: skip
from llmtool.core.kernels.tuning import lookup

HERE = "llmtool.core.kernels.dsmoe_ffn"
TAU, SCALE = 0.5, 1.25
LOGIT = 3.0
"""Gates of the made inputs are about sigmoid(+-3): none is so near to tau that a rounding could open or close it."""
SEVEN_B, ONE_B = (4096, 11008), (2048, 8192)
"""Width and inner channels of Llama-2-7B and Llama-3.2-1B."""


class DSMoESpec(Spec):
    """Inputs x, gate, up, down, router, bias, tau, scale; outputs delta [tokens, width], G [tokens, experts]."""

    name = "dsmoe_ffn"
    summary = "SwiGLU of the blocks that sigmoid gates open"
    implementations = (
        Implementation("reference", f"{HERE}.reference:dsmoe_ffn"),
        Implementation("ours", f"{HERE}.triton:dsmoe_ffn", ("triton",), cuda=True, own=True),
        Implementation("decode", f"{HERE}.triton:decode", ("triton",), cuda=True, own=True),
        Implementation("prefill", f"{HERE}.triton:prefill", ("triton",), cuda=True, own=True),
        Implementation("cpu", f"{HERE}.skip:dsmoe_ffn", own=True),
        Implementation("masked dense", f"{HERE}.rivals:masked"),
        Implementation("masked, compiled", f"{HERE}.rivals:masked", compiled=True),
        Implementation("grouped_mm", f"{HERE}.rivals:grouped_mm", cuda=True),
    )
    dtypes = (torch.bfloat16, torch.float16, torch.float32)

    def cases(self, sizes: Sizes) -> Sequence[Case]:
        """active 0: any number of blocks, none among them. Else exactly so many a token, as the paper's 3 of 8."""
        if sizes == "odd":
            shapes = [
                (1, 32, 64, 8, 3), (1, 42, 123 * 2, 2, 0), (5, 48, 6 * 8, 8, 0), (8, 64, 42 * 4, 4, 2),
                (43, 42, 30 * 8, 8, 3), (70, 123, 24, 3, 0), (65, 64, 128, 8, 0), (33, 31, 16, 16, 5),
            ]  # fmt: skip
        elif sizes == "small":
            shapes = [(1, 512, 2048, 8, 3), (8, 512, 2048, 8, 3), (512, 512, 2048, 8, 3), (1, *ONE_B, 8, 3)]
        else:
            tokens = (1, 2, 4, 8, 64, 512, 1024, 4096, 8192, 16384)
            shapes = [(count, *shape, 8, 3) for shape in (SEVEN_B, ONE_B) for count in tokens]
        names = ("tokens", "width", "inner", "experts", "active")
        return [case(**dict(zip(names, shape, strict=True))) for shape in shapes]

    def make_inputs(
        self, case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> tuple[Any, ...]:
        """The first `experts` numbers of a token say which blocks it opens: the router copies them."""
        tokens, width, inner, experts = (case[name] for name in ("tokens", "width", "inner", "experts"))
        order = torch.rand(tokens, experts, generator=generator, device=generator.device).argsort(-1).argsort(-1)
        count = torch.full((tokens, 1), case["active"], device=order.device)
        if not case["active"]:
            count = torch.randint(0, experts + 1, (tokens, 1), generator=generator, device=generator.device)
            count[0] = max(1, experts // 2)
        signs = torch.where(order < count, LOGIT, -LOGIT)
        x = torch.randn(tokens, width, generator=generator, device=generator.device)
        x[:, :experts] = signs + 0.1 * x[:, :experts]
        router = 0.1 / width**0.5 * torch.randn(experts, width, generator=generator, device=generator.device)
        router[:, :experts] += torch.eye(experts, device=router.device)
        gate, up = (draw(generator, inner, width, dtype=dtype, device=device, scale=width**-0.5) for _ in range(2))
        down = draw(generator, width, inner, dtype=dtype, device=device, scale=inner**-0.5)
        bias = draw(generator, experts, dtype=dtype, device=device, scale=0.1)
        return x.to(device, dtype), gate, up, down, router.to(device, dtype), bias, TAU, SCALE

    def flops(self, case: Case, direction: Direction) -> float:
        """Of the open blocks, and the router."""
        active = case["active"] or case["experts"] / 2
        return 2.0 * case["tokens"] * case["width"] * (3 * case["inner"] * active / case["experts"] + case["experts"])

    def bytes(self, case: Case, dtype: torch.dtype, direction: Direction) -> float:
        """x, delta, and the weights of the blocks that some token opens, if each chooses without regard to others."""
        share = (case["active"] or case["experts"] / 2) / case["experts"]
        opened = 1 - (1 - share) ** case["tokens"]
        weights = case["width"] * (3 * case["inner"] * opened + case["experts"])
        return itemsize(dtype) * (weights + 2 * case["tokens"] * case["width"])

    def tolerance(self, dtype: torch.dtype) -> float:
        """Two products in a row: a half more than the default."""
        return 1.5 * super().tolerance(dtype)

    def tunings(self) -> Mapping[str, Tuning]:
        """The kernels that move the weights; each form is timed where it runs (tuning.json: dispatch)."""
        thin = grid(COLS=(4, 8, 16, 32), DEPTH=(256, 512, 1024), num_warps=(2, 4, 8), num_stages=(3,))
        few = grid(COLS=(16, 32, 64), DEPTH=(128, 256), num_warps=(4, 8), num_stages=(3, 4))
        tall = grid(ROWS=(64, 128), COLS=(64, 128), DEPTH=(32, 64), GROUP=(8,), num_warps=(4, 8), num_stages=(3, 4))
        up, down = (("ROWS", "DEPTH"), ("COLS", "DEPTH"), ("COLS", "DEPTH")), (("ROWS", "DEPTH"), ("COLS", "DEPTH"))
        few_up = tiles(("COLS", "DEPTH"), ("COLS", "DEPTH"))
        form = {"one": Tuning(thin, implementation="decode", runs=lambda case: case["tokens"] == 1)}
        form["few"] = Tuning(few, implementation="decode", runs=lambda case: 1 < case["tokens"] <= 8, shared=few_up)
        many = Tuning(tall, implementation="prefill", runs=lambda case: case["tokens"] >= 600)
        return {
            **{f"decode_{name}_{count}": each for name in ("up", "down") for count, each in form.items()},
            "prefill_up": replace(many, shared=tiles(*up)),
            "prefill_down": replace(many, shared=tiles(*down)),
        }

    def compile_configs(self) -> Sequence[CompileConfig]:
        """The kernels at Llama-2-7B's shape; shapes are arguments, so that Llama-3.2-1B runs the same code."""
        from llmtool.core.kernels.dsmoe_ffn import triton_decode, triton_prefill

        constants = {"EXPERTS": 16, "BIAS": True, "UNIT": False, "UPCAST": False}
        made = [
            *(
                _config(
                    "prefill_up",
                    triton_prefill.up_kernel,
                    {"EXPERTS": 8, "EVEN": True, "UPCAST": False},
                    arch,
                    tensor_cores=True,
                    max_issue=1.0,
                )
                for arch in ARCHITECTURES
            ),
            # 1,376 channels a block of Llama-2-7B's are no multiple of DEPTH.
            _config(
                "prefill_down",
                triton_prefill.down_kernel,
                {"EXPERTS": 8, "EVEN": False, "UPCAST": False},
                tensor_cores=True,
                max_issue=1.0,
            ),
            _config("prefill_route", triton_prefill.route_kernel, constants, tensor_cores=True),
            _config("decode_route", triton_prefill.route_kernel, constants),
            replace(
                _config("decode_route", triton_prefill.route_kernel, {**constants, "UNIT": True}), name="unit_route"
            ),
            _config("list", triton_prefill.list_kernel, {}),
            _config("sum", triton_prefill.sum_kernel, {}, wide_loads=True),
        ]
        for count, rows in (("one", 1), ("few", 16)):
            constants = {"TOKENS": rows, "UPCAST": False}
            made += [
                _config(f"decode_up_{count}", triton_decode.up_kernel, constants, wide_loads=True),
                _config(f"decode_down_{count}", triton_decode.down_kernel, constants, wide_loads=True),
            ]
        return made


ELEMENTS = {
    **dict.fromkeys(("weights_ptr", "gates_ptr"), "*fp32"),
    **dict.fromkeys(("lists_ptr", "counts_ptr", "places_ptr"), "*i32"),
    **dict.fromkeys(("tau", "scale"), "fp32"),
    **dict.fromkeys(("tokens", "width", "size", "experts", "per_expert"), "i32"),
}
"""Types of the kernels' arguments; other pointers are to bfloat16."""


def _config(
    name: str, kernel: Any, constants: dict[str, Any], arch: str | None = None, **promises: Any
) -> CompileConfig:  # fmt: skip
    """A kernel with the tile that tuning.json gives it, for one architecture or for all."""
    tile = lookup("dsmoe_ffn", name, (arch,) if arch else (), SEVEN_B[0])
    sizes: dict[str, Any] = {key: size for key, size in tile.items() if key not in ("num_warps", "num_stages")}
    names = [argument for argument in kernel.arg_names if not argument.isupper()]
    signature = {argument: ELEMENTS.get(argument, "*bf16") for argument in names}
    divisible = tuple(name for name in names if name.endswith("_ptr") or name in ("width", "size"))
    return CompileConfig(
        f"{name} {arch}" if arch else name, kernel, signature, {**sizes, **constants}, divisible,
        num_warps=tile["num_warps"], num_stages=tile.get("num_stages", 3), archs=(arch,) if arch else ARCHITECTURES,
        **promises,
    )  # fmt: skip


SPEC = DSMoESpec()
