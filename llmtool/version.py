"""The version of llmtool, for run.json and `--version`; imports nothing."""

__version__ = "0.1.0"
