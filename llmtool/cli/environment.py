"""`llmtool methods` and `llmtool doctor`: what there is, and what of it works here."""

import sys
from typing import Any

from llmtool import catalog
from llmtool.cli import options
from llmtool.core.run.json_file import dumps
from llmtool.version import __version__


def methods(as_json: options.Json = False) -> None:
    """Print the catalog of methods."""
    if as_json:
        rows = [{key: getattr(row, key) for key in row.__dataclass_fields__} for row in catalog.METHODS]
        print(dumps({"schema": "llmtool.methods/1", "methods": rows}))
        return
    width = max(len(row.name) for row in catalog.METHODS)
    for row in catalog.METHODS:
        print(f"{row.name:{width}}  {row.kind:19}  {row.summary}\n{'':{width}}  {'':19}  {row.paper}")
        print(f"{'':{width}}  {'':19}  llmtool {row.command}")


def doctor(as_json: options.Json = False) -> None:
    """Say what is installed, what machine this is, and which engine runs."""
    from llmtool.core.bpe import engine
    from llmtool.core.run import doctor as checks

    facts: dict[str, Any] = {
        "schema": "llmtool.doctor/1",
        "llmtool": __version__,
        "python": sys.version.split()[0],
        "machine": checks.machine(),
        "tokenizer_engine": engine.NAME,
        "packages": checks.packages(),
        "extras": checks.extras(),
    }
    print(dumps(facts) if as_json else "\n".join(checks.report(facts)))
