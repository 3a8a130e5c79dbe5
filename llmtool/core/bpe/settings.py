"""What decides the result of training a tokenizer, and the options of the encoder lbpe.

`--help` takes its defaults from here, so that what is heavy is imported where it is used.
"""

from typing import TYPE_CHECKING, Literal

from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import UserError

if TYPE_CHECKING:
    from llmtool.core.bpe.normalizers import Step

MAX_TOKEN_BYTES = 1024
"""Longest token that training makes unless told otherwise: ten times the longest of published vocabularies, and little
enough that a long run of one letter in a corpus costs a few tokens, not the run's length in every table."""
ALPHA, RARE = 2.5, 100
"""Of figures: the order of the Rényi entropy (Zouhar et al. 2023), and fewer times than what makes a token rare."""
USUAL_LENGTH: Literal["bytes"] = "bytes"
USUAL_TIES: Literal["leftmost"] = "leftmost"
"""The encoder lbpe takes the token of most bytes, and the leftmost of equally long ones, if nothing else is said."""


@dataclass(frozen=True)
class TrainingSettings:
    """What decides the result of training. vocab_size counts bytes and special tokens too.

    pretokenizer_regex: patterns that cut instead, each what the one before left; matches and the rest are pieces.
    """

    vocab_size: int
    pretokenizer: str = "llama3"
    min_frequency: int = 0
    special: tuple[str, ...] = ()
    special_position: str = "first"
    max_token_bytes: int = MAX_TOKEN_BYTES
    pretokenizer_regex: tuple[str, ...] = ()

    @property
    def steps(self) -> "tuple[Step, ...]":
        """What cuts the text: these patterns, one after the other, or the pre-tokenizer of that name."""
        from llmtool.core.bpe.pretokenizers import BYTES, find_pretokenizer, isolating

        if not self.pretokenizer_regex:
            return find_pretokenizer(self.pretokenizer).steps
        return (*map(isolating, self.pretokenizer_regex), BYTES)

    @property
    def cut_by(self) -> str:
        """The name of the steps."""
        from llmtool.core.bpe.pretokenizers import name_of_steps

        return name_of_steps(self.steps) if self.pretokenizer_regex else self.pretokenizer

    def check(self) -> None:
        """Refuse settings that no corpus could satisfy."""
        from llmtool.core.bpe.pattern import compile_pattern
        from llmtool.core.bpe.pretokenizers import find_pretokenizer

        find_pretokenizer(self.pretokenizer)
        for pattern in self.pretokenizer_regex:
            compile_pattern(pattern, "--pretokenizer-regex")
        smallest = 256 + len(self.special)
        if self.vocab_size < smallest:
            raise UserError(
                f"vocabulary size {self.vocab_size} is below the alphabet",
                hint=f"at least {smallest}: 256 bytes and {len(self.special)} special tokens",
            )
        if self.vocab_size > 1 << 24:
            raise UserError(f"vocabulary size {self.vocab_size} is too large", hint="at most 16777216")
        if self.max_token_bytes < 2:
            raise UserError(f"tokens of at most {self.max_token_bytes} bytes leave nothing to merge", hint="at least 2")
        repeated = next((token for token in self.special if self.special.count(token) > 1), None)
        if repeated is not None or "" in self.special:
            what = "is empty" if repeated is None else f"{repeated!r} is given twice"
            raise UserError(f"special token {what}", hint="--special needs distinct, non-empty texts")
        if self.special_position not in ("first", "last"):
            raise UserError(f"special position {self.special_position!r} is not known", hint="first or last")
