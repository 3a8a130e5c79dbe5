"""run.json: what made an output, from what, with which settings, where and when.

DIR/run.json for an output directory, written last; F.run.json for an output file F, written just before F appears.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from llmtool.core.run.atomic import Files, atomic_file
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.json_file import dumps, parse_json
from llmtool.version import __version__

SCHEMA = "llmtool.run/1"
DEEPEST = 8
"""Settings lie no deeper; what does is somebody's mistake."""


@dataclass
class Run:
    """One run of a command: begun when made, written by `save`."""

    command: str
    config: dict[str, Any]
    inputs: list[dict[str, Any]] = field(default_factory=list)
    seed: int | None = None
    backend: str | None = None
    kind: str = ""
    """What the output is; --force replaces only its like. The command, if nothing else is said."""
    spelled: Mapping[str, str] = field(default_factory=dict)
    """Options of settings that are called otherwise, as for `changes`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for, as `Settings.options`: a refusal names these, where `config` holds what follows from them."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of settings that an older run.json does not name, as for `changes`."""
    allowed: Callable[[], None] | None = None
    """Raises where the output may not be put in its place (any more): the claim's question, asked again at the end."""
    started: float = field(default_factory=time.time)
    cpu_started: float = field(default_factory=time.process_time)

    def __post_init__(self) -> None:
        self.kind = self.kind or self.command

    def to_json(self, outputs: Iterable[Path | dict[str, Any]]) -> dict[str, Any]:
        """The object that the file holds; an output is its path, or an entry like those of `inputs`."""
        return {
            "schema": SCHEMA,
            "command": self.command,
            "kind": self.kind,
            "argv": sys.argv,
            "directory": str(Path.cwd()),
            "config": self.config,
            **({"options": dict(self.options)} if self.options else {}),
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

    def save(self, path: Path, outputs: Iterable[Path | dict[str, Any]], files: Files | None = None) -> None:
        """Write the manifest at `path`; with `files` together with them, whose sizes it names, or not, for a stream."""
        if files is None:
            with atomic_file(path) as file:
                file.write(self._encoded(outputs))
            return
        if files.through:
            return
        sizes = files.sizes()
        named = [Path(output) for output in outputs if not isinstance(output, dict)]
        entries = [{"path": place.name, "bytes": sizes.get(place.name)} for place in named]
        files.open(path).write(self._encoded(entries))
        files.allowed, self.allowed = self.allowed, None  # what is written again later replaces its own

    def _encoded(self, outputs: Iterable[Path | dict[str, Any]]) -> bytes:
        return dumps(self.to_json(outputs), indent=2, default=str).encode() + b"\n"


def manifest_path(output: Path) -> Path:
    """Where the manifest stands: inside an output directory, beside an output file."""
    return output / "run.json" if output.is_dir() else output.with_name(output.name + ".run.json")


def changes(
    old: Any,
    new: Mapping[str, Any],
    spelled: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> list[str]:
    """What differs between two configs, as the user spells it: `--tokens: 100K -> 200K`.

    spelled: the option of a key that is called otherwise ({"text_mode": "--documents"}); of keys inside keys, joined
    by dots ({"optimizer.lr": "--lr"}). defaults: of options: where `old` is from before an option was there, it is what
    the option does when it is not given. What run.json holds may be anything.
    """
    before = dict(_flat(old))
    now, usual = (dict(_flat(parse_json(dumps(facts, default=str)))) for facts in (new, dict(defaults or {})))
    before = {key: value for key, value in usual.items() if key in now} | before
    lines = []
    for key in {**before, **now}:
        was, value = before.get(key), now.get(key)
        empty = [
            each in ([], {}) or (each is None and _inside(key, facts)) for each, facts in ((was, before), (value, now))
        ]
        if was != value and not all(empty):
            option = _option(key, spelled or {})
            lines.append(f"{option}: {said(was)} -> {said(value)}")
    return lines


def named_changes(old: Any, new: Mapping[str, Any]) -> list[str]:
    """The same of what was asked for (`Run.options`); an option that `old` does not know is from after it."""
    before = old if isinstance(old, dict) else {}
    now = parse_json(dumps(dict(new), default=str))
    return [
        f"{option}: {said(before[option])} -> {said(value)}"
        for option, value in now.items()
        if option in before and before[option] != value
    ]


def _option(key: str, spelled: Mapping[str, str]) -> str:
    """`--set dsmoe.tau` of set.dsmoe.tau, where it is known how set is spelled."""
    top, _, rest = key.partition(".")
    if key in spelled or not rest:
        return spelled.get(key) or f"--{key.replace('_', '-')}"
    return f"{spelled[top]} {rest}" if top in spelled else key


def _inside(key: str, facts: Mapping[str, Any]) -> bool:
    """Whether values stand inside a key that has none itself."""
    return any(other.startswith(f"{key}.") for other in facts)


def _flat(facts: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """{"a": {"b": [1]}} -> ("a.b", [1])."""
    if isinstance(facts, dict) and (facts or not prefix):
        for key, value in facts.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, facts


def said(value: Any, depth: int = 0) -> str:
    """A setting's value as people read it; no deeper than settings are."""
    if depth > DEEPEST:
        return "..."
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        text = ", ".join(said(held, depth + 1) for held in value) or "none"
    elif isinstance(value, dict):
        text = ", ".join(f"{key}={said(held, depth + 1)}" for key, held in value.items()) or "none"
    else:
        text = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):  # a sha256
        return text[:12]
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if 0 < len(text) <= 60 else f"{text[:57]}..." if text else "nothing"


def file_entry(name: str | Path) -> dict[str, Any]:
    """An entry of `inputs`: the hash over every file of it, None where it cannot be read twice (stdin, a pipe)."""
    import hashlib

    path = Path(name)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if not all(file.is_file() for file in files):
        return {"path": str(name), "sha256": None}
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            inner = hashlib.file_digest(opened, "sha256").digest()
        digest.update(os.fsencode(file.relative_to(path) if file != path else "") + inner)
    return {"path": str(name), "files": len(files), "sha256": digest.hexdigest()}


def machine() -> dict[str, Any]:
    """The machine as far as the standard library knows it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    import platform

    return {"platform": platform.platform(), "python": platform.python_version(), "cores": cores}


def code(commit: str | None) -> str:
    """What code made a figure, as a heading says it: its commit, or the version of an installed package."""
    return commit or f"llmtool {__version__}"


def git_revision() -> str | None:
    """Revision of the checkout that llmtool runs from; None for an installed package."""
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
    import subprocess

    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
