"""What a measurement was taken on: processor, GPU with its clocks, power and driver, versions, commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from llmtool.core.bench.timer import clock_name
from llmtool.core.run.manifest import git_revision
from llmtool.version import __version__

GPU_STATE = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw", "power.limit",
             "temperature.gpu", "clocks_event_reasons.active")  # fmt: skip


def describe(device: torch.device) -> dict[str, Any]:
    """Facts for a report."""
    return {
        "device": gpu_name(device) if device.type == "cuda" else cpu_name(),
        "kind": device.type,
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "clock": clock_name(device),
        "load": round(os.getloadavg()[0], 2),
        "memory": physical_memory(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "llmtool": __version__,
        "commit": git_revision(),
        "versions": {name: version(name) for name in ("torch", "triton", "liger_kernel")},
        **({"gpu": gpu_state(device)} if device.type == "cuda" else {}),
    }


def gpu_name(device: torch.device) -> str:
    """As the driver spells it."""
    return torch.cuda.get_device_name(device)


def gpu_state(device: torch.device) -> dict[str, Any]:
    """Size of the GPU and, where nvidia-smi is there, its state at this moment."""
    found = torch.cuda.get_device_properties(device)
    facts: dict[str, Any] = {
        "capability": f"sm_{found.major}{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "memory": found.total_memory,
        "l2": getattr(found, "L2_cache_size", None),
        "cuda": torch.version.cuda,
    }
    index = device.index if device.index is not None else torch.cuda.current_device()
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(GPU_STATE)}", "--format=csv,noheader,nounits"]
    try:
        line = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return facts
    return {**facts, **dict(zip(GPU_STATE, (word.strip() for word in line.split(",")), strict=False))}


def cpu_name() -> str:
    """The model, as Linux knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def physical_memory() -> int | None:
    """Bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def version(package: str) -> str | None:
    """Installed version."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
