"""Which ids of one tokenizer mean what in another: the same token, or the pieces that its text was cut into.

found = correspondence(old, new)
found.kept[7], found.pieces[49152]      # an old id; old ids
"""

from llmtool.core.bpe.tokenizer import BaseTokenizer
from llmtool.core.run.dataclass import dataclass


@dataclass(frozen=True)
class Correspondence:
    """By new id: `kept` the old id of the same token; `pieces` the old ids of a new token's text, at least one."""

    kept: dict[int, int]
    pieces: dict[int, list[int]]
    gone: frozenset[int]
    """Old ids that no new one stands for."""

    @property
    def same_ids(self) -> bool:
        """Whether every kept token has the id that it had, and none is gone."""
        return not self.gone and all(new == old for new, old in self.kept.items())

    def new_of(self) -> dict[int, int]:
        """New id of each old one that is kept."""
        return {old: new for new, old in self.kept.items()}


def correspondence(old: BaseTokenizer, new: BaseTokenizer) -> Correspondence:
    """Tokens are the same by their bytes; an added token is the same as an added one, where there is one."""
    added = old.added_tokens
    special = {*added.values()}
    plain: dict[bytes, int] = {}
    for number in old.definition.vocabulary.spellings:
        if number not in special:
            plain.setdefault(old.token_bytes(number), number)
    cut = old.policy.cutter(old.definition)
    emit = old.definition.vocabulary.emit
    same_alphabet = old.definition.vocabulary.alphabet == new.definition.vocabulary.alphabet
    vocabulary = new.definition.vocabulary
    own = {ids[0]: unit for unit, ids in zip(vocabulary.units, vocabulary.emit, strict=True) if len(ids) == 1}
    new_added = {number: text for text, number in new.added_tokens.items()}
    kept: dict[int, int] = {}
    pieces: dict[int, list[int]] = {}
    for number in new.definition.vocabulary.spellings:
        text = new.token_bytes(number)
        found = added.get(new_added[number]) if number in new_added else None
        if found is None:
            found = plain.get(text)
        if found is not None:
            kept[number] = found
        elif number in own and same_alphabet:
            units = [unit for unit in cut(own[number]) if unit < len(emit)]
            pieces[number] = [i for unit in units for i in emit[unit]] or old.encode(text)
        else:
            pieces[number] = old.encode(text)
    gone = frozenset(old.definition.vocabulary.spellings) - {*kept.values()}
    return Correspondence(kept, {number: ids for number, ids in pieces.items() if ids}, gone)
