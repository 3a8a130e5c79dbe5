"""NExtLong's stages on a corpus: chunks a minute, each stage's share, recall, memory; beside scikit-learn in one run.

    python benchmarks/nextlong.py CORPUS.jsonl TOK [--target 65536] [--workers 2] [--peer] [--encoder DIR]
    python benchmarks/nextlong.py - TOK --synthetic 1000000 --index ivf-sq8

Every chunk of every seed is mined, so that chunks a minute mean the whole corpus; samples hold as many tokens as it.
--peer: scikit-learn's TF-IDF + TruncatedSVD(256) + NearestNeighbors over the same chunks and queries. --encoder: any
sentence encoder on disk, on the first 2,000 chunks. --synthetic N: N random chunks through chunk, embed, index and mine
of 200 seeds, for the peak of memory. Nothing is printed as a ratio unless both found neighbours of like quality.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from llmtool.commands import data
from llmtool.core.run.manifest import git_revision, machine
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.encoders import SentenceEncoder
from llmtool.methods.nextlong.report import recall
from llmtool.methods.nextlong.search import Flat
from llmtool.methods.nextlong.store import Store

K = 64


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, wall seconds, CPU seconds of this process and its children)."""

    def cpu() -> float:
        uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(use.ru_utime + use.ru_stime for use in uses)

    wall, used = time.perf_counter(), cpu()
    result = work()
    return result, time.perf_counter() - wall, cpu() - used


def same_document(store: Store, queries: Any, found: Any) -> float:
    """Share of the 10 nearest other chunks that are of the query's own document: what a good embedding finds."""
    shares = []
    for query, ids in zip(queries, found, strict=True):
        others = np.array([i for i in ids if i != query][:10])
        shares.append(float(np.mean(store.document_of(others) == store.document_of(int(query)))))
    return float(np.mean(shares))


def stages(corpus: str, tokenizer: str, target: int, workers: int, index: str, place: Path) -> dict[str, Any]:
    work = place / "work"
    plan: list[tuple[str, Callable[[], Any]]] = [
        ("chunk", lambda: data.chunk([corpus], work, workers=workers)),
        ("embed", lambda: data.embed(work, workers=workers)),
        ("index", lambda: data.index(work, index=index, workers=workers)),
        ("mine", lambda: data.mine(work, tokenizer=tokenizer, target=target, workers=workers)),
        ("assemble", lambda: data.assemble(work, place / "out", tokenizer=tokenizer, target=target, workers=workers)),
    ]
    facts: dict[str, Any] = {"stages": {}}
    for name, stage in plan:
        result, wall, cpu = timed(stage)
        facts["stages"][name] = {"wall": wall, "cpu": cpu}
        facts[name] = result
    facts["wall"] = sum(stage["wall"] for stage in facts["stages"].values())
    facts["cpu"] = sum(stage["cpu"] for stage in facts["stages"].values())
    facts["recall"] = recall(work, Embedded(work))
    return facts


def print_stages(facts: dict[str, Any]) -> None:
    chunks = facts["chunk"]["chunks"]
    print(f"{chunks:,} chunks, {facts['mine']['metas']:,} mined, {facts['assemble']['samples']:,} samples")
    print(f"{'stage':10}{'wall s':>9}{'CPU s':>9}{'share of CPU':>14}{'chunks/min (wall)':>20}")
    for name, stage in facts["stages"].items():
        rate = f"{60 * chunks / stage['wall']:,.0f}"
        print(f"{name:10}{stage['wall']:9.1f}{stage['cpu']:9.1f}{stage['cpu'] / facts['cpu']:13.0%} {rate:>20}")
    print(f"{'all':10}{facts['wall']:9.1f}{facts['cpu']:9.1f}{'':14}{60 * chunks / facts['wall']:20,.0f}")
    print(f"chunks a minute by CPU time, two cores busy: {2 * 60 * chunks / facts['cpu']:,.0f}")
    print(f"recall@{facts['recall']['k']} of {facts['recall']['index']}: {facts['recall']['recall']:.3f}")


def peer(store: Store, embedded: Embedded, queries: int) -> None:
    """The straightforward pipeline, on one core each: embed all chunks, search `queries` of them."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    texts = [text.decode() for text in store.texts(0, store.chunks)]

    def embed() -> Any:
        counted = TfidfVectorizer(sublinear_tf=True, min_df=2, max_df=0.5, max_features=1 << 16).fit_transform(texts)
        return normalize(TruncatedSVD(256, n_iter=2, random_state=0).fit_transform(counted)).astype(np.float32)

    vectors, _, embed_cpu = timed(embed)
    chosen = np.unique(np.linspace(0, store.chunks - 1, queries).astype(np.int64))

    def search() -> Any:
        index = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="cosine").fit(vectors)
        return index.kneighbors(vectors[chosen], return_distance=False)

    theirs, _, search_cpu = timed(search)
    ours, _, own_search = timed(lambda: [ids for ids, _ in Flat(embedded.vectors).search(chosen, K)])
    quality = same_document(store, chosen, ours), same_document(store, chosen, theirs)
    scale = store.chunks / len(chosen)
    searches = f"{len(chosen):,} searches {search_cpu:.1f} (ours {own_search:.1f})"
    print(f"\nscikit-learn: embed {embed_cpu:.1f} CPU s (ours {EMBED['cpu']:.1f}), {searches}")
    print(f"of the 10 nearest, from the same document: ours {quality[0]:.3f}, theirs {quality[1]:.3f}")
    own_embed = EMBED["cpu"]
    if quality[0] < 0.95 * quality[1]:
        print("no ratio: our neighbours are worse")
        return
    total = (embed_cpu + scale * search_cpu) / (own_embed + scale * own_search)
    parts = f"embed {embed_cpu / own_embed:.1f}x, search {search_cpu / own_search:.1f}x"
    print(f"ratio of CPU time: {parts}, both over all chunks {total:.1f}x")


EMBED: dict[str, float] = {}


def encoder(store: Store, path: Path, rate: float, count: int = 2000) -> None:
    texts = store.texts(0, min(count, store.chunks))
    embed = SentenceEncoder(path)
    none = np.zeros(0, np.int64)
    _, _, cpu = timed(lambda: embed(texts, none.astype(np.uint64), none))
    print(f"\nsentence encoder {path.name}: {60 * len(texts) / cpu:,.0f} chunks a CPU minute; LSA {rate:,.0f}, "
          f"{rate * cpu / 60 / len(texts):,.0f} times as many")  # fmt: skip


def write_synthetic(count: int, path: Path) -> None:
    """Documents of about five chunks: half of the words from one of 500 topics, the others by Zipf's law."""
    draw = np.random.default_rng(0)
    words = np.array([f"w{number:x}" for number in range(50_000)])
    with path.open("w") as file:
        for _ in range(count // 5):
            common = draw.zipf(1.3, 1700) % 50_000
            topic = draw.integers(0, 500) * 100 + draw.integers(0, 100, 1700)
            drawn = words[np.where(draw.random(1700) < 0.5, common, topic)]
            text = "\n".join(" ".join(drawn[start : start + 17]) for start in range(0, 1700, 17))
            file.write(json.dumps({"text": text}) + "\n")


def synthetic(count: int, tokenizer: str, index: str, place: Path) -> None:
    """Each stage in a process of its own, as a user runs them."""
    path, work = place / "synthetic.jsonl", place / "work"
    write_synthetic(count, path)
    print(f"{path.stat().st_size / 1e6:,.0f} MB of synthetic text")
    mining = ["--tokenizer", tokenizer, "--target", "131072", "--samples", "100"]
    for stage in (
        ["chunk", str(path), "-o", str(work)], ["embed", str(work)], ["index", str(work), "--index", index],
        ["mine", str(work), *mining],
    ):  # fmt: skip
        command = [sys.executable, "-m", "llmtool", "data", *stage, "--workers", "1", "-q", "--json"]
        code = (
            f"import resource, subprocess; done = subprocess.run({command!r}, stdout=subprocess.PIPE, check=True); "
            "print(done.stdout.decode().strip()); "
            "print('PEAK', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        facts, _, peak = done.stdout.rpartition("PEAK ")
        seconds = time.perf_counter() - started
        print(f"{stage[0]:8} {seconds:8.1f} s, peak {int(peak) / 1e6:.2f} GB  {facts.strip()[:150]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="JSONL corpus, or - with --synthetic")
    parser.add_argument("tokenizer")
    parser.add_argument("--target", type=int, default=65536)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--index", default="auto")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--synthetic", type=int)
    given = parser.parse_args()
    print(f"{machine()}, revision {git_revision()}")
    with TemporaryDirectory(prefix="nextlong-") as name:
        place = Path(name)
        if given.synthetic:
            synthetic(given.synthetic, given.tokenizer, given.index, place)
            return
        facts = stages(given.corpus, given.tokenizer, given.target, given.workers, given.index, place)
        print_stages(facts)
        EMBED.update(facts["stages"]["embed"])
        store, embedded = Store(place / "work"), Embedded(place / "work")
        if given.peer:
            peer(store, embedded, given.queries)
        if given.encoder:
            encoder(store, given.encoder, 60 * store.chunks / EMBED["cpu"])


if __name__ == "__main__":
    main()
