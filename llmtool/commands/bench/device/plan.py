"""Parts of a run on a device, as data: what is done, in which processes, with which share of the time."""

from collections.abc import Mapping, Sequence

from llmtool.core.kernels.spec import Case, case
from llmtool.core.run.dataclass import dataclass
from llmtool.core.run.errors import ChoiceError, UserError, closest

SHARES = {
    "env": 5, "ceilings": 15, "tests": 80, "big": 30, "ops": 150, "decode": 80, "train": 100, "tune": 100,
}  # fmt: skip
"""Part -> its share of the time; what a part leaves goes to those after it."""

PER_OP = ("tests", "ops", "tune")
"""Parts with a process for each op: an illegal access leaves its process no device."""

ORDER = (
    "rms_norm", "swiglu", "rope", "linear_cross_entropy", "dsmoe_ffn", "shared_softmax_attention", "masked_swiglu",
    "grouped_gemm", "grouped_swiglu",
)  # fmt: skip
"""Ops by how much of a model they carry; a new one comes after them."""

CASES: Mapping[str, Sequence[Case]] = {
    "rms_norm": [case(rows=32768, width=2048), case(rows=16384, width=4096), case(rows=16384, width=5120)],
    "swiglu": [case(rows=16384, width=8192), case(rows=16384, width=14336)],
    "rope": [case(rows=4, heads=32, shared=8, tokens=4096, size=64, tables=1, own=0),
             case(rows=2, heads=32, shared=8, tokens=8192, size=128, tables=1, own=0)],
    "linear_cross_entropy": [case(tokens=8192, width=2048, vocabulary=128256)],
    "masked_swiglu": [case(rows=16384, inner=8192, experts=8)],
    "dsmoe_ffn": [case(tokens=t, width=2048, inner=8192, experts=8, active=3) for t in (1, 8, 1024, 8192)],
    "shared_softmax_attention": [case(layers=1, batch=1, heads=8, group=4, places=65536, size=64, mapped=0),
                                 case(layers=1, batch=16, heads=8, group=4, places=8192, size=64, mapped=0)],
    "grouped_gemm": [case(rows=32768, groups=64, out=1408, width=2048),
                     case(rows=16384, groups=8, out=14336, width=4096)],
    "grouped_swiglu": [case(rows=32768, groups=64, inner=1408, width=2048)],
}  # fmt: skip
"""What models of 1B and 8B meet; an op that is not here takes the first two of its large cases."""

REHEARSED: Mapping[str, Sequence[Case]] = {
    "dsmoe_ffn": [case(tokens=1, width=32, inner=64, experts=4, active=2)],
    "shared_softmax_attention": [case(layers=2, batch=1, heads=2, group=4, places=42, size=16, mapped=0)],
}
"""On a CPU; else the first of an op's odd cases."""


@dataclass(frozen=True)
class Job:
    """One process."""

    part: str
    name: str
    """Its op, or "all"."""

    def __str__(self) -> str:
        return self.part if self.name == "all" else f"{self.part} {self.name}"


def parts_of(text: str) -> list[str]:
    """Names with commas between, in the order of SHARES."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in SHARES:
            raise ChoiceError(f"part {word!r} is not known", where="--parts", hint=closest(word, list(SHARES)) or
                            f"one of {', '.join(SHARES)}")  # fmt: skip
    if not words:
        raise UserError("no part is named", where="--parts", hint=f"some of {','.join(SHARES)}")
    return [part for part in SHARES if part in words]


def jobs_of(part: str, ops: Sequence[str]) -> list[Job]:
    """The processes of a part."""
    if part not in PER_OP:
        return [Job(part, "all")]
    place = {op: number for number, op in enumerate(ORDER)}
    return [Job(part, op) for op in sorted(ops, key=lambda op: (place.get(op, len(place)), op))]
