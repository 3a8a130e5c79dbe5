"""From corpus to samples: what a sample is, whoever makes it, however often it is interrupted."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtool.commands import data
from llmtool.core.corpus.shards import Stage
from llmtool.core.run.errors import UserError
from llmtool.methods.nextlong import reference
from llmtool.methods.nextlong.chunking import spans
from llmtool.methods.nextlong.copies import flags
from llmtool.methods.nextlong.embedding import Embedded
from llmtool.methods.nextlong.store import Store
from llmtool.methods.nextlong.vectors import SCALE
from tests.methods.nextlong.corpora import corpus, tokenizer, write_jsonl

TARGET = 4096


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("nextlong")
    corpus(directory / "corpus.jsonl")
    tokenizer().save(directory / "tok.json")
    return directory


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


def test_samples_are_what_they_say(place: Path) -> None:
    found = rows(make(place, "base"))
    store = Store(place / "base" / "work")
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


def test_workers_change_no_byte(place: Path) -> None:
    base = files(make(place, "base"))
    assert files(make(place, "two", workers=2)) == base
    assert files(make(place, "other", seed=1)) != base


@pytest.mark.parametrize("form", ["bin", "npy", "mds"])
def test_formats_hold_the_same_ids(place: Path, form: str) -> None:
    texts = rows(make(place, "base"))  # first: its directory must not hold another run's work
    output = make(place, form, form=form, work=place / "base" / "work")
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
    output = make(place, "streamed", form="mds", work=place / "base" / "work")
    found = streaming.StreamingDataset(local=str(output), shuffle=False, batch_size=1)
    wanted = [tokenizer().encode(row["text"])[:TARGET] for row in rows(place / "base")]
    assert [row["input_ids"].tolist() for row in found] == wanted
    assert all(row["length"] == TARGET and row["indices"].tolist() == [[0, TARGET]] for row in found)
    assert all(row["domain"] in ("email", "http", "json", "logging", "asyncio") for row in found)


def test_tokens_and_ends(place: Path) -> None:
    """--tokens is a budget; --bos and --eos stand in the ids, and the text is so much shorter."""
    make(place, "base")
    work = place / "base" / "work"
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
    output = make(place, position, position=position, work=place / "base" / "work")
    facts, _ = data.report(output)
    assert facts["all_metas_inside"] == 1
    assert any(row["spans"][0]["role"] == "negative" for row in rows(output))


def test_the_papers_plan(place: Path) -> None:
    output = make(place, "paper", plan="paper", work=place / "base" / "work")
    facts, _ = data.report(output)
    assert facts["samples"] > 0
    assert facts["all_metas_inside"] < 1  # what the exact plan is for
    whole = sum(sum(s["role"] == "meta" for s in row["spans"]) == row["seed_chunks"] for row in rows(output))
    assert facts["all_metas_inside"] <= whole / facts["samples"]


def test_long_seeds_are_kept_on_request(place: Path) -> None:
    output = make(place, "long", keep_long=True, target=1024, work=place / "base" / "work", samples=400)
    long = [row for row in rows(output) if "chunks" in row["spans"][0]]
    assert long
    assert all(row["spans"][0]["chunks"] == row["seed_chunks"] and len(row["spans"]) == 1 for row in long)
    facts, _ = data.report(output)
    assert facts["all_metas_inside"] == 1


@pytest.mark.parametrize("method", ["concat", "knn", "iclm", "quest"])
def test_baselines(place: Path, method: str) -> None:
    output = make(place, method, method=method, work=place / "base" / "work", samples=8)
    found = rows(output)
    assert len(found) == 8
    for row in found:
        assert len(tokenizer().encode(row["text"])) >= TARGET
        assert {span["role"] for span in row["spans"]} == {"document"}
    if method != "knn":  # a document stands in one place only
        chunks = [(row["id"], span["chunk_id"]) for row in found for span in row["spans"]]
        assert len({chunk for _, chunk in chunks}) == len(chunks)


def test_stages_one_by_one(place: Path) -> None:
    work = place / "stages"
    settings: dict[str, Any] = {"tokenizer": str(place / "tok.json"), "target": TARGET, "workers": 1}
    with pytest.raises(UserError, match="run `llmtool data chunk` first"):
        data.embed(work)
    data.chunk([str(place / "corpus.jsonl")], work, size=1024, source_field="kind", workers=1)
    data.embed(work, workers=1)
    data.index(work)
    data.mine(work, **settings)
    data.assemble(work, place / "assembled", **settings)
    one, other = files(make(place, "base")), files(place / "assembled")
    assert {n: b for n, b in one.items() if n.startswith("samples")} == {
        n: b for n, b in other.items() if n.startswith("samples")
    }


def test_complete_and_changed_outputs_are_refused(place: Path) -> None:
    make(place, "base")
    settings: dict[str, Any] = {"tokenizer": str(place / "tok.json"), "target": TARGET, "size": 1024, "workers": 1}
    corpora = [str(place / "corpus.jsonl")]
    with pytest.raises(UserError, match="complete already"):
        data.nextlong(corpora, place / "base", source_field="kind", **settings)
    with pytest.raises(UserError, match="--target: 4096 -> 2048"):
        data.nextlong(corpora, place / "base", source_field="kind", **settings | {"target": 2048})
    write_jsonl(place / "changed.jsonl", [{"text": "x"}])
    with pytest.raises(UserError, match="the inputs' content"):
        data.nextlong([str(place / "changed.jsonl")], place / "base", source_field="kind", **settings)
    (place / "foreign").mkdir()
    (place / "foreign" / "file").write_text("mine")
    with pytest.raises(UserError, match="exists already and is not ours"):
        data.nextlong(corpora, place / "foreign", **settings)


def test_killed_runs_go_on(place: Path) -> None:
    base = files(make(place, "base"))
    output = place / "killed"
    command = [
        sys.executable, "-m", "llmtool", "data", "nextlong", str(place / "corpus.jsonl"), "-o", str(output),
        "--tokenizer", str(place / "tok.json"), "--target", str(TARGET), "--chunk", "1024", "--source-field", "kind",
        "--workers", "2", "-q",
    ]  # fmt: skip
    killed = 0
    for written in (1, 8, 16):  # files: early, in the middle, late, on a machine of any speed
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and sum(len(names) for _, _, names in os.walk(output)) < written:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    if (output / "run.json").exists():
        shutil.rmtree(output)  # a fast machine: the run was complete before it was killed
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert killed
    assert files(output) == base


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
    assert clean["rejects"]["contaminated"] >= 1


def test_a_unit_without_its_files_is_made_again(place: Path, tmp_path: Path) -> None:
    stage = Stage(tmp_path / "stage", {"a": 1})
    stage.begin()
    stage.path(0, "txt").write_text("abc")
    stage.finish(0, ["00000.txt"], {"n": 3})
    assert stage.is_done(0)
    stage.path(0, "txt").write_text("ab")
    assert not stage.is_done(0)
    with pytest.raises(UserError, match="a: 1 -> 2"):
        Stage(tmp_path / "stage", {"a": 2}).begin()
    Stage(tmp_path / "stage", {"a": 2}).begin(force=True)
    assert not stage.path(0, "txt").exists()


def relabelled(place: Path, name: str, texts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples of these rows, in this order."""
    write_jsonl(place / f"{name}.jsonl", texts)
    data.nextlong(
        [str(place / f"{name}.jsonl")], place / name, tokenizer=str(place / "tok.json"), target=TARGET, size=1024,
        workers=1, source_field="kind", samples=12,
    )  # fmt: skip
    return rows(place / name)


def test_the_order_of_rows_changes_nothing(place: Path) -> None:
    """Seeds, ids, negatives, chunk numbers, ties: all hang on the documents."""
    texts = [json.loads(line) for line in (place / "corpus.jsonl").open(encoding="utf-8")]
    first = relabelled(place, "ordered", texts)
    shuffled = random.Random(0).sample(texts, len(texts))
    assert relabelled(place, "shuffled", shuffled) == first
    (place / "apart").mkdir()
    for part in range(3):
        write_jsonl(place / "apart" / f"{2 - part}.jsonl", shuffled[part::3])
    data.nextlong(
        [str(place / "apart" / f"{part}.jsonl") for part in range(3)], place / "parts", target=TARGET, size=1024,
        tokenizer=str(place / "tok.json"), workers=1, source_field="kind", samples=12,
    )  # fmt: skip
    assert rows(place / "parts") == first
    # rows without a name are told apart by their text
    nameless = [{key: value for key, value in row.items() if key != "id"} for row in texts]
    again = [{key: value for key, value in row.items() if key != "id"} for row in shuffled]
    one, other = relabelled(place, "nameless", nameless), relabelled(place, "nameless-shuffled", again)
    assert [row["text"] for row in one] == [row["text"] for row in other]
    assert [row["id"] for row in one] == [row["id"] for row in other]


def test_more_documents_change_what_they_must(place: Path) -> None:
    texts = [json.loads(line) for line in (place / "corpus.jsonl").open(encoding="utf-8")]
    before = {row["seed"]: row for row in relabelled(place, "fewer", texts)}
    more = [{"id": f"more{n}", "kind": "more", "text": f"entirely other words {n}\n" * 9} for n in range(20)]
    after = {row["seed"]: row for row in relabelled(place, "more", [*more, *texts])}
    assert len(before.keys() & after.keys()) >= len(before) - 1
    assert all(after[seed]["id"] == row["id"] for seed, row in before.items() if seed in after)


def test_documents_that_are_held_out(place: Path) -> None:
    settings: dict[str, Any] = {"work": place / "base" / "work"}
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


def test_force_leaves_nothing_of_another_corpus(place: Path) -> None:
    """A work directory that is made anew does not keep the embedder that was fitted on the text before."""
    work = place / "anew"
    for limit in (30, 60):
        corpus(place / f"{limit}.jsonl", limit)
        data.chunk([str(place / f"{limit}.jsonl")], work, size=1024, workers=1, force=True)
        data.embed(work, workers=1, force=True)
    data.chunk([str(place / "60.jsonl")], place / "fresh", size=1024, workers=1)
    data.embed(place / "fresh", workers=1)
    assert files(work / "vectors") == files(place / "fresh" / "vectors")


def test_the_seed_is_no_negative_even_where_copies_are_allowed(place: Path) -> None:
    output = make(place, "copies", max_overlap=1.0, work=place / "base" / "work")
    facts, _ = data.report(output)
    assert facts["same_document_leaks"] == 0
    assert facts["negatives"] > 100


def test_baselines_refuse_what_they_do_not_do(place: Path) -> None:
    for settings in ({"decontaminate": [str(place / "corpus.jsonl")]}, {"caps": ["email=0.1"]}):
        with pytest.raises(UserError, match="is not done for --method concat"):
            make(place, "refused", method="concat", **settings)


def test_a_pipe_is_read_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for word in ("alpha", "omega"):
        row = json.dumps({"text": f"{word} " * 50}).encode() + b"\n"
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(row,))
        writer.start()
        data.chunk([str(tmp_path / "pipe")], tmp_path / "work", workers=1)
        writer.join()
        assert Store(tmp_path / "work").text(0).startswith(word.encode())


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("some text\nand more\n" * 20)
    data.chunk([str(folder)], tmp_path / "work", workers=1)
    assert Store(tmp_path / "work").documents == 1


def test_interrupted_clearing_keeps_the_old_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path / "stage", {"seed": 1}, owned=True)
    stage.begin()
    (stage.directory / "basis.npy").write_bytes(b"of seed 1")
    unlink = Path.unlink

    def interrupted(path: Path, missing_ok: bool = False) -> None:
        if path.name == "basis.npy":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Stage(tmp_path / "stage", {"seed": 2}, owned=True).begin(force=True)
    monkeypatch.undo()
    with pytest.raises(UserError, match="seed: 1 -> 2"):
        Stage(tmp_path / "stage", {"seed": 2}, owned=True).begin()
