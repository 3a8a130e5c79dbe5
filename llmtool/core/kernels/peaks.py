"""What GPUs can do by their datasheets: dense bf16 products, the yardstick of model FLOPs utilisation.

A table of names as the driver says them. What is not in it has no utilisation, rather than one of a guessed peak;
`bench machine` measures what a device does.
"""

BF16 = (
    ("A100", 312e12), ("H100 PCIe", 756e12), ("H100 NVL", 835e12), ("H100", 989e12), ("H200", 989e12),
    ("B200", 2250e12), ("L40S", 362e12), ("L4", 121e12), ("A10", 125e12),
)  # fmt: skip
"""Part of a name -> operations a second, without sparsity; more special names first."""


def datasheet(name: str, dtype: str) -> float | None:
    """Operations a second of a GPU of this name ("NVIDIA H100 80GB HBM3") in "bf16"; None where it is not known."""
    words = f" {name.replace('-', ' ')} "
    return next((rate for part, rate in BF16 if f" {part} " in words), None) if dtype == "bf16" else None
