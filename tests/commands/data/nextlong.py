"""`data nextlong` on a small corpus, once a session for the settings that most tests share."""

import json
from pathlib import Path
from typing import Any

from llmtool.commands import data

TARGET = 4096


def make(place: Path, name: str, **settings: Any) -> Path:
    defaults: dict[str, Any] = {"target": TARGET, "size": 1024, "workers": 1, "source_field": "kind"}
    if name == "base" and (place / name / "run.json").exists():
        return place / name
    data.nextlong([str(place / "corpus.jsonl")], place / name, tokenizer=str(place / "tok.json"), **defaults | settings)
    return place / name


def rows(output: Path) -> list[dict[str, Any]]:
    parts = sorted([*output.glob("samples-*.jsonl"), *output.glob("spans-*.jsonl")])
    return [json.loads(line) for part in parts for line in part.open(encoding="utf-8")]


def files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file() and path.name != "run.json"}
