"""Streaming readers of text: plain, JSONL, Parquet and more, packed or not, directories, URLs, stdin."""
