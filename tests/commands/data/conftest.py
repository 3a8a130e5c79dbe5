from pathlib import Path

import pytest

from tests.methods.nextlong.corpora import corpus, tokenizer


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("nextlong")
    corpus(directory / "corpus.jsonl")
    tokenizer().save(directory / "tok.json")
    return directory
