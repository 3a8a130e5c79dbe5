"""Bytes a token at every size of a vocabulary, from one training of plain BPE.

Fewer merges are the first of many, and undoing the last one whose token occurs c times leaves c more tokens: so one
encoding of a text by the whole vocabulary tells how many tokens each smaller one would have made of it.
"""

from collections.abc import Mapping, Sequence

from llmtool.core.bpe.definition import Definition
from llmtool.core.run.errors import UserError


def tokens_at(definition: Definition, counts: Mapping[int, int], sizes: Sequence[int]) -> list[int]:
    """Tokens of a text at each size (ids, those of special tokens included). counts: of each id at the whole size."""
    vocabulary = definition.vocabulary
    refuse_other(definition)
    held = [counts.get(ids[0], 0) for ids in vocabulary.emit]
    total = sum(counts.values())
    found: dict[int, int] = {}
    size = vocabulary.size
    wanted = set(sizes)
    for left, right, result in reversed(vocabulary.merges):
        if size in wanted:
            found[size] = total
        times = held[result]
        total += times
        held[left] += times
        held[right] += times
        size -= 1
    found[size] = total
    for asked in sizes:
        if asked not in found:
            what = f"--curve {asked:,}: sizes lie between {size:,} and {vocabulary.size:,}"
            raise UserError(what, hint="raise --vocab-size, which is the largest")
    return [found[asked] for asked in sizes]


def refuse_other(definition: Definition) -> None:
    """Only plain BPE is nested: each merge makes one token, and no token goes again."""
    vocabulary = definition.vocabulary
    made = {result for _, _, result in vocabulary.merges}
    if definition.encoder != "merge" or vocabulary.scaffolds or len(made) < len(vocabulary.merges):
        raise UserError("--curve is for plain BPE, cut by its merges", hint="--algorithm bpe, without --encoder lbpe")
