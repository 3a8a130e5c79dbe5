"""What `llmtool scaling fit` is asked for, what it writes, and the exit status that its checks ask for."""

from dataclasses import asdict
from functools import cached_property
from typing import Any

from llmtool.commands.scaling.settings import FitSettings
from llmtool.core.run.atomic import atomic_files
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import ExitCode
from llmtool.core.run.json_file import dumps
from llmtool.core.run.manifest import Run, file_entry, manifest_path
from llmtool.methods.temporal_scaling.alarms import odds_above
from llmtool.methods.temporal_scaling.forecast import Forecast
from llmtool.methods.temporal_scaling.look import Look

SPELLED = {
    "targets": "--target-loss", "until": "--fit-until", "shape": "--schedule", "end": "--end-lr",
}  # fmt: skip
"""Options of settings that are called otherwise."""


@dataclass(frozen=True)
class Request:
    """What to fit, and what to make of it."""

    sources: list[str]
    asked: FitSettings
    as_json: bool = False

    @property
    def look(self) -> Look:
        """How the logs are looked at."""
        return self.asked.look()

    @cached_property
    def run(self) -> Run:
        """What makes the saved law what it is; the one that claims its place, and is saved."""
        facts = {"law": self.asked.law, "targets": list(self.asked.target_loss), "like": list(self.asked.like),
                 **asdict(self.look)}  # fmt: skip
        return Run("scaling fit", facts, spelled=SPELLED, defaults=self.asked.defaults())

    def inputs(self) -> list[dict[str, Any]]:
        """The logs, as they are now."""
        return [file_entry(source) for source in self.read]

    @property
    def read(self) -> list[str]:
        """The logs, and those of the runs to learn from."""
        return [*self.sources, *self.asked.like]


def write_law(request: Request, facts: dict[str, Any]) -> None:
    """The law and what it was made from, whole."""
    if request.asked.output is None:
        return
    run = request.run
    run.inputs = request.inputs()
    with atomic_files() as files:
        files.open(request.asked.output).write(dumps(facts, indent=1).encode() + b"\n")
        run.save(manifest_path(request.asked.output), [request.asked.output], files)


def verdict(made: list[Forecast], request: Request) -> int:
    """The exit status that the checks ask for; without --certainty, the likelier side of the bar counts."""
    doubtful = request.asked.require_confident and not all(each.confident for each in made)
    sure = 0.5 if request.asked.certainty is None else request.asked.certainty
    high = request.asked.max_predicted_loss is not None and any(
        odds_above(each, request.asked.max_predicted_loss) >= sure for each in made
    )
    return int(ExitCode.CHECK_FAILED if doubtful or high else ExitCode.OK)
