"""Streaming readers of text: plain, JSONL, Parquet, .gz, .zst, directories, stdin."""
