"""Where a command writes if nothing else is said: what people type first needs no option."""

from pathlib import Path

TOKENIZER = Path("tokenizer.json")
"""What `tokenizer train` writes, and what commands take that need a tokenizer where none is named."""
MODEL = Path("model")
LONG = Path("nextlong")
CHUNKS = Path("chunks")
TABLE = Path("mask.safetensors")
DEVICE = Path("device")
FORMS = (".json", ".gguf", ".safetensors")


def beside(source: str | Path, what: str, given: str | Path | None = None) -> Path:
    """`given`, or a place beside what it is made of: model -> model-dsmoe, tokenizer.json -> tokenizer-extended."""
    if given is not None:
        return Path(given)
    path = Path(source)
    path = path if path.name not in ("", "..") else path.resolve()
    name = next((path.name.removesuffix(form) for form in FORMS if path.name.endswith(form)), path.name)
    return path.with_name(f"{name}-{what}")


def found_tokenizer(given: str | None = None) -> str | None:
    """`given`, or tokenizer.json where that stands here."""
    return str(TOKENIZER) if given is None and TOKENIZER.is_file() else given
