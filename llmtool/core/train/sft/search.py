"""Where what was said stands in what a template wrote."""

from llmtool.core.run.json_file import dumps
from llmtool.core.train.sft.conversation import Message, Row

END_OF_PROMPT = 4
"""Characters by which the end of a prompt is looked for within a longer text."""


def behind(prompt: str, text: str, answer: Message) -> int | None:
    """Where an answer begins within a text that does not begin with its prompt: behind the place that ends as much like
    the prompt as any in front of what is said."""
    tail, said = prompt[-END_OF_PROMPT:], "".join(answer.texts).rpartition("</think>")[2].strip()
    limit = text.rfind(said)
    best, start, place = 0, None, text.find(tail)
    while said and place >= 0 and place + len(tail) <= limit:
        end = place + len(tail)
        alike = shared_length(prompt[::-1], text[:end][::-1])
        if alike > best:
            best, start = alike, end
        place = text.find(tail, place + 1)
    return start


def shared_length(one: str, other: str) -> int:
    """Characters that both begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def hidden_turns(row: Row, text: str) -> list[str]:
    """Roles of turns whose text is nowhere in what the template wrote."""
    found, place = [], 0
    for message in row.messages:
        for said in message.texts:
            said = said.rpartition("</think>")[2].strip()
            at = text.find(said, place)
            at = text.find(said) if at < 0 else at
            if at < 0 and dumps(said, ensure_ascii=False)[1:-1] not in text and said[:1] not in ("{", "["):
                found.append(message.role)
            place = max(place, at)
    return found
