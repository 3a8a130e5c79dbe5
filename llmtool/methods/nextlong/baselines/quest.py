"""Quest (Gao et al., ICLR 2025, arXiv 2405.19846): documents that share a keyword stand together.

The paper takes the keyword from a query that a model (doc2query) writes for the document; here it comes from the
document itself, by the same RAKE: phrases between stop words, a word's score its degree over its frequency. Stop words
are the corpus' 100 most frequent words, so that any language has them. Groups too small for T tokens are joined with
the next in alphabetical order, as no small corpus has groups of 64K tokens.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection
from itertools import islice

from llmtool.methods.nextlong.baselines.documents import Documents, Piece
from llmtool.methods.nextlong.chance import drawn

STOP_WORDS = 100
LOOKED_AT = 8192
KEPT = 10
LONGEST = 3
_WORD = re.compile(r"[^\W\d_]+|[^\w\s]|\n")


def phrases(text: str, stop: Collection[str]) -> list[str]:
    """RAKE's phrases of up to LONGEST words, by descending score, ties by alphabet; at most KEPT."""
    found: list[list[str]] = [[]]
    for word in _WORD.findall(text.lower()):
        if word in stop or not word[0].isalpha() or len(word) < 2:
            found.append([])
        else:
            found[-1].append(word)
    runs = [run for run in found if 0 < len(run) <= LONGEST]
    frequency: Counter[str] = Counter()
    degree: Counter[str] = Counter()
    for run in runs:
        for word in run:
            frequency[word] += 1
            degree[word] += len(run)
    scores = {" ".join(run): sum(degree[word] / frequency[word] for word in run) for run in runs}
    return sorted(scores, key=lambda phrase: (-scores[phrase], phrase))[:KEPT]


class Quest:
    """Groups of documents by keyword, cut into samples."""

    name = "quest"

    def samples(self, corpus: Documents, wanted: int) -> list[list[Piece]]:
        """See Baseline."""
        texts = [
            corpus.store.passage(*corpus.whole(number), LOOKED_AT).decode("utf-8", "ignore")
            for number in range(len(corpus))
        ]
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(set(_WORD.findall(text.lower())))
        stop = {word for word, _ in counts.most_common(STOP_WORDS)}
        found = [phrases(text, stop) for text in texts]
        shared = Counter(phrase for each in found for phrase in each)
        groups: dict[str, list[int]] = defaultdict(list)
        for number, each in enumerate(found):
            keyword = next((phrase for phrase in each if shared[phrase] > 1), "")
            groups[keyword].append(number)
        place = drawn(corpus.seed, "quest", corpus.store.keys).tolist()
        order: list[int] = []
        for keyword in sorted(groups):
            order += sorted(groups[keyword], key=place.__getitem__)
        samples = list(corpus.fill(order))
        samples.sort(key=lambda pieces: (place[int(corpus.store.document_of(pieces[0][0]))], pieces[0][0]))
        return list(islice(samples, wanted))
