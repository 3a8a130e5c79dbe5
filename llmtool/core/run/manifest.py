"""run.json: what made an output, from what, with which settings, where and when.

DIR/run.json for an output directory, written last; F.run.json for an output file F, written just before F appears.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmtool.core.run.atomic import atomic_file
from llmtool.core.run.errors import UserError
from llmtool.core.run.json_file import read_json_object
from llmtool.version import __version__

SCHEMA = "llmtool.run/1"


@dataclass
class Run:
    """One run of a command: begun when made, written by `save`."""

    command: str
    config: dict[str, Any]
    inputs: list[dict[str, Any]] = field(default_factory=list)
    seed: int | None = None
    backend: str | None = None
    started: float = field(default_factory=time.time)
    cpu_started: float = field(default_factory=time.process_time)

    def to_json(self, outputs: Iterable[Path | dict[str, Any]]) -> dict[str, Any]:
        """The object that the file holds; an output is its path, or an entry like those of `inputs`."""
        return {
            "schema": SCHEMA,
            "command": self.command,
            "argv": sys.argv,
            "config": self.config,
            "seed": self.seed,
            "backend": self.backend,
            "version": __version__,
            "git": git_revision(),
            "machine": machine(),
            "inputs": self.inputs,
            "outputs": [output if isinstance(output, dict) else str(output) for output in outputs],
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "wall_seconds": round(time.time() - self.started, 3),
            "cpu_seconds": round(time.process_time() - self.cpu_started, 3),
        }

    def save(self, path: Path, outputs: Iterable[Path | dict[str, Any]]) -> None:
        """Write the manifest at `path`."""
        with atomic_file(path) as file:
            file.write(json.dumps(self.to_json(outputs), indent=2, default=str).encode() + b"\n")


def manifest_path(output: Path) -> Path:
    """Where the manifest stands: inside an output directory, beside an output file."""
    return output / "run.json" if output.is_dir() else output.with_name(output.name + ".run.json")


def refuse_complete(
    output: Path, command: str, config: dict[str, Any], inputs: Callable[[], list[dict[str, Any]]]
) -> None:
    """A complete output is never made again by accident: exit 1 that says whether it is the same or what differs."""
    if not output.exists():
        return
    manifest = manifest_path(output)
    if not manifest.is_file():
        raise UserError("exists already", where=str(output), hint="use --force to replace it")
    before = read_json_object(manifest)
    if before.get("command") != command:
        made = f"exists already, made by `llmtool {before.get('command')}`"
        raise UserError(made, where=str(output), hint="use --force to replace it, or write elsewhere")
    old, new = before.get("config", {}), json.loads(json.dumps(config, default=str))
    changed = [f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in {**old, **new} if old.get(key) != new.get(key)]
    found = inputs()
    if before.get("inputs") != found:
        changed.append("the inputs' content")
    if not changed and not all(entry.get("sha256") for entry in found):
        raise UserError("exists already; its inputs cannot be compared", where=str(output), hint="use --force")
    if changed:
        raise UserError(
            f"exists already, made with other settings: {'; '.join(changed)}",
            where=str(output),
            hint="use --force to replace it, or write elsewhere",
        )
    raise UserError("complete already, from the same inputs and settings", where=str(output), hint="use --force")


def machine() -> dict[str, Any]:
    """The machine as far as the standard library knows it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"platform": platform.platform(), "python": platform.python_version(), "cores": cores}


def git_revision() -> str | None:
    """Revision of the checkout that llmtool runs from; None for an installed package."""
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
