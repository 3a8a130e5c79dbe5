"""`llmtool` and `python -m llmtool`."""


def main() -> None:
    """Run the command line."""
    from llmtool.cli.app import build

    build()(prog_name="llmtool")


if __name__ == "__main__":
    main()
