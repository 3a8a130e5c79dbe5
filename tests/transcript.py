"""Documents that show commands with what they print: their commands run, and print that.

A `sh` block is run. A `console` block is run too: `$ ` begins a command, `> ` goes on with it, and the lines behind are
what it prints, stdout and stderr as they come. A line `...` stands for any lines, `…` for anything inside a line.
Numbers need agree to a tenth, since texts and libraries differ a little between machines; times and rates need only be
there. `<!-- needs: PACKAGE -->` above a block: it runs where that package is installed.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^(?:<!-- needs: (\w+) -->\n)?```(sh|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
CLOCK = re.compile(r" ?(s|ms|min|MB/s|tokens/s)\b")
"""What behind a number says that it is of this machine at this moment."""
TOLERANCE = 0.1


@dataclass(frozen=True)
class Step:
    """One command, or a whole `sh` block; what is printed is not looked at where `expected` is None."""

    command: str
    expected: tuple[str, ...] | None
    needs: str | None


def steps(document: str) -> list[Step]:
    """All of a document's commands, in order."""
    found = []
    for needs, kind, body in BLOCK.findall(document):
        if kind == "sh":
            found.append(Step(body, None, needs or None))
            continue
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            more = next((n for n, line in enumerate(lines) if n and not line.startswith("> ")), len(lines))
            command = "\n".join([lines[0], *(line[2:] for line in lines[1:more])])
            found.append(Step(command, tuple(line for line in lines[more:] if line.strip()), needs or None))
    return found


def run(todo: list[Step], work: Path, log: Path) -> list[str]:
    """What each step printed, run by one shell in `work`; AssertionError with the last output where one fails.

    `llmtool`, `python` and `python3` are this interpreter's. log: a directory for the outputs.
    """
    shim = log / "bin"
    shim.mkdir(parents=True)
    for name, words in (("llmtool", " -m llmtool"), ("python", ""), ("python3", "")):
        (shim / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        (shim / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{shim}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "120",
                   "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(log / "modules")}  # fmt: skip
    script = ["set -euo pipefail"]
    for place, step in enumerate(todo):
        script += [f"exec > '{log}/{place}' 2>&1", step.command]
    script += [f"exec > '{log}/library' 2>&1", 'printf %s "${LIBRARY-}"']
    done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=work, env=environment, check=False)
    printed = [(log / str(n)).read_text() if (log / str(n)).exists() else "" for n in range(len(todo))]
    assert done.returncode == 0, next((f"$ {step.command}\n{said}" for step, said in zip(
        reversed(todo), reversed(printed), strict=True) if said), "nothing ran")  # fmt: skip
    library = (log / "library").read_text()
    return [said.replace(library, "$LIBRARY") if library else said for said in printed]


def differences(todo: list[Step], printed: list[str]) -> list[str]:
    """What a reader would not find again: the command, the line, what stands there instead."""
    return [
        f"$ {step.command}\n  shown: {lost}\n  printed:\n{said}"
        for step, said in zip(todo, printed, strict=True)
        if step.expected is not None and (lost := missing(step.expected, said)) is not None
    ]


def missing(expected: tuple[str, ...], printed: str) -> str | None:
    """The first shown line that is not where it should be; None where all is as shown."""
    lines = [line for line in printed.splitlines() if line.strip()]
    place, anywhere = 0, False
    for shown in expected:
        if shown.strip() == "...":
            anywhere = True
            continue
        ends = range(place, len(lines)) if anywhere else range(place, min(place + 1, len(lines)))
        found = next((n for n in ends if same(shown, lines[n])), None)
        if found is None:
            return shown
        place, anywhere = found + 1, False
    return None if anywhere or place == len(lines) else f"(nothing more, but there is) {lines[place]}"


def same(shown: str, printed: str) -> bool:
    """Whether a line is what is shown, to the tolerance of its numbers."""
    parts = [re.escape(NUMBER.sub("\0", squeezed(part))) for part in squeezed(shown).split("…")]
    pattern = ".*".join(part.replace("\0", f"({NUMBER.pattern})") for part in parts)
    found = re.fullmatch(pattern, squeezed(printed))
    if not found:
        return False
    wanted = list(NUMBER.finditer(squeezed(shown)))
    return all(
        CLOCK.match(squeezed(shown), want.end()) or near(want[0], got)
        for want, got in zip(wanted, found.groups(), strict=True)
    )


def near(wanted: str, got: str) -> bool:
    """Two numbers, to a tenth, or to one unit of the last digit."""
    unit = 10.0 ** -len(wanted.partition("e")[0].partition(".")[2])
    a, b = (float(text.replace(",", "")) for text in (wanted, got))
    return abs(a - b) <= max(TOLERANCE * abs(a), unit) * (1 + 1e-9)


def squeezed(line: str) -> str:
    """One space for many, one dash for a table's rule."""
    return re.sub("─+", "─", " ".join(line.split()))
