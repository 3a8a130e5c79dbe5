"""What training programs print: llm.c, modded-nanogpt, nanoGPT, nanochat.

Each line names its step, in one of a few spellings, and some quantities; lines that do not are skipped.
"""

import re
from collections.abc import Iterator

from llmtool.core.run.errors import UserError
from llmtool.methods.temporal_scaling.logs.row import Row

_NUMBER = r"([-+]?(?:\d[\d,]*\.?\d*(?:e[-+]?\d+)?|\.\d+|nan|inf))"
_STEP = re.compile(r"^(?:.*?\s)?(?:s:|step[:\s]+|iter(?:ation)?[:\s]+)\s*(\d+)(?:/(\d+))?", re.IGNORECASE)
"""`s:250`, `step:125/5625`, `step 2000:`, `iter 10:`, `step 00010/21400`, after a time stamp or not."""

_LOSSES = (
    ("val", re.compile(rf"\btel:\s*{_NUMBER}", re.IGNORECASE)),  # llm.c
    ("train", re.compile(rf"\btrl:\s*{_NUMBER}", re.IGNORECASE)),
    ("val", re.compile(rf"\bval(?:idation)?[_ ](?:loss|bpb)[:=]?\s*{_NUMBER}", re.IGNORECASE)),
    ("train", re.compile(rf"(?:(?<!val)(?<!validation)(?<!eval)[\s|,:]|^)(?:train[_ ])?loss[:=]?\s*{_NUMBER}", re.I)),
)
_RATE = re.compile(rf"\b(?:lr|lrm|learning[_ ]rate)[:=]?\s*{_NUMBER}", re.IGNORECASE)
"""`lrm` is nanochat's multiplier of every rate: only the rate over its peak matters here."""
_TOKENS = re.compile(rf"\btokens(?:_seen)?[:=]\s*{_NUMBER}", re.IGNORECASE)
_ELAPSED = (
    (re.compile(rf"\btrain_time:\s*{_NUMBER}ms"), 1e-3),  # modded-nanogpt
    (re.compile(rf"\btotal time:\s*{_NUMBER}m\b"), 60.0),  # nanochat
)


def read(text: str, name: str) -> tuple[Iterator[Row], int | None]:
    """The rows, and the number of steps planned where the lines say `step:125/5625`."""
    rows = []
    horizon = 0
    for line in text.splitlines():
        if not (match := _STEP.match(line)):
            continue
        row = _row(float(match[1]), line[match.end() :])
        if match[2]:
            horizon = max(horizon, int(match[2]))
        if not row.empty:
            rows.append(row)
    if not rows:
        raise UserError(
            "not a training log that can be read",
            where=name,
            hint="JSONL, trainer_state.json, CSV with a step column, TensorBoard events, or a printed log",
        )
    return iter(rows), horizon or None


def _row(step: float, rest: str) -> Row:
    row = Row(step)
    for metric, pattern in _LOSSES:
        if match := pattern.search(rest):
            row.losses.setdefault(metric, _number(match))
    if match := _RATE.search(rest):
        row.rate = _number(match)
    if match := _TOKENS.search(rest):
        row.tokens = _number(match)
    for pattern, seconds in _ELAPSED:
        if match := pattern.search(rest):
            row.seconds = _number(match) * seconds
    return row


def _number(match: re.Match[str]) -> float:
    return float(match[1].replace(",", ""))
