"""`llmtool convert export`: a directory that stock transformers loads where llmtool is not installed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool import catalog
from llmtool.commands.convert.settings import ExportSettings
from llmtool.commands.options import method_settings
from llmtool.commands.places import beside
from llmtool.core.checkpoint.directory import open_checkpoint
from llmtool.core.run.console import QUIET, Console
from llmtool.core.run.extras import require
from llmtool.core.run.manifest import Run
from llmtool.model import override

if TYPE_CHECKING:
    from llmtool.core.model.config import Config
    from llmtool.core.model.export import PartFile


def export_model(
    path: str | Path,
    output: str | Path | None = None,
    settings: ExportSettings | None = None,
    *,
    console: Console = QUIET,
    **named_settings: Any,
) -> dict[str, Any]:
    """A directory that stock transformers loads where llmtool is not installed.

    >>> import llmtool
    >>> llmtool.convert.export("model", "exported")["parameters"]
    36384
    """
    asked, output = ExportSettings.of(settings, named_settings), beside(path, "export", output)
    require("torch", extra="models", why="to read and write weights")
    from llmtool.core.model.export import export_checkpoint
    from llmtool.core.model.loading import read_architecture

    checkpoint = open_checkpoint(path, asked.override)
    methods = method_settings(asked.set)
    config = override(read_architecture(checkpoint), methods)
    given: dict[str, Any] = {"settings": methods} if methods else {}
    given |= {"override": list(asked.override)} if asked.override else {}
    run = Run("convert export", {"checkpoint": str(path), "dtype": asked.dtype, **given}, options=asked.options())
    report = export_checkpoint(
        checkpoint, output, run=run, config=config, parts=part_files(config), dtype=asked.dtype,
        force=asked.force, console=console,
    )  # fmt: skip
    console.info(f"{output}: {report['parameters']:,} parameters, code and model card written")
    return report


def part_files(config: "Config") -> dict[str, "PartFile"]:
    """The exportable file of each method in use."""
    from inspect import getfile

    from llmtool.core.model.export import PartFile

    names = [str(method["name"]) for method in config.methods]
    kinds = {name: type(catalog.resolve(catalog.ARCHITECTURE, name)) for name in names}
    return {
        name: PartFile(name, Path(getfile(kind)), kind.__name__, getattr(kind, "serving", None))
        for name, kind in kinds.items()
    }
