"""`llmtool` and `python -m llmtool`."""


def main() -> None:
    """Run the command line."""
    import gc

    from llmtool.cli.app import build

    # A tokenizer file is 100,000 small tuples, none in a cycle: collecting while they are made costs 15% of start-up.
    gc.set_threshold(100_000, 20, 20)
    build()(prog_name="llmtool")


if __name__ == "__main__":
    main()
