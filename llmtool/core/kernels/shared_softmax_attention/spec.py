"""P V for one token and the layers of a group: p [B, H, 1, S], v [L, B, heads, S, D], and a head map [H]."""

from collections.abc import Mapping, Sequence
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
    elements,
    grid,
    itemsize,
    pointers,
)
from llmtool.core.kernels.tuning import lookup

HERE = "llmtool.core.kernels.shared_softmax_attention"


class SharedSoftmaxAttentionSpec(Spec):
    """Inputs p [batch, heads x group, 1, places], v [layers, batch, heads, places, size] and, where the case says so, a
    head map [heads x group]; forward only."""

    name = "shared_softmax_attention"
    summary = "P V of layers that share P, one decoded token"
    implementations = (
        Implementation("reference", f"{HERE}.reference:shared_softmax_attention"),
        Implementation("ours", f"{HERE}.triton:shared_softmax_attention", ("triton",), cuda=True, own=True),
        Implementation("grouped matmul", f"{HERE}.rivals:grouped_matmul"),
    )

    def cases(self, sizes: Sizes) -> Sequence[Case]:
        """Contexts and batches of decoding; group 4 is GQA-4, 1 is multi-head attention."""
        if sizes == "odd":
            shapes = [(1, 2, 3, 1, 1, 6, 0), (2, 1, 2, 4, 42, 42, 0), (1, 3, 1, 5, 123, 64, 0),
                      (3, 2, 1, 2, 431, 128, 0), (1, 1, 1, 32, 600, 16, 0), (1, 2, 3, 1, 1, 6, 1),
                      (2, 2, 3, 3, 123, 42, 1), (1, 3, 2, 4, 431, 64, 1)]  # fmt: skip
        elif sizes == "small":
            shapes = [(1, 1, 8, 4, 4096, 128, 0), (1, 8, 8, 4, 1024, 128, 0), (1, 8, 8, 4, 1024, 128, 1)]
        else:
            shapes = [(1, 1, 8, 4, 131072, 128, 0), (1, 16, 8, 4, 16384, 128, 0), (3, 16, 8, 4, 16384, 128, 0),
                      (1, 64, 8, 4, 4096, 128, 0), (1, 64, 8, 4, 4096, 128, 1)]  # fmt: skip
        names = ("layers", "batch", "heads", "group", "places", "size", "mapped")
        return [case(**dict(zip(names, shape, strict=True))) for shape in shapes]

    def make_inputs(
        self, case: Case, dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> tuple[Any, ...]:
        """p a softmax of normal scores, v normal; a map that reads some heads twice and others not at all."""
        p = draw(generator, case["batch"], case["heads"] * case["group"], 1, case["places"], dtype=torch.float32,
                 device=device, scale=2.0).softmax(-1)  # fmt: skip
        v = draw(generator, *(case[n] for n in ("layers", "batch", "heads", "places", "size")), dtype=dtype,
                 device=device)  # fmt: skip
        if not case.sizes.get("mapped", 0):
            return p.to(dtype), v
        heads = torch.randint(p.shape[1], (p.shape[1],), generator=generator, device=generator.device)
        return p.to(dtype), v, heads.to(device, torch.int32)

    def flops(self, case: Case, direction: Direction) -> float:
        """A multiply-add for each query head, place and element of a head."""
        return 2 * elements(*(case[n] for n in ("layers", "batch", "heads", "group", "places", "size")))

    def bytes(self, case: Case, dtype: torch.dtype, direction: Direction) -> float:
        """Each layer's V, p once, y."""
        heads = case["batch"] * case["heads"]
        v, y = (
            case["layers"] * heads * case["places"] * case["size"],
            case["layers"] * heads * case["group"] * case["size"],
        )
        return itemsize(dtype) * (v + y + heads * case["group"] * case["places"])

    def tunings(self) -> Mapping[str, Tuning]:
        """Places at a time, and programs a multiprocessor."""
        return {"weigh": Tuning(grid(PLACES=(32, 64, 128), num_warps=(2, 4, 8), num_stages=(3, 4), waves=(2, 4, 8)))}

    def tuned_size(self, case: Case) -> int:
        """Places."""
        return case["places"]

    def compile_configs(self) -> Sequence[CompileConfig]:
        """Heads of 128 in GQA-4. 16 rows are too few for the matrix instructions that sm_90 and sm_100 add (64, 128):
        only sm_80 is held to its own. With 8 operations a byte of V the kernel waits for memory in any case."""
        from llmtool.core.kernels.shared_softmax_attention.triton import ROWS, weigh_kernel

        sizes = (
            "places",
            "stretch",
            "batch_heads",
            "size",
            "group",
            "v_layer",
            "v_batch",
            "v_head",
            "v_place",
            "heads",
            "p_heads",
        )
        signature = {**pointers("bf16", "p_ptr", "v_ptr"), **pointers("i32", "map_ptr"), **pointers("fp32", "y_ptr"),
                     **dict.fromkeys(sizes, "i32")}  # fmt: skip
        aligned = (
            "p_ptr",
            "v_ptr",
            "map_ptr",
            "y_ptr",
            "places",
            "stretch",
            "size",
            "v_layer",
            "v_batch",
            "v_head",
            "v_place",
        )
        made = []
        for arch in ARCHITECTURES:
            tile = lookup("shared_softmax_attention", "weigh", (arch,), 16384)
            for mapped in (False, True):
                constants = {"MAPPED": mapped, "GROUP": ROWS, "PLACES": tile["PLACES"], "SIZE": 128, "WIDEN": False,
                             "PRECISION": "tf32"}  # fmt: skip
                made.append(
                    CompileConfig(
                        "weigh mapped" if mapped else "weigh", weigh_kernel, signature, constants, aligned,
                        num_warps=tile["num_warps"], num_stages=tile["num_stages"], archs=(arch,),
                        tensor_cores=arch == "sm_80", wide_loads=True,
                    )
                )  # fmt: skip
        return made


SPEC = SharedSoftmaxAttentionSpec()
