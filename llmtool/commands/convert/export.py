"""`llmtool convert export`: a directory that stock transformers loads where llmtool is not installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtool import catalog
from llmtool.core.checkpoint.directory import CheckpointReader, open_checkpoint
from llmtool.core.run.console import Console
from llmtool.core.run.extras import require
from llmtool.core.run.manifest import Run
from llmtool.model import Settings, override

if TYPE_CHECKING:
    from llmtool.core.model.config import Config
    from llmtool.core.model.export import PartFile


def export_model(
    path: Path,
    output: Path,
    *,
    dtype: str | None = None,
    settings: Settings | None = None,
    changed: Sequence[str] = (),
    force: bool = False,
    console: Console,
) -> dict[str, Any]:
    """`llmtool convert export`: a directory for stock transformers. changed: fields of config.json, KEY=VALUE each."""
    require("torch", extra="models", why="to read and write weights")
    from llmtool.core.model.export import export_checkpoint
    from llmtool.core.model.loading import read_architecture

    checkpoint: CheckpointReader = open_checkpoint(path, changed)
    config = override(read_architecture(checkpoint), settings or {})
    given: dict[str, Any] = {"settings": settings} if settings else {}
    given |= {"override": list(changed)} if changed else {}
    run = Run("convert export", {"checkpoint": str(path), "dtype": dtype, **given})
    report = export_checkpoint(
        checkpoint, output, run=run, config=config, parts=part_files(config), dtype=dtype, force=force, console=console
    )
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
