"""No output takes the place of anything that its command reads: every option that names an input, every output; and
none that another command wrote is replaced without --force.

COMMANDS names each option that takes a file, as an input (`in/...`) or as an output; the test of the surface holds that
none is forgotten. Each output is tried at each input: at its place, around it, and inside it.
"""

import io
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import product
from pathlib import Path

import pytest

from llmtool.cli.surface import tree
from llmtool.core.kernels.registry import known_ops
from llmtool.core.run.figures import MARK
from tests.faults.trial import Trial, invoke

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

REFUSED = re.compile(r"error: .*(is also an input|contains the input|lies inside the input)")
FIGURE, PAGES = "--plot FIGURE", "--html PAGE.html --markdown PAGE.md"
EVAL = f"--device cpu {FIGURE} {PAGES}"
COMMANDS = (
    "train in/ids.bin -o OUT --model in/config.json --tokenizer in/tok.json --valid v=in/text.txt "
    f"--tensorboard OUT {PAGES}",
    "train in/ids.bin -o OUT --model in/ckpt --set mask.table=in/table.safetensors",
    f"tokenizer train in/text.txt -o OUT.json --vocab-size 290 --curve 280,290 --curve-text in/more.txt {FIGURE}",
    "tokenizer extend in/tok.json in/text.txt -o OUT --add 1 --veto in/veto.txt --fit-rows in/wide.json "
    "--control in/more.txt --held-out in/other.txt",
    "tokenizer trim in/tok.json in/text.txt -o OUT --to 290 --keep in/veto.txt",
    "tokenizer encode in/tok.json in/text.txt -o OUT.ids",
    "tokenizer encode in/tok.json in/text.txt -o OUT --shards 70K --format bin",
    "tokenizer encode in/less.json in/ids.bin -o OUT.bin --remap in/map.npy",
    "tokenizer decode in/tok.json in/ids.txt -o OUT.txt",
    f"tokenizer compare in/tok.json in/ckpt --corpus in/text.txt --reference in/more.txt {FIGURE} {PAGES}",
    "tokenizer compare in/tok.json --corpus in/text.txt --baseline in/compared.json --html PAGE.html",
    "tokenizer export in/tok.json OUT --sample in/text.txt",
    f"scaling fit in/log.jsonl --fit-until 50% -o OUT.json --like in/log2.jsonl {FIGURE} {PAGES}",
    f"scaling compare in/log.jsonl in/log2.jsonl --like in/log3.jsonl {FIGURE} {PAGES}",
    f"scaling positions in/positions.jsonl {FIGURE}",
    f"scaling law in/runs.csv -o OUT.json {FIGURE}",
    "convert copy in/ckpt OUT",
    "convert export in/ckpt OUT",
    "convert dsmoe in/ckpt OUT --experts 4 --calibration in/text.txt --router-init ridge",
    "convert dsmoe-baseline static in/ckpt OUT --experts 4 --calibration in/text.txt",
    "convert dense in/sparse OUT",
    "convert uniattn in/ckpt OUT --plan in/plan.json --init zero",
    "convert uniattn in/ckpt OUT --plan in/plan.json --calibration in/text.txt "
    "--heads in/heads.json --tokenizer in/tok.json",
    "convert rope in/ckpt OUT --target 64 --method harpe --bases in/bases.json --check in/text.txt",
    "convert gguf in/model.gguf OUT",
    "convert topk in/ckpt OUT --experts 4",
    "convert cartesian in/ckpt OUT --layers 1 --experts 4",
    "convert mask in/ckpt OUT --table in/table.safetensors",
    "convert finedeep in/ckpt OUT --experts 4",
    "convert merge-lora in/adapted OUT",
    "convert vocab in/ckpt OUT --tokenizer in/tok.json --old-tokenizer in/tok2.json "
    "--corpus in/text.txt --check in/more.txt",
    f"eval loss in/ckpt --data in/text.txt --tokenizer in/tok.json --against in/shared {EVAL}",
    f"eval niah in/ckpt --data in/text.txt --tokenizer in/tok.json --length 32 {EVAL}",
    f"eval ruler in/ckpt --data in/text.txt --tokenizer in/tok.json --length 32 {EVAL}",
    f"eval attention in/ckpt --data in/text.txt --tokenizer in/tok.json --kv-saving 33% -o OUT.json {EVAL}",
    f"eval experts in/sparse --data in/text.txt --dense in/ckpt {EVAL}",
    f"eval activations in/ckpt --data in/text.txt --device cpu {PAGES}",
    "data nextlong in/corpus.jsonl -o OUT --tokenizer in/tok.json --target 256 --chunk 128 --workers 1 "
    "--short-data in/text.txt --decontaminate in/more.txt --work OUT",
    "data chunk in/corpus.jsonl -o OUT --chunk 128 --workers 1",
    "data assemble in/work -o OUT --tokenizer in/tok.json --target 256 --workers 1 --short-data in/text.txt "
    "--decontaminate in/more.txt",
    f"data report in/long --decontaminate in/text.txt --model in/ckpt {FIGURE} {PAGES}",
    "data token-experts in/ids.bin -o OUT.safetensors --model in/ckpt --tokenizer in/tok.json --experts 4",
    "posttrain sft in/ckpt in/chat.jsonl -o OUT --valid in/chat2.jsonl --template in/template.jinja "
    "--tokenizer in/tok.json --length 32 --device cpu",
    "posttrain uniattn in/shared in/chat.jsonl -o OUT --valid in/chat2.jsonl --template in/template.jinja "
    "--tokenizer in/tok.json --length 32 --device cpu",
    f"bench decode in/ckpt in/shared {FIGURE} --rows OUT.jsonl --html PAGE.html",
    "bench kernels --baseline in/rows.json --plot OUT --rows OUT.jsonl --html PAGE.html",
    f"bench tokenizer in/text.txt --keep OUT {PAGES}",
)
NOTHING_WRITTEN = (
    "generate", "verify", "rerun", "tokenizer inspect", "tokenizer diff", "scaling predict", "scaling backtest",
    "convert inspect", "data show", "data check", "bench compile", "bench machine",
)  # fmt: skip
"""Commands that write to standard output alone."""
IN_PLACE = ("data embed", "data index", "data mine")
"""Commands that add to the directory which they read."""
MADE_ALONE = ("bench device",)
"""Commands that read nothing."""
NO_FILES = {"--config", "--document-separator", "--separator", "--embedder-prefix", "--set", "--show-text"}
"""Options that are shown like files and take text; a settings file is nobody's output (no run.json names it)."""


def words_of(line: str) -> list[tuple[str, str]]:
    """(option before it or "", word) of each word that is a place."""
    words = shlex.split(line)
    return [(words[n - 1] if words[n - 1].startswith("-") else "", word) for n, word in enumerate(words)]


def is_output(word: str) -> bool:
    return word.startswith(("OUT", "PAGE")) or word == "FIGURE"


def cases() -> Iterator[tuple[str, str, str]]:
    for line in COMMANDS:
        places = words_of(line)
        inputs = [word for _, word in places if "in/" in word]
        outputs = [(option, word) for option, word in places if is_output(word)]
        for (option, output), read in product(dict.fromkeys(outputs), inputs):
            yield line, f"{option or 'OUT'} {output}", read


def test_no_option_is_forgotten() -> None:
    named: dict[str, set[str]] = {}
    for line in COMMANDS:
        known = next(
            c for c in tree().walk() if not c.commands and line.startswith(c.path.removeprefix("llmtool ") + " ")
        )
        named.setdefault(known.path, set()).update(word for word in shlex.split(line) if word.startswith("-"))
    for command in tree().walk():
        name = command.path.removeprefix("llmtool ")
        if command.commands or name in (*NOTHING_WRITTEN, *IN_PLACE, *MADE_ALONE):
            continue
        for option in command.options:
            if option.takes == "file" and not NO_FILES & set(option.names):
                assert named.get(command.path, set()) & set(option.names), (
                    f"{name} {option.names[-1]}: a line in COMMANDS"
                )


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    trial = Trial(tmp_path_factory.mktemp("inputs") / "w")
    trial.root.mkdir()
    trial.prepare()
    place = trial.root / "in"
    for name, of in (("more.txt", "text.txt"), ("other.txt", "text.txt"), ("log2.jsonl", "log.jsonl"),
                     ("log3.jsonl", "log.jsonl"), ("tok2.json", "tok.json"), ("chat2.jsonl", "chat.jsonl"),
                     ):  # fmt: skip
        shutil.copy(place / of, place / name)
    (place / "veto.txt").write_text("whole\n")
    (place / "wide.json").write_text('{"vocab_size": 320}')
    (place / "bases.json").write_text("[10000, 20000]")
    for words in (
        "tokenizer trim in/tok.json in/text.txt -o in/less --to 290",
        "eval attention in/ckpt --data in/text.txt --window 16 --device cpu --kv-saving 33% "
        "--samples 1 -o in/plan.json",
        "data nextlong in/corpus.jsonl -o in/long --work in/work --tokenizer in/tok.json --target 256 --chunk 128 "
        "--workers 1",
    ):
        status, _, said = trial.run(words)
        assert not status, said
    shutil.copy(place / "plan.json", place / "heads.json")
    shutil.copy(place / "less" / "ids.npy", place / "map.npy")
    shutil.copy(place / "less" / "llmtool.json", place / "less.json")
    (place / "compared.json").write_text("{}")
    (place / "rows.json").write_text("{}")
    (place / "template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    return trial


@pytest.mark.parametrize("line", COMMANDS, ids=[" ".join(line.split()[:2]) for line in COMMANDS])
def test_inputs_stay(line: str, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trial.root)
    if "model.gguf" in line and not Path("in/model.gguf").exists():
        pytest.skip("the package gguf is not installed")
    wrong = []
    for _, output, read in (case for case in cases() if case[0] == line):
        option, _, target = output.partition(" ")
        for how in ("at", "around", "inside"):
            if said := attempt(trial.root, line, option, target, read, how):
                wrong.append(f"{option} {how} {read}: {said}")
    assert not wrong, "\n".join(wrong)


def attempt(root: Path, line: str, option: str, target: str, read: str, how: str) -> str | None:
    """Run the command with one output where one input is; what it said, if that was no refusal of this."""
    source = Path(read[read.index("in/") :])
    held = root / "held"
    shutil.rmtree(held, ignore_errors=True)
    held.mkdir()
    shutil.rmtree(root / "out", ignore_errors=True)
    (root / "out").mkdir()
    folder = source.is_dir()
    directory = target == "OUT"
    if (how == "inside") != folder and how != "around":  # inside a file, or in the place of a directory
        return None
    if how == "around" and (not directory or (source.name, option) == ("work", "-o")):  # OUT/work is where it may be
        return None
    copy = held / source.name
    shutil.copytree(source, copy) if folder else shutil.copy(source, copy)
    for beside in source.parent.glob(f"{source.name}.*"):  # what says what ids are
        shutil.copy(beside, held / beside.name)
    place = held if how == "around" else copy / "new" if how == "inside" else copy
    ending = ".png" if target == "FIGURE" else Path(target).suffix
    if place is not held and ending and place.suffix != ending:
        if how == "inside":
            place = place.with_suffix(ending)
        else:
            place = held / f"alias{ending}"
            place.symlink_to(copy)
    words = []
    for option_before, word in words_of(line):
        if is_output(word):
            mine = (option_before or "OUT") == option and word == target
            words.append(
                str(place)
                if mine
                else str(root / "out" / f"other{option_before}{Path(word).suffix}")
                + (".png" if word == "FIGURE" else "")
            )
        else:
            words.append(word.replace(str(source), str(copy)) if word == read else word)
    before = sorted((path, path.read_bytes()) for path in held.rglob("*") if path.is_file())
    said = io.StringIO()
    sys_argv = sys.argv
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            status = invoke([*words, *(["--force"] if takes_force(line) else [])])
    finally:
        sys.argv = sys_argv
    after = sorted((path, path.read_bytes()) for path in held.rglob("*") if path.is_file())
    if after != before:
        return f"changed: {said.getvalue()}"
    if status == 1 and directory and place.is_file():  # no directory, whatever it is
        return None
    if status != 1 or not REFUSED.search(said.getvalue()):
        return f"status {status}: {said.getvalue()[-300:]}"
    return None


@pytest.mark.parametrize("line", COMMANDS, ids=[" ".join(line.split()[:2]) for line in COMMANDS])
def test_nothing_is_replaced_without_force(line: str, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of some commands were: of those that had no --force, or another use for it."""
    monkeypatch.chdir(trial.root)
    marked = b"\x89PNG " + MARK.encode() + b" 0123456789abcdef"
    assert takes_force(line)
    for tried in dict.fromkeys((option, word) for option, word in words_of(line) if is_output(word)):
        option, output = tried
        if option in ("--tensorboard", "--keep") or (line.startswith("train") and output.startswith("PAGE")):
            continue  # what is added to others; the page of a run that goes on, which says so (test_page.py)
        shutil.rmtree(trial.root / "out", ignore_errors=True)
        (trial.root / "out").mkdir()
        places = {each: Path("out", f"{n}{Path(each[1]).suffix}") for n, each in enumerate(words_of(line))}
        places = {each: path.with_suffix(".png") if each[1] == "FIGURE" else path for each, path in places.items()}
        old = places[tried]
        if line.startswith("bench kernels") and option == "--plot":
            old /= f"{known_ops([])[0]}.png"
        if Path(output).suffix or output == "FIGURE" or old.suffix == ".png":
            old.parent.mkdir(exist_ok=True)
            old.write_bytes(marked)
        else:
            old.mkdir()
            (old / "theirs.txt").write_bytes(marked)
            old /= "theirs.txt"
        words = [str(places[each]) if is_output(each[1]) else each[1] for each in words_of(line)]
        said = io.StringIO()
        monkeypatch.setattr(sys, "argv", sys.argv)
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            status = invoke(words)
        assert (status, old.read_bytes()) == (1, marked), f"{option} {output}: {status}, {said.getvalue()}"
        assert "exist" in said.getvalue() or "holds" in said.getvalue(), f"{option} {output}: {said.getvalue()}"


def takes_force(line: str) -> bool:
    command = next(
        c for c in tree().walk() if not c.commands and line.startswith(c.path.removeprefix("llmtool ") + " ")
    )
    return any("--force" in option.names for option in command.options)
