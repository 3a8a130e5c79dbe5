"""Scaffold-BPE for `transformers`: exact where a stock tokenizer.json cannot be.

Written into exported directories as it stands; needs transformers and tokenizers only, not llmtool.

tokenizer.json holds the public vocabulary and a model that takes whole tokens only. What cuts text into tokens is
added when the tokenizer is loaded, as one more pre-tokenizer: BPE over tokens and scaffolds (llmtool.json), each
scaffold then cut into the tokens that take its place. So scaffolds have no ids outside, and truncation, padding,
offsets, special tokens, batches and decoding are those of `tokenizers`. Read without this file, tokenizer.json raises
an error on the first text: it never gives wrong ids.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tokenizers import PreTokenizedString, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import PreTokenizer, Sequence
from transformers import PreTrainedTokenizerFast

CACHED_PIECES = 1 << 16
LONGEST_CACHED = 64


class ScaffoldCuts:
    """Cuts a piece where its tokens end; called by `tokenizers` for each text."""

    def __init__(self, facts: dict[str, Any]) -> None:
        tokens, scaffolds = facts["vocabulary"], facts["scaffolds"]
        above = 1 + max([*tokens.values(), *facts["special_tokens"].values()])
        units = {**tokens, **{text: above + place for place, text in enumerate(scaffolds)}}
        merges = [(left, right) for left, right in facts["merges"]]
        spelling = {number: text for text, number in tokens.items()}
        self._merge = BPE(units, merges, ignore_merges=facts["ignore_merges"])
        self._parts = {text: [len(spelling[part]) for part in parts] for text, parts in scaffolds.items()}
        self._cache: dict[str, list[tuple[int, int]]] = {}

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        """Cut every piece of a text."""
        text.split(self._split)

    def _split(self, _place: int, piece: Any) -> list[Any]:
        return [piece[start:end] for start, end in self._spans(piece.normalized)]

    def _spans(self, piece: str) -> list[tuple[int, int]]:
        spans = self._cache.get(piece)
        if spans is None:
            spans, end = [], 0
            for token in self._merge.tokenize(piece):
                for length in self._parts.get(token.value) or [len(token.value)]:
                    spans.append((end, end + length))
                    end += length
            if len(piece) <= LONGEST_CACHED:
                if len(self._cache) >= CACHED_PIECES:
                    self._cache.clear()
                self._cache[piece] = spans
        return spans


class LlmtoolTokenizer(PreTrainedTokenizerFast):
    """A tokenizer with scaffolds; loaded by AutoTokenizer.from_pretrained(DIRECTORY, trust_remote_code=True)."""

    vocab_files_names = {"tokenizer_file": "tokenizer.json", "llmtool_file": "llmtool.json"}  # noqa: RUF012 (as the base)
    _tokenizer: Any

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Self:
        """As in transformers; llmtool.json must stand beside tokenizer.json."""
        tokenizer: Self = super().from_pretrained(*args, **kwargs)
        path = tokenizer.init_kwargs.get("llmtool_file")
        if path is None:
            raise OSError("llmtool.json is missing beside tokenizer.json: export the tokenizer again")
        tokenizer._install(json.loads(Path(path).read_text(encoding="utf-8")))
        return tokenizer

    def _install(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        self._stored = self._tokenizer.pre_tokenizer
        self._complete = Sequence([self._stored, PreTokenizer.custom(ScaffoldCuts(facts))])
        self._tokenizer.pre_tokenizer = self._complete

    @contextmanager
    def _as_stored(self) -> Iterator[None]:
        """Without the step in Python, which `tokenizers` cannot write."""
        self._tokenizer.pre_tokenizer = self._stored
        try:
            yield
        finally:
            self._tokenizer.pre_tokenizer = self._complete

    def _save_pretrained(
        self,
        save_directory: Any,
        file_names: tuple[str, ...],
        legacy_format: bool | None = None,
        filename_prefix: str | None = None,
    ) -> tuple[str, ...]:
        with self._as_stored():
            names = super()._save_pretrained(save_directory, file_names, legacy_format, filename_prefix)
        special = {token.content: number for number, token in self.added_tokens_decoder.items()}
        facts = {**self._facts, "special_tokens": special, "bos": self.bos_token, "eos": self.eos_token}
        path = Path(save_directory) / f"{filename_prefix + '-' if filename_prefix else ''}llmtool.json"
        path.write_text(json.dumps(facts, ensure_ascii=False) + "\n", encoding="utf-8")
        return (*names, str(path))

    def __getstate__(self) -> dict[str, Any]:
        with self._as_stored():
            stored = Tokenizer.from_str(self._tokenizer.to_str())
        ours = ("_tokenizer", "_stored", "_complete")
        return {**{key: value for key, value in self.__dict__.items() if key not in ours}, "_tokenizer": stored}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._install(self._facts)
