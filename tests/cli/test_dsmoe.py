"""`convert dsmoe`, `convert dense`, `eval experts`, `--set` as processes; training a converted checkpoint."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.cli.test_app import run
from tests.methods.dsmoe.models import library, save_dense, tokenizer


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dsmoe")
    tokenizer(save_dense(path / "m"))
    assert run("convert", "dsmoe", path / "m", "-q").returncode == 0
    return path


def test_plan_conversion_and_back(work: Path) -> None:
    done = run("convert", "dsmoe", work / "m", work / "plan", "--dry-run", "--json", "--layers", "0-1")
    plan = json.loads(done.stdout)
    assert (plan["schema"], plan["dry_run"], plan["layers"]) == ("llmtool.convert-dsmoe/1", True, [0, 1])
    assert plan["after"]["parameters"] == plan["before"]["parameters"] + 2 * (8 * 32 + 8)
    assert plan["after"]["flops_all"] - plan["before"]["flops"] == 2 * 2 * 8 * 32
    assert not (work / "plan").exists()
    assert b"parameters" in done.stderr
    done = run("verify", work / "m", work / "m-dsmoe", "--max-kl", "0", "--tokens", "64")
    assert (done.returncode, b"identical bit for bit" in done.stdout) == (0, True)
    done = run("convert", "dense", work / "m-dsmoe", work / "back", "--json")
    assert json.loads(done.stdout)["layers_rescaled"] == 0
    done = run("convert", "dsmoe", work / "m", "--experts", "7")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"7 experts: intermediate_size 80 is not cut evenly (up to 64: 2, 4, 5, 8" in done.stderr


@pytest.mark.parametrize(
    "given, said",
    [
        (["--set", "dsmoe.taw=0.8"], b"did you mean 'tau'?"),
        (["--set", "dsmoe.tau=2"], b"'2' is not a threshold"),
        (["--set", "dsmo.tau=0.2"], b"did you mean 'dsmoe'?"),
        (["--set", "tau=0.2"], b"wanted METHOD.KEY=VALUE"),
    ],
)
def test_settings_that_are_wrong(work: Path, given: list[str], said: bytes) -> None:
    done = run("generate", work / "m-dsmoe", "1 2", "--ids", *given)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert said in done.stderr


def test_tau_at_run_time(work: Path) -> None:
    plain = run("generate", work / "m", "1 2 3", "--ids", "--max-tokens", "8", "-q").stdout
    assert plain == run("generate", work / "m-dsmoe", "1 2 3", "--ids", "--max-tokens", "8", "-q").stdout
    closed = run("generate", work / "m-dsmoe", "1 2 3", "--ids", "--max-tokens", "8", "-q", "--set", "dsmoe.tau=0.9")
    assert closed.returncode == 0
    assert closed.stdout != plain
    assert run("convert", "export", work / "m-dsmoe", work / "e", "--set", "dsmoe.tau=0.9", "-q").returncode == 0
    assert json.loads((work / "e/config.json").read_text())["llmtool"]["methods"][0]["tau"] == 0.9


def test_training_and_eval_experts(work: Path) -> None:
    """Three steps with the controller; figures by layer in metrics.jsonl; the settings of the part in config.json."""
    done = run(
        "train", library(3)[2], "-o", work / "t", "--model", work / "m-dsmoe", "--length", "32", "--batch", "128",
        "--steps", "3", "--set", "dsmoe.target-share=0.375", "--set", "dsmoe.tau=0.45",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (work / "t/metrics.jsonl").read_text().splitlines()]
    assert [len(row["figures"]["dsmoe.active"]) for row in rows] == [3, 3, 3]
    assert rows[0]["figures"]["dsmoe.active"] == [1, 1, 1]
    assert rows[1]["figures"]["dsmoe.coefficient"] == pytest.approx(1.2 * rows[0]["figures"]["dsmoe.coefficient"])
    assert json.loads((work / "t/config.json").read_text())["llmtool"]["methods"][0]["tau"] == 0.45
    data = [word for path in library(2) for word in ("--data", path)]
    done = run(
        "eval", "experts", work / "t", *data, "--tokens", "128", "--dense", work / "m", "--plot", work / "x.svg",
        "--taus", "0.3,0.9", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["schema"] == "llmtool.eval-experts/1"
    assert [point["tau"] for point in facts["curve"]] == [0.3, 0.45, 0.9]
    assert facts["curve"][0]["active"] >= facts["curve"][1]["active"] >= facts["curve"][2]["active"]
    assert len(facts["sources"]) == 2
    assert facts["all"]["tokens"] == sum(source["tokens"] for source in facts["sources"].values())
    assert (work / "x.svg").stat().st_size > 1000
    text = run("eval", "experts", work / "t", *data, "--tokens", "128", "--taus", "0.9", "-q").stdout.decode()
    assert "active by layer" in text
    assert "<- the checkpoint's" in text
    for place, word in (("e1/c", "one "), ("e2/c", "two ")):
        (work / place).mkdir(parents=True)
        (work / place / "x.txt").write_text(word * 200)
    twins = [word for place in ("e1", "e2") for word in ("--data", work / place / "c/x.txt")]
    facts = json.loads(run("eval", "experts", work / "t", *twins, "--tokens", "64", "--json").stdout)
    assert list(facts["sources"]) == ["e1/c/x.txt", "e2/c/x.txt"]
    assert [source["tokens"] for source in facts["sources"].values()] == [64, 64]
    assert facts["all"]["tokens"] == 128


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["m"], b"holds no DSMoE layer"), (["m-dsmoe", "--taus", "0.5,x"], b"--taus x: not a number"),
        (["m-dsmoe", "--taus", "1"], b"less than 1"), (["m-dsmoe", "--plot", "x.gif"], b"cannot draw .gif"),
    ],
)  # fmt: skip
def test_bad_evaluations_are_one_line(work: Path, arguments: list[str], said: bytes) -> None:
    done = run("eval", "experts", work / arguments[0], "--data", library(1)[0], *arguments[1:])
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert said in done.stderr
