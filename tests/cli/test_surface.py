"""The command surface as a golden file: an option that appears, goes or changes is seen in review.

python -m tests.cli.test_surface        writes it anew (make golden)
"""

from pathlib import Path

from llmtool.cli.surface import tree

GOLDEN = Path(__file__).with_name("surface.txt")


def surface() -> str:
    """Every command and option, one a line."""
    lines = []
    for command in tree().walk():
        lines.append(f"{command.path}: {command.help}")
        for option in command.options:
            takes = f" <{'|'.join(option.choices) or option.takes}>" if option.takes else ""
            lines.append(f"    {' '.join(option.names)}{takes}: {option.help}")
    return "\n".join(lines) + "\n"


def test_surface() -> None:
    assert GOLDEN.read_text() == surface(), "run make golden and look at the difference"


if __name__ == "__main__":
    GOLDEN.write_text(surface())
