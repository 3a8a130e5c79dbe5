"""Runs, fits, logs, corpora, conversations and settings, read as commands read them."""

import json
from pathlib import Path
from typing import Any

from llmtool.core.run.errors import UserError
from tests.hostile.answers import MADE, command_line, finite
from tests.hostile.seeds import BASELINE

TRAIN: dict[str, Any] = {
    "model": "in/config.json", "tokenizer": "in/tok.json", "batch": 64, "length": 16, "steps": 4, "eval_every": 0,
    "save_every": 2, "device": "cpu", "kernels": "torch",
}  # fmt: skip


def prediction(path: Path) -> None:
    import llmtool

    rows = finite(llmtool.scaling.predict(path, at=[3000.0]))["predictions"]
    assert all(0 < row["low"] <= row["value"] <= row["high"] for row in rows), "an interval that holds nothing"


def prediction_elsewhere(path: Path) -> None:
    import llmtool

    finite(llmtool.scaling.predict(path, schedule="linear", horizon=8000.0))


def prediction_of_size(path: Path) -> None:
    import llmtool

    [row] = finite(llmtool.scaling.predict(path, params="1B", tokens="20B"))["predictions"]
    assert 0 < row["low"] <= row["value"] <= row["high"], "an interval that holds nothing"


def resumed(path: Path) -> None:
    """Training goes on from a state, and what it writes is whole."""
    import llmtool
    from llmtool.core.run.errors import CompleteError

    try:
        finite(llmtool.train(["in/ids.bin"], path.parts[0] + "/" + path.parts[1], **TRAIN))
    except CompleteError:
        assert path.parts[1] == "finished"


def claimed(path: Path) -> None:
    """A writer meets the run.json of a file: what it says is complete is success, else it is refused, or replaced."""
    from llmtool.core.run.errors import CompleteError
    from llmtool.core.run.manifest import Run
    from llmtool.core.run.outputs import claim_file

    facts = json.loads(Path("saved", path).read_text())
    for force in (True, False):
        run = Run(facts["command"], facts["config"])
        try:
            claim_file(path.with_name("tok.json"), run, found=lambda: facts["inputs"], force=force)
        except CompleteError:
            assert not force


def claimed_directory(path: Path) -> None:
    from llmtool.core.run.errors import CompleteError
    from llmtool.core.run.manifest import Run
    from llmtool.core.run.outputs import claim_directory

    facts = json.loads(Path("saved", path).read_text())
    for force in (True, False):
        run = Run(facts["command"], facts["config"], kind=facts["kind"])
        try:
            claim_directory(path.parent, run, found=lambda: facts["inputs"], force=force)
        except CompleteError:
            assert not force


def journal(path: Path) -> None:
    from llmtool.core.run.journal import recover

    recover(path.with_name("text.txt"))
    assert Path("in/tok.json").exists(), "a journal that reaches for other files"


def samples(path: Path) -> None:
    import llmtool

    report, _ = llmtool.data.report(Path("in/long"))
    finite(report)
    llmtool.data.show(Path("in/long"), "0", quiet=True)


def stages(path: Path) -> None:
    """The same command again, of which the last step is left to do."""
    import llmtool

    for name in ("done.json", "run.json"):
        Path("in/long", name).unlink()
    llmtool.data.nextlong(
        ["in/corpus.jsonl"], Path("in/long"), tokenizer="in/tok.json", target=256, size=128, workers=1
    )


def chunks(path: Path) -> None:
    from llmtool.methods.nextlong.store import Store

    store = Store(Path("in/long/work"))
    store.texts(0, store.chunks)
    for number in range(store.documents):
        store.document(number)


def config(path: Path) -> None:
    command_line(["tokenizer", "train", "in/text.txt", "-o", f"{MADE}/t.json", "--config", str(path)])


def config_of_training(path: Path) -> None:
    command_line(["train", "in/ids.bin", "-o", f"{MADE}/run", "--dry-run", "--config", str(path)])


def template(path: Path) -> None:
    from llmtool.core.run.worker import Limits
    from llmtool.core.train.sft.conversation import Message
    from llmtool.core.train.sft.template import Specials, Template
    from llmtool.core.train.sft.template_files import _read

    found = Template(_read(path), Specials("<s>", "</s>", {}), str(path), limits=Limits(0.5))
    found.render([Message("user", "a"), Message("assistant", "b")], prompt=False, where="row")


def conversations(path: Path) -> None:
    from llmtool.core.train.sft.formats import read_conversations

    for row in read_conversations([str(path)]):
        json.dumps([message.to_json() for message in row.messages])


def checked(path: Path) -> None:
    from llmtool.commands.posttrain.check import check

    finite(check([str(path)], tokenizer=Path("in/tok.json"), template="plain", length=64))


def log(path: Path) -> None:
    from llmtool.methods.temporal_scaling.logs import read_log

    found = read_log(path)
    finite([found.tokens_per_step, found.seconds_per_step])
    for series in found.losses.values():
        finite(series.values.tolist())
    found.metric()


def fitted(path: Path) -> None:
    import llmtool

    finite(llmtool.scaling.fit([str(path)], law="power", fit_until="60%"))


def by_positions(path: Path) -> None:
    import llmtool

    finite(llmtool.scaling.positions(str(path)))


def by_sizes(path: Path) -> None:
    import llmtool

    finite(llmtool.scaling.law(path, bootstrap=0))


def by_batches(path: Path) -> None:
    import llmtool

    finite(llmtool.scaling.law(path, law="critical-batch"))


def corpus(path: Path) -> None:
    from llmtool.core.corpus.readers import Reading, read_documents

    refused: list[UserError] = []
    for reading in (Reading(), Reading(strict=True), Reading(text_mode="line")):
        try:
            for document in read_documents([str(path)], reading):
                assert isinstance(bytes(document.text), bytes)
        except UserError as error:
            refused.append(error)
    if refused:
        raise refused[-1]


def bench_rows(path: Path) -> None:
    from llmtool.core.bench.rows import read

    read(path)


def baseline(path: Path) -> None:
    from llmtool.core.bench.baseline import read_baseline, slower

    rows = read_baseline(path, "cpu")
    slower(json.loads(json.dumps(BASELINE))["rows"], rows, 1.1)
