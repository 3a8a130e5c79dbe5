"""A finished output of other settings: the options that were typed are named, once, as they were typed."""

import shlex
from pathlib import Path

import pytest

from tests.faults.inputs import write_inputs
from tests.faults.trial import invoke

pytest.importorskip("torch")
TINY = "--length 32 --steps 1 --device cpu --threads 1 --model 40K"
CALIBRATED = "--calibration text.txt --calibration-tokens"
CASES = {  # a command, what is added to it the first and the second time, and what is said
    "convert dsmoe model o --experts 4": [
        (f"{CALIBRATED} 64", f"{CALIBRATED} 128", "--calibration-tokens: 64 -> 128"),
        ("", "--calibration text.txt", "--calibration: none -> text.txt; the inputs' content"),
        ("", "--tau 0.25", "--tau: 0.5 -> 0.25"),
    ],
    "convert dsmoe-baseline": [
        (f"channels model o {CALIBRATED} 64", f"2:4 model o {CALIBRATED} 64", "KIND: channels -> 2:4"),
        (f"channels model o {CALIBRATED} 64", f"channels model o {CALIBRATED} 99", "--calibration-tokens: 64 -> 99"),
    ],
    "convert rope model o --target 4K": [
        ("--method abf", "--method abf --base 900000", "--base: not given -> 900000"),
        ("--method abf", "--method yarn", "--method: abf -> yarn"),
        ("--bases uniform", "--bases search", "--bases: uniform -> search"),
        ("", "--range 1M:2M", "--range: not given -> 1M:2M"),
    ],
    "convert export sparse o": [("", "--set dsmoe.tau=0.25", "--set: none -> dsmoe.tau=0.25")],
    "convert finedeep model o": [("--experts 2", "--experts 4", "--experts: 2 -> 4")],
    "convert copy model o": [("", "--max-shard-size 1MB", "--max-shard-size: 5GB -> 1MB")],
    "tokenizer export tok.json o": [("", "--encoder lbpe", "--encoder: merge -> lbpe")],
    "tokenizer encode tok.json text.txt -o o.npy": [
        ("", "--encoder lbpe", "--encoder: merge -> lbpe"),
        ("", "--format jsonl --offsets", "--format: npy -> jsonl; --offsets: off -> on"),
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("other")
    write_inputs(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for words in (
            "tokenizer train text.txt -o tok.json --vocab-size 290 -q",
            f"train text.txt -o model --tokenizer tok.json {TINY} -q",
            "convert dsmoe model sparse --experts 4 -q",
        ):
            assert invoke(shlex.split(words)) == 0
    return place


@pytest.mark.parametrize(("words", "case"), [(words, case) for words, cases in CASES.items() for case in cases])
def test_the_options_that_differ_are_named(
    place: Path, words: str, case: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(place)

    def run(added: str) -> int:
        typed = shlex.split(f"{words} {added}")
        return invoke([str(tmp_path / word) if word in ("o", "o.npy") else word for word in typed])

    first, second, said = case
    assert run(first) == 0
    assert run(first) == 0
    assert "complete already" in capsys.readouterr().err
    assert run(second) == 1
    assert f"made with other settings: {said} (use --force" in capsys.readouterr().err
