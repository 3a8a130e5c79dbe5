"""The whole surface of the command line, and the files that are generated from it.

python -m llmtool.cli.surface        writes completions/ and man/ anew (make golden)
"""

from functools import cache
from pathlib import Path

from llmtool.cli.app import build
from llmtool.cli.completion import scripts
from llmtool.cli.man import manuals
from llmtool.cli.tree import Command, describe


@cache
def tree() -> Command:
    """The command tree of the app."""
    return describe(build(), "llmtool")


def generated() -> dict[str, str]:
    """Path from the checkout's root -> text."""
    root = tree()
    files = {f"completions/{name}": text for name, text in scripts(root).items()}
    return files | {f"man/{name}": text for name, text in manuals(root).items()}


def write(checkout: Path) -> None:
    """Write them all; a page of a command that is gone goes too."""
    files = generated()
    for name, text in files.items():
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text(text, encoding="utf-8")
    for page in (checkout / "man").glob("*.1"):
        if f"man/{page.name}" not in files:
            page.unlink()


if __name__ == "__main__":
    write(Path(__file__).parents[2])
