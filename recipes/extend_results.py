"""Splits the text of recipes/extend.sh, and gathers what it measured: extend.json, .md, .png, and run.json."""

import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from intervals import interval

from llmtool.core.run.manifest import Run
from llmtool.tokenizer import Tokenizer

INITS = ("unchanged", "pieces", "mean", "zero", "distil")


def split(text: Path, work: Path, model: Path, train_tokens: int, test_tokens: int) -> None:
    """train.jsonl and test.jsonl, every tenth document; part.jsonl, the first of train.jsonl that the model reads as so
    many tokens; test_bytes: how much of test.jsonl is measured."""
    documents = [json.loads(line)["text"] for line in text.read_text(encoding="utf-8").splitlines() if line.strip()]
    test, train = documents[::10], [each for place, each in enumerate(documents) if place % 10]
    tokenizer = Tokenizer.load(model)
    for name, texts in (("test", test), ("train", train), ("part", beginning(train, tokenizer, train_tokens))):
        lines = "".join(json.dumps({"text": each}, ensure_ascii=False) + "\n" for each in texts)
        (work / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    measured = sum(len(text.encode()) for text in beginning(test, tokenizer, test_tokens))
    (work / "test_bytes").write_text(f"{measured}\n")


def beginning(texts: list[str], tokenizer: Tokenizer, tokens: int) -> list[str]:
    """The first texts, the last of them cut, that have so many tokens together."""
    found: list[str] = []
    for text in texts:
        ids = tokenizer.encode(text)
        if len(ids) >= tokens:
            return [*found, tokenizer.decode_bytes(ids[:tokens]).decode(errors="ignore")]
        found.append(text)
        tokens -= len(ids)
    return found


def gather(out: Path, model: str) -> dict[str, Any]:
    """Language -> way -> {"before": bits a byte, "after": the same for each seed, "tokens", "bytes"}."""
    found: dict[str, Any] = {}
    for work in sorted(path for path in out.iterdir() if (path / "tokenizer").is_dir()):
        rows: dict[str, dict[str, Any]] = {}
        for file in sorted(work.glob("*.json")):
            report = json.loads(file.read_text())
            for path, figures in report["sources"]["test"].items():
                name = "unchanged" if path == model else Path(path).name
                way, _, seed = name.partition("-trained-")
                row = rows.setdefault(way, {})
                if seed:
                    row.setdefault("after", {})[seed] = figures["bits_per_byte"]
                else:
                    row["before"] = figures["bits_per_byte"]
                row["tokens"], row["bytes"] = figures["tokens"], figures["bytes"]
        if rows:
            found[work.name] = {way: rows[way] for way in INITS if way in rows}
    return found


def table(found: dict[str, Any]) -> str:
    """Markdown; after training the mean over the seeds and its 95% interval."""
    lines = ["| language | rows | tokens of the same text | bits a byte before | after |", "|---|---|---|---|---|"]
    for language, rows in found.items():
        base = rows["unchanged"]["tokens"]
        for way, row in rows.items():
            saved = "" if way == "unchanged" else f" ({row['tokens'] / base - 1:+.0%})"
            after = shown(list(row["after"].values())) if "after" in row else "not trained"
            lines.append(f"| {language} | {way} | {row['tokens']:,}{saved} | {row['before']:.3f} | {after} |")
    return "\n".join(lines) + "\n"


def shown(values: list[float]) -> str:
    """The mean, and its interval if there are several."""
    middle, half = interval(values)
    return f"{middle:.3f}" + (f" ± {half:.3f}" if len(values) > 1 else "")


def draw(found: dict[str, Any], path: Path) -> None:
    """A panel a language: bits a byte before and after; tokens in the title."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(4.2 * len(found), 3.8), sharey=True, squeeze=False)
    for panel, (language, rows) in zip(panels[0], found.items(), strict=True):
        for place, when in enumerate(("before", "after")):
            at = [number + 0.38 * place for number, row in enumerate(rows.values()) if when in row]
            seeds = [list(row[when].values()) if place else [row[when]] for row in rows.values() if when in row]
            values = [mean(each) for each in seeds]
            bars = panel.bar(at, values, 0.36, label=f"{when} training", color=("#b8c4d6", "#2f5d8c")[place])
            if place:
                halves = [interval(each)[1] if len(each) > 1 else 0.0 for each in seeds]
                panel.errorbar(at, values, halves, fmt="none", ecolor="black", lw=1)
            panel.bar_label(bars, fmt="%.2f", fontsize=7, padding=2)
        panel.set_xticks([number + 0.19 for number in range(len(rows))], list(rows), rotation=20)
        saved = 1 - rows["pieces"]["tokens"] / rows["unchanged"]["tokens"]
        panel.set_title(f"{language}: {saved:.0%} fewer tokens", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("bits a byte of held-out text")
    panels[0][0].legend(frameon=False, fontsize=8, loc="upper left")
    panels[0][0].margins(y=0.2)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    """split TEXT WORK MODEL TOKENS TOKENS, or table OUT MODEL NAME=VALUE..."""
    if sys.argv[1] == "split":
        split(*map(Path, sys.argv[2:5]), *map(int, sys.argv[5:7]))
        return
    out, model = Path(sys.argv[2]), sys.argv[3]
    found = gather(out, model)
    run = Run("recipes/extend.sh", {"model": Path(model).name, **dict(each.split("=", 1) for each in sys.argv[4:])})
    (out / "extend.json").write_text(json.dumps(found, indent=2) + "\n")
    (out / "extend.md").write_text(table(found))
    draw(found, out / "extend.png")
    run.save(out / "run.json", [Path("extend.json"), Path("extend.md"), Path("extend.png")])
    print(table(found), end="")


if __name__ == "__main__":
    main()
