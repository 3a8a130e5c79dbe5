"""From corpus to samples: what a sample is, whoever makes it."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtool.commands import data
from llmtool.core.run.console import Console
from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong import reference
from llmtool.methods.nextlong.chance import again, first_keys
from llmtool.methods.nextlong.chunking import spans
from llmtool.methods.nextlong.copies import flags
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.vectors import SCALE
from tests.commands.data.nextlong import TARGET, make, rows
from tests.methods.nextlong.corpora import sources, tokenizer, write_jsonl


def test_samples_are_what_they_say(place: Path) -> None:
    found = rows(make(place, "base"))
    store = Store(make(place, "base") / "work")
    assert len(found) > 10
    for row in found:
        ids = tokenizer().encode(row["text"])
        assert len(ids) == row["n_tokens"]
        assert TARGET <= len(ids) <= TARGET + 4
        metas = [span for span in row["spans"] if span["role"] == "meta"]
        assert len(metas) == row["seed_chunks"] >= 2
        own = {int(store.document_of(span["chunk_id"])) for span in metas}
        assert len(own) == 1
        negatives = [span["chunk_id"] for span in row["spans"] if span["role"] == "negative"]
        assert len(negatives) == len(set(negatives))
        assert not own & {int(n) for n in store.document_of(np.array(negatives))}
        for span in row["spans"]:
            text = row["text"][slice(*span["chars"])]
            whole = store.text(span["chunk_id"]).decode()
            assert whole.startswith(text)
            assert span is row["spans"][-1] or text == whole
            first, last = span["tokens"]
            inner = tokenizer().decode_bytes(ids[first:last])
            if row["n_tokens"] == TARGET or span is not row["spans"][-1]:
                assert text.encode() in inner
            assert len(inner) <= len(text.encode()) + 2 * 24  # the tokens at its edges may reach beyond
            assert span["licence"] == "PSF-2.0"
        assert row["licences"] == {"PSF-2.0": sum(b - a for a, b in (span["tokens"] for span in row["spans"]))}
        assert row["spans"][0]["role"] == "meta"
        assert "".join(row["text"][slice(*metas[0]["chars"])]).startswith(row["text"][:50])


def test_negatives_are_the_references(place: Path) -> None:
    """The whole pipeline on its own vectors against the literal algorithm."""
    output = make(place, "base")
    store, embedded = Store(output / "work"), Embedded(output / "work")
    vectors = [row.tolist() for row in embedded.vectors.rows(np.arange(store.chunks))]
    counted = next(path for path in (output / "work").glob("tokens-*"))
    tokens = np.load(counted / "00000.npy").tolist()
    texts = [store.text(number).decode() for number in range(store.chunks)]
    pool = flags(output / "work", embedded) == 0
    floor = json.loads((output / "done.json").read_text())["min_similarity"] * SCALE**2

    for row in rows(output)[:3]:
        metas = [span["chunk_id"] for span in row["spans"] if span["role"] == "meta"]
        document = int(store.document_of(metas[0]))

        def allowed(number: int, document: int = document) -> bool:
            return int(store.document_of(number)) != document and bool(pool[number])

        found = [[(n, s) for n, s in reference.hard_negatives(m, vectors, allowed, 60) if s >= floor] for m in metas]
        shingles = {n: reference.shingles(texts[n]) for n in {*metas, *(n for each in found for n, _ in each)}}
        groups = reference.plan_exact(metas, found, tokens.__getitem__, TARGET, clashing(shingles))
        assert groups
        order = [number for meta, chosen in groups for number in (meta, *chosen)]
        made = [span["chunk_id"] for span in row["spans"]]
        assert order[: len(made)] == made
        text = reference.assemble(groups, lambda number: store.text(number).decode())
        assert text.startswith(row["text"])


def clashing(shingles: dict[int, set[reference.Shingle]]) -> reference.Clash:
    def clash(number: int, present: Sequence[int]) -> bool:
        own = shingles[number]
        return any(len(own & shingles[n]) >= 0.1 * max(1, min(len(own), len(shingles[n]))) for n in present)

    return clash


def test_chunks_are_the_references(place: Path) -> None:
    store = Store(make(place, "base") / "work")
    for line in (place / "corpus.jsonl").open(encoding="utf-8"):
        row = json.loads(line)
        number = next(n for n in range(store.documents) if store.document(n)["id"] == row["id"])
        texts = store.texts(int(store.first[number]), int(store.first[number + 1]))
        assert [text.decode() for text in texts] == reference.chunk(row["text"], 1024)
        assert len(spans(row["text"], 1024)) == store.document(number)["chunks"]


@pytest.mark.parametrize("form", ["bin", "npy", "mds"])
def test_formats_hold_the_same_ids(place: Path, form: str) -> None:
    texts = rows(make(place, "base"))  # first: its directory must not hold another run's work
    output = make(place, form, form=form, work=make(place, "base") / "work")
    wanted = [tokenizer().encode(row["text"])[:TARGET] for row in texts]
    if form == "mds":
        shards = json.loads((output / "index.json").read_text())["shards"]
        assert sum(shard["samples"] for shard in shards) == len(wanted)
        raw = (output / shards[0]["raw_data"]["basename"]).read_bytes()
        assert len(raw) == shards[0]["raw_data"]["bytes"]
        offset = int(np.frombuffer(raw[4:8], np.uint32)[0])
        sizes = np.frombuffer(raw[offset : offset + 12], np.uint32)
        place_ = offset + 12 + int(sizes[:2].sum())
        first = np.frombuffer(raw[place_ + 3 : place_ + int(sizes[2])], np.uint32)
        assert first.tolist() == wanted[0]
    else:
        skip = 128 if form == "npy" else 0
        ids = np.fromfile(output / f"samples.{form}", np.uint16, offset=skip)
        assert ids.reshape(-1, TARGET).tolist() == wanted
    assert [row["id"] for row in rows(output)] == [row["id"] for row in texts]


def test_mosaic_reads_what_is_written(place: Path) -> None:
    streaming = pytest.importorskip("streaming", reason="mosaicml-streaming is not installed")
    make(place, "base")
    output = make(place, "streamed", form="mds", work=make(place, "base") / "work")
    found = streaming.StreamingDataset(local=str(output), shuffle=False, batch_size=1)
    wanted = [tokenizer().encode(row["text"])[:TARGET] for row in rows(place / "base")]
    assert [row["input_ids"].tolist() for row in found] == wanted
    assert all(row["length"] == TARGET and row["indices"].tolist() == [[0, TARGET]] for row in found)
    assert all(row["domain"] in ("email", "http", "json", "logging", "asyncio") for row in found)


def test_tokens_and_ends(place: Path) -> None:
    """--tokens is a budget; --bos and --eos stand in the ids, and the text is so much shorter."""
    make(place, "base")
    work = make(place, "base") / "work"
    output = make(place, "ends", form="npy", eos=True, tokens=f"{5 * TARGET + 100}", work=work)
    ids = np.fromfile(output / "samples.npy", np.uint16, offset=128).reshape(-1, TARGET)
    assert len(ids) == 5
    assert (ids[:, -1] == tokenizer().eos_id).all()
    assert not (ids[:, :-1] == tokenizer().eos_id).any()
    texts = make(place, "ends-text", eos=True, tokens=str(5 * TARGET), work=work)
    for row, wanted in zip(rows(texts), ids.tolist(), strict=True):
        assert tokenizer().encode(row["text"])[: TARGET - 1] == wanted[:-1]
        assert row["spans"][-1]["tokens"][1] == TARGET - 1
    assert data.report(texts)[0]["all_metas_inside"] == 1
    with pytest.raises(UserError, match="--bos: the tokenizer names no such token"):
        make(place, "bos", bos=True, work=work)
    with pytest.raises(UserError, match="--samples and --tokens contradict"):
        make(place, "both", samples=1, tokens="1M", work=work)
    with pytest.raises(UserError, match="less than one sample"):
        make(place, "less", tokens="1K", work=work)


@pytest.mark.parametrize("position", ["tail", "random"])
def test_positions_keep_all_metas_inside(place: Path, position: str) -> None:
    output = make(place, position, position=position, work=make(place, "base") / "work")
    facts, _ = data.report(output)
    assert facts["all_metas_inside"] == 1
    assert any(row["spans"][0]["role"] == "negative" for row in rows(output))


def test_the_papers_plan(place: Path) -> None:
    output = make(place, "paper", plan="paper", work=make(place, "base") / "work")
    facts, _ = data.report(output)
    assert facts["samples"] > 0
    assert facts["all_metas_inside"] < 1  # what the exact plan is for
    whole = sum(sum(s["role"] == "meta" for s in row["spans"]) == row["seed_chunks"] for row in rows(output))
    assert facts["all_metas_inside"] <= whole / facts["samples"]


def test_long_seeds_are_kept_on_request(place: Path) -> None:
    output = make(place, "long", keep_long=True, target=1024, work=make(place, "base") / "work", samples=400)
    long = [row for row in rows(output) if "chunks" in row["spans"][0]]
    assert long
    assert all(row["spans"][0]["chunks"] == row["seed_chunks"] and len(row["spans"]) == 1 for row in long)
    facts, _ = data.report(output)
    assert facts["all_metas_inside"] == 1


@pytest.mark.parametrize("method", ["concat", "knn", "iclm", "quest"])
def test_baselines(place: Path, method: str) -> None:
    output = make(place, method, method=method, work=make(place, "base") / "work", samples=8)
    found = rows(output)
    assert len(found) == 8
    for row in found:
        assert len(tokenizer().encode(row["text"])) >= TARGET
        assert {span["role"] for span in row["spans"]} == {"document"}
    if method != "knn":  # a document stands in one place only
        chunks = [(row["id"], span["chunk_id"]) for row in found for span in row["spans"]]
        assert len({chunk for _, chunk in chunks}) == len(chunks)


def test_caps_and_decontamination(place: Path) -> None:
    output = make(place, "capped", caps=["email=0.1"])
    found = rows(output)
    assert sum(row["sources"].get("email", 0) for row in found) / (len(found) * TARGET) < 0.15
    with pytest.raises(UserError, match="there is no source 'mail'"):
        make(place, "nocap", caps=["mail=0.1"])
    text = rows(make(place, "base"))[0]["text"]
    (place / "eval.txt").write_text(" ".join(text.split()[20:60]) + "\n")
    held_out = [str(place / "eval.txt")]
    facts, _ = data.report(make(place, "base"), decontaminate=held_out)
    clean, _ = data.report(make(place, "clean", decontaminate=held_out), decontaminate=held_out)
    assert facts["contaminated_samples"] > 0
    assert clean["contaminated_samples"] == 0
    assert clean["not_candidates"]["contaminated"] >= 1


def test_documents_that_are_held_out(place: Path) -> None:
    settings: dict[str, Any] = {"work": make(place, "base") / "work"}
    make(place, "base")
    texts = {row["id"]: row["text"] for row in map(json.loads, (place / "corpus.jsonl").open(encoding="utf-8"))}
    kept: dict[float, set[str]] = {}
    for share in (0.1, 0.3):
        output = make(place, f"held{share}", holdout=share, **settings)
        held = [json.loads(line) for line in (output / "held-out.jsonl").open(encoding="utf-8")]
        kept[share] = {row["id"] for row in held}
        assert all(texts[row["id"]] == row["text"] for row in held)
        used = {span["doc_id"] for row in rows(output) for span in row["spans"]}
        assert used
        assert not used & kept[share]
    assert 0 < len(kept[0.1]) < len(kept[0.3]) < 40
    assert kept[0.1] < kept[0.3]


def test_a_model_gains_from_earlier_metas(place: Path) -> None:
    """A model that copies what stood before gains; the contexts are the sample with and without its meta-chunks."""
    from llmtool.methods.nextlong import dependency

    found = rows(make(place, "base"))
    before, without, meta, gap = dependency.contexts(found[0], 1)
    spans_ = [span for span in found[0]["spans"] if span["role"] == "meta"]
    first = found[0]["text"][slice(*spans_[0]["chars"])]
    assert first in before
    assert first not in without
    assert gap == spans_[1]["tokens"][0] - spans_[0]["tokens"][1]
    assert before + meta == found[0]["text"][: len(before) + len(meta)]

    def copier(before_ids: list[int], scored: list[int]) -> float:
        return sum(token not in set(before_ids) for token in scored) / len(scored)

    facts = dependency.measure(found, tokenizer(), copier, 4096)
    assert facts["pairs"] >= 10
    assert facts["gain"] > 0
    assert sum(each["pairs"] for each in facts["samples"]) == facts["pairs"]
    assert {each["id"] for each in facts["samples"]} <= {row["id"] for row in found}
    assert len(dependency.measure(found, tokenizer(), copier, 4096, 2)["samples"]) <= 2
    assert dependency.measure(found, tokenizer(), lambda before_ids, scored: 1.0, 4096)["gain"] == 0
    assert dependency.measure(found, tokenizer(), copier, 128)["pairs"] < facts["pairs"]


def test_the_seed_is_no_negative_even_where_copies_are_allowed(place: Path) -> None:
    output = make(place, "copies", max_overlap=1.0, work=make(place, "base") / "work")
    facts, _ = data.report(output)
    assert facts["same_document_leaks"] == 0
    assert facts["negatives"] > 100


def test_baselines_refuse_what_they_do_not_do(place: Path) -> None:
    for settings in ({"decontaminate": [str(place / "corpus.jsonl")]}, {"caps": ["email=0.1"]}):
        with pytest.raises(UserError, match="is not done for --method concat"):
            make(place, "refused", method="concat", **settings)


def test_the_counts_add_up(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can never be a seed, what was tried, what came of it: three figures, and each is told."""
    settings: dict[str, Any] = {
        "tokenizer": str(place / "tok.json"), "target": TARGET, "size": 1024, "workers": 1, "source_field": "kind",
        "console": Console(0),
    }  # fmt: skip
    names = sorted(data.report(make(place, "base"))[0]["sources"])
    facts = data.nextlong(
        [str(place / "corpus.jsonl")], place / "few", samples=2, caps=[f"{names[0]}=0"], min_chunks=3, **settings
    )
    assert facts["samples"] == 2
    assert facts["tried"] == facts["accepted"] + sum(facts["rejects"].values())
    assert facts["accepted"] > 2
    assert facts["not_candidates"]["source beyond its --cap"] > 0
    assert not facts["not_candidates"].keys() & facts["rejects"].keys()
    said = capsys.readouterr().err
    assert f"no sample of {names[0]}: --cap {names[0]}=0 takes all of its seeds" in said
    assert f"{facts['accepted']:,} seeds make samples, the first 2 are written" in said
    lines = dict(data.report(place / "few")[1])
    assert lines["seeds accepted"].startswith(f"{facts['accepted']:,} of {facts['tried']:,} tried (many")
    assert "never a seed: source beyond its --cap" in lines


def test_a_plan_is_of_what_can_be_made(place: Path) -> None:
    settings: dict[str, Any] = {"tokenizer": str(place / "tok.json"), "target": TARGET, "size": 1024, "dry_run": True}
    plan = data.nextlong([str(place / "corpus.jsonl")], place / "none", samples=10**6, **settings)
    assert plan["wanted"] == 10**6
    assert plan["samples"] == plan["rows"] == plan["seeds"]
    fewer = data.nextlong([str(place / "corpus.jsonl")], place / "none", samples=2, **settings)
    assert fewer["samples"] == fewer["rows"] == fewer["wanted"] == 2
    assert fewer["bytes"] < plan["bytes"]


def test_documents_of_one_name_or_text_are_held_out_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fifth of the texts is held out, however often each stands there; what bears the id of another is counted."""
    texts = [text for _, _, text in sources()]
    tokenizer().save(tmp_path / "tok.json")
    settings: dict[str, Any] = {
        "tokenizer": str(tmp_path / "tok.json"), "target": TARGET, "size": 1024, "workers": 1, "holdout": 0.2,
        "console": Console(0),
    }  # fmt: skip
    kept = []
    for times in (1, 2, 3):
        write_jsonl(tmp_path / "corpus.jsonl", ({"text": text} for text in texts * times))
        data.nextlong([str(tmp_path / "corpus.jsonl")], tmp_path / f"out{times}", **settings)
        held = [json.loads(line)["text"] for line in (tmp_path / f"out{times}" / "held-out.jsonl").open()]
        kept.append(set(held))
        assert len(held) == times * len(kept[-1])
        said = capsys.readouterr().err
        assert (
            f"held out: {len(held):,} of {times * len(texts):,} documents ({len(held) / times / len(texts):.1%})"
            in said
        )
        assert "bear the id" not in said
    assert kept[0] == kept[1] == kept[2]
    assert 0.05 < len(kept[0]) / len(texts) < 0.4
    write_jsonl(tmp_path / "ids.jsonl", ({"id": f"n{n // 2}", "text": text} for n, text in enumerate(texts)))
    data.nextlong([str(tmp_path / "ids.jsonl")], tmp_path / "ids", **settings)
    told = capsys.readouterr().err
    assert f"{len(texts) // 2:,} of {len(texts):,} documents bear the id of another" in told
    names = Counter(json.loads(line)["id"] for line in (tmp_path / "ids" / "held-out.jsonl").open())
    assert set(names.values()) == {2}


def test_first_keys_are_those_of_the_first() -> None:
    keys = np.array([3, 10, again(10, 1), again(10, 2), again(10, 3), 11, 12, again(12, 1)], np.uint64)
    assert first_keys(keys).tolist() == [3, 10, 10, 10, 10, 11, 12, 12]
    assert first_keys(keys[:0]).tolist() == []
    assert first_keys(keys[:1]).tolist() == [3]
