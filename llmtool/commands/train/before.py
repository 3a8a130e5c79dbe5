"""What a run of training has made in OUT, which OUT/.before keeps while another takes its place."""

from collections.abc import Iterator
from pathlib import Path

from llmtool.commands.train.job import BEGUN, METRICS, PLOT
from llmtool.core.run.before import Before
from llmtool.core.run.json_file import read_json_object
from llmtool.core.run.outputs import outputs_of

STATES = "checkpoints"
MADE = (METRICS, PLOT, "config.json", "model*.safetensors*", STATES)
"""What a run has made, finished or not; its run.json may name more."""


def replaced(output: Path) -> Before:
    """The finished run that --force replaces."""
    return Before(output, BEGUN, _made)


def _made(output: Path) -> Iterator[Path]:
    found = {path.relative_to(output) for pattern in MADE for path in output.glob(pattern)}
    finished = output / "run.json"
    for name in outputs_of(read_json_object(finished)) if finished.is_file() else ():
        place = output / name
        if place.is_file() and place.resolve().is_relative_to(output.resolve()):
            found.add(place.relative_to(output))
    yield from sorted(found - {Path("run.json"), Path(BEGUN)})
