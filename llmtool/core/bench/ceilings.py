"""What this machine can do, measured in the same run as what is compared with it: a large copy, a large matmul."""

from dataclasses import asdict

import torch

from llmtool.core.bench.timer import measure
from llmtool.core.run.dataclass import dataclass


@dataclass(frozen=True)
class Ceilings:
    """Rates that nothing here should beat by much."""

    copy: float
    """Bytes a second, read and written."""
    matmul: float
    """Operations a second, in `dtype`."""
    dtype: str

    def floor(self, flops: float, moved: float) -> float:
        """Seconds that work needs at least: the longer of its arithmetic and its traffic."""
        return max(flops / self.matmul, moved / self.copy)

    def bound(self, flops: float, moved: float) -> str:
        """Which of the two it is."""
        return "compute" if flops / self.matmul > moved / self.copy else "memory"

    def best(self, other: "Ceilings") -> "Ceilings":
        """The higher of each, of two measurements in one run: a machine is not slower than it was seen to be."""
        return Ceilings(max(self.copy, other.copy), max(self.matmul, other.matmul), self.dtype)

    def to_json(self) -> dict[str, object]:
        """The fields."""
        return asdict(self)


def measure_ceilings(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> Ceilings:
    """Copy 1 GiB (GPU) or 256 MiB (CPU, past its caches); multiply 8,192 or 1,024 wide matrices; the fastest sample."""
    large = device.type == "cuda"
    size = (1 << 30) if large else (256 << 20)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    width = 8192 if large else 1024
    a, b = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(a)
    with torch.inference_mode():
        found = measure(
            {"copy": lambda _: target.copy_(source), "matmul": lambda _: torch.mm(a, b, out=product)}, device, seconds
        )
    return Ceilings(2 * size / found["copy"].least, 2 * width**3 / found["matmul"].least, name_of(dtype))


def name_of(dtype: torch.dtype) -> str:
    """bfloat16 rather than torch.bfloat16."""
    return str(dtype).removeprefix("torch.")
