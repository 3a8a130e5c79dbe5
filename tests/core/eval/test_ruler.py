"""RULER's kinds of questions: lengths, places, what is wanted, and a reader that finds it all."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from llmtool.core.eval import ruler
from llmtool.core.eval.ruler import TASKS, IdSpeller, Plan, Question, Task


class Characters:
    """A tokenizer whose ids are code points."""

    def spell(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def read(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


def dots(length: int, random: np.random.Generator) -> ruler.Ids:
    return np.full(length, ord("."))


def solve(text: str) -> list[str]:
    """Answers from the text alone, as a person would read it."""
    body, _, question = text.rpartition("Question:")
    if asked := re.search(r"numbers? (?:is|are) kept for (.+?)\?", question):
        names = asked[1].split(" and ")
        return [n for name in names for n in re.findall(rf"for {re.escape(name)} is (\d+)", body)]
    if asked := re.search(r"variables hold (\d+)", question):
        found = re.findall(rf"(\w+) is set to {asked[1]}\b", body)
        for _ in range(9):
            found += [
                x for x, y in re.findall(r"(\w+) is set to what (\w+) holds", body) if y in found and x not in found
            ]
        return found
    if asked := re.search(r"in which town is (\S+)\?", question):
        return re.findall(rf"^{re.escape(asked[1])} is a \w+ in (\w+)", body, re.M)
    listed = body.partition("A list of words.")[2].split()
    return [word for word, _ in Counter(listed).most_common(3)]


def plan(*names: str, lengths: Sequence[int] = (900, 2000), samples: int = 5) -> Plan:
    tasks = [task for task in TASKS if task.name in names or not names]
    return Plan(tasks, lengths, (0.0, 0.5, 1.0), samples, 3)


def questions(task: Task, length: int, depth: float | None, samples: int = 5) -> list[Question]:
    return list(plan(task.name, samples=samples).questions(task, length, depth, Characters(), dots))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_careful_reader_finds_everything(task: Task) -> None:
    for length in (900, 2000):
        for depth in (0.0, 0.4, 1.0) if task.by_depth else (None,):
            for question in questions(task, length, depth):
                text = Characters().read(question.ids.tolist())
                assert sorted(solve(text)) == sorted(question.wanted), text
                assert text.endswith((" is", " are", " in"))
                assert all(text.count("Question:") == 1 for _ in question.wanted)
                gap = length - len(question.ids) - question.room
                assert gap == 0 if task.name not in ("common", "qa") else 0 <= gap < 80


@pytest.mark.parametrize("name", ["single", "multikey", "qa"])
def test_the_depth_is_where_the_answer_stands(name: str) -> None:
    task = next(task for task in TASKS if task.name == name)
    for depth in (0.0, 0.25, 0.5, 1.0):
        for question in questions(task, 4000, depth):
            text = Characters().read(question.ids.tolist())
            context = text.partition("\nQuestion:")[0]
            place = re.search(rf"{re.escape(question.wanted[0])}\.", context) if name != "qa" else None
            if name == "qa":
                person = re.search(r"in which town is (\S+)\?", text)
                assert person
                place = re.search(rf"^{re.escape(person[1])} is a", context, re.M)
            assert place
            assert abs(place.start() / len(context) - depth) < 0.12


def test_questions_are_the_same_at_every_length_and_depth() -> None:
    task = TASKS[0]
    wanted = [[q.wanted for q in questions(task, length, depth)] for length in (900, 2000) for depth in (0.0, 1.0)]
    assert all(row == wanted[0] for row in wanted)
    assert len(set(wanted[0])) == 5
    first = [q.ids.tolist() for q in questions(task, 900, 0.5)]
    assert first == [q.ids.tolist() for q in questions(task, 900, 0.5)]


def test_scores() -> None:
    assert ruler.score(("1234", "99"), "they are 1234, and 98") == 0.5
    assert ruler.score(("1234",), "12345 or 01234") == 0
    assert ruler.score(("oak-moss",), "oak-moss-fern") == 0
    assert ruler.score(("Lima",), " Lima.") == 1


@pytest.mark.parametrize("reader", ["right", "silent", "late"])
def test_the_run_scores_what_is_decoded(reader: str) -> None:
    def answer(prompts: Sequence[Sequence[int]], room: int) -> list[list[int]]:
        found = [" " + ", ".join(solve(Characters().read(prompt))) for prompt in prompts]
        if reader == "late":  # behind the room that a question has: not counted
            found = ["x" * room + text for text in found]
        return [Characters().spell("" if reader == "silent" else text) for text in found]

    told: list[int] = []
    cells = ruler.run(plan(lengths=(900,), samples=3), answer, Characters(), dots, rows=lambda _: 2, done=told.append)
    assert [(cell.task, cell.depth) for cell in cells if cell.task in ("single", "tracking")] == [
        ("single", 0.0), ("single", 0.5), ("single", 1.0), ("tracking", None),
    ]  # fmt: skip
    assert sum(told) == 3 * len(cells)
    assert {cell.score for cell in cells} == {1.0 if reader == "right" else 0.0}


def test_ids_without_a_tokenizer() -> None:
    speller = IdSpeller(3000, 5)
    ids = speller.spell("The number kept for oak-moss is 12345.")
    assert len(ids) == len(set(ids)) == 8
    assert speller.read(ids) == "The number kept for oak-moss is 12345 ."
    assert speller.spell("oak-moss") == ids[4:5]
    assert IdSpeller(3000, 5).spell("The number kept") == ids[:3]
    assert speller.read([next(n for n in range(3000) if n not in ids)]) == "?"
    with pytest.raises(ValueError, match="more different words than the vocabulary has ids, 3"):
        IdSpeller(3, 0).spell("a b c d")
    for task in TASKS:
        for question in Plan([task], [400], [0.5], 2, 0).questions(task, 400, 0.5, IdSpeller(3000, 1), dots):
            assert len(question.ids) + question.room <= 400


def test_too_short_a_context_is_told() -> None:
    with pytest.raises(ValueError, match="90 ids do not hold the question"):
        questions(TASKS[0], 90, 0.5)
