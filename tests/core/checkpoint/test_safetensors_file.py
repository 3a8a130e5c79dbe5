"""Headers are read strictly and tensors exactly; the format's own library is the judge."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtool.core.checkpoint import safetensors_file
from llmtool.core.checkpoint.dtypes import ELEMENT_TYPES, element_type, torch_dtype, type_of
from llmtool.core.checkpoint.safetensors_file import SafetensorsFile
from llmtool.core.run.errors import UserError
from tests.core.checkpoint.files import entry, safetensors_bytes

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors")
from safetensors.torch import save  # noqa: E402

Write = Callable[[str, bytes | str], Path]
GOOD = {"a": entry("F32", [2, 3], 0, 24), "b": entry("BF16", [4], 24, 32), "__metadata__": {"format": "pt"}}
DATA = bytes(range(32))


@pytest.mark.parametrize("code", ELEMENT_TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (5, 7)])
def test_every_type_reads_as_it_was_saved(write: Write, code: str, shape: tuple[int, ...]) -> None:
    kind = ELEMENT_TYPES[code]
    count = torch.Size(shape).numel() * kind.size
    octets = torch.arange(count, dtype=torch.int64).remainder(2 if code == "BOOL" else 251).to(torch.uint8)
    tensor = octets.view(torch_dtype(kind)).view(shape)
    other = torch.arange(6, dtype=torch.int32)
    file = SafetensorsFile(write("x.safetensors", save({"x": tensor, "other": other}, {"format": "pt"})))
    read = file.read("x")
    assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
    assert read.reshape(-1).view(torch.uint8).tolist() == octets.tolist()
    assert file.read("other").tolist() == other.tolist()
    assert type_of(tensor) == kind
    assert file.metadata == {"format": "pt"}


def test_a_tensor_is_read_in_pieces_and_owns_its_memory(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_file, "CHUNK", 7)
    wanted = torch.arange(100, dtype=torch.float64)
    path = write("x.safetensors", save({"x": wanted}))
    file = SafetensorsFile(path)
    first = file.read("x")
    first.zero_()
    assert file.read("x").equal(wanted)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "too short"),
    "five bytes": (b"12345", "too short"),
    "a git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "a huge header": (safetensors_bytes(GOOD, DATA, 1 << 60), "too many"),
    "a header over the limit": (safetensors_bytes(GOOD, DATA, 100_000_001), "100,000,001 bytes: too many"),
    "a header cut off": (safetensors_bytes(GOOD, b"", 1000), "truncated: the header has 1,000 bytes"),
    "not json": (safetensors_bytes(b"{"), "not JSON"),
    "not utf-8": (safetensors_bytes(b"\xff\xfe{}"), "not JSON"),
    "a huge number": (safetensors_bytes(b'{"a": ' + b"1" * 5000 + b"}"), "not JSON"),
    "deep": (safetensors_bytes(b"[" * 200_000), "nested too deeply"),
    "a list": (safetensors_bytes([]), "not a JSON object"),
    "a tensor twice": (safetensors_bytes(b'{"a": {}, "a": {}}'), "names 'a' twice"),
    "metadata of numbers": (safetensors_bytes({"__metadata__": {"a": 1}}), "not an object of strings"),
    "a field missing": (safetensors_bytes({"a": {"dtype": "F32", "shape": []}}), "a: wanted dtype, shape and"),
    "a field too many": (safetensors_bytes({"a": {**entry("U8", [], 0, 1), "x": 1}}, b"1"), "a: wanted dtype"),
    "an unknown type": (safetensors_bytes({"a": entry("F4", [2], 0, 1)}, b"1"), "a: dtype 'F4' is not supported"),
    "a type of a list": (safetensors_bytes({"a": {**entry("U8", [], 0, 1), "dtype": []}}, b"1"), r"a: dtype \[\]"),
    "a negative size": (safetensors_bytes({"a": entry("U8", [-1], 0, 1)}, b"1"), r"a: \[-1\] is not a shape"),
    "a size that is true": (safetensors_bytes(b'{"a": {"dtype": "U8", "shape": [true], "data_offsets": [0, 1]}}', b"1"),
                            r"a: \[True\] is not a shape"),
    "a size with a fraction": (safetensors_bytes({"a": entry("U8", [1.0], 0, 1)}, b"1"), "is not a shape"),  # type: ignore[list-item]
    "a backward range": (safetensors_bytes({"a": entry("U8", [1], 1, 0)}, b"1"), r"a: data_offsets \[1, 0\]"),
    "three offsets": (safetensors_bytes({"a": {**entry("U8", [1], 0, 1), "data_offsets": [0, 1, 1]}}, b"1"), "a range"),
    "the wrong type": (safetensors_bytes({"a": entry("F16", [2, 3], 0, 24)}, DATA[:24]),
                       r"a: shape \[2, 3\] of F16 is 12 bytes, but data_offsets span 24"),
    "a product that overflows": (safetensors_bytes({"a": entry("U8", [1 << 62, 1 << 62], 0, 1)}, b"1"), "is 21,2"),
    "truncated data": (safetensors_bytes(GOOD, DATA[:-1]), r"b: truncated: \[4\] of BF16 ends at byte"),
    "data out of range": (safetensors_bytes({"a": entry("U8", [9], 1000, 1009)}, DATA), "a: truncated"),
    "overlap": (safetensors_bytes({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, DATA[:6]),
                "b: its data overlaps that of 'a'"),
    "a gap": (safetensors_bytes({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 3, 4)}, DATA[:4]),
              "b: 2 bytes before its data belong to no tensor"),
    "a gap at the start": (safetensors_bytes({"a": entry("U8", [1], 1, 2)}, DATA[:2]), "a: 1 bytes before"),
    "a tail": (safetensors_bytes(GOOD, DATA + b"!"), "1 bytes at the end belong to no tensor"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_broken_file_is_one_line(write: Write, name: str) -> None:
    content, wanted = HOSTILE[name]
    path = write("x.safetensors", content)
    with pytest.raises(UserError, match=wanted) as caught:
        SafetensorsFile(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_and_changing_files(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read: no such file"):
        SafetensorsFile(tmp_path / "none.safetensors")
    path = write("x.safetensors", safetensors_bytes(GOOD, DATA))
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="changed while it was read"):
        file.read("b")
    path.unlink()
    with pytest.raises(UserError, match=r"x.safetensors: b: cannot read: no such file"):
        file.read("b")


def test_empty_tensors_may_stand_anywhere_in_the_header(write: Write) -> None:
    header = {"b": entry("U8", [2], 0, 2), "a": entry("F32", [0], 0, 0), "c": entry("F32", [0, 3], 2, 2)}
    file = SafetensorsFile(write("x.safetensors", safetensors_bytes(header, b"12")))
    assert [tuple(file.read(name).shape) for name in "abc"] == [(0,), (2,), (0, 3)]


def test_padding_after_the_header_is_allowed(write: Write) -> None:
    padded = json.dumps(GOOD).encode().ljust(512)
    assert SafetensorsFile(write("x.safetensors", safetensors_bytes(padded, DATA))).read("b").shape == (4,)


def official(content: bytes) -> dict[str, Any] | None:
    """What the format's own library reads, as bytes; None where it refuses."""
    try:
        return {name: bytes(fact["data"]) for name, fact in safetensors.deserialize(content)}
    except safetensors.SafetensorError:
        return None


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_is_accepted_is_what_the_formats_own_library_reads(write: Write, data: st.DataObject) -> None:
    """One to three edits of a good file: never a traceback, never laxer than the library, the same bytes."""
    content = bytearray(safetensors_bytes(GOOD, DATA))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        cut = data.draw(st.integers(0, 2))
        content[place : place + cut] = data.draw(st.sampled_from([b"", b"0", b"1", b"9", b"-", b"[", b'"', b",", b" "]))
    path = write("x.safetensors", bytes(content))
    expected = official(bytes(content))
    try:
        file = SafetensorsFile(path)
    except UserError:
        return
    assert expected is not None
    assert {name: file.read(name).reshape(-1).view(torch.uint8).numpy().tobytes() for name in file.entries} == expected


def test_spellings_of_types() -> None:
    assert [element_type(name).torch_name for name in ("bf16", "fp16", "fp32", "fp64")] == [
        "bfloat16", "float16", "float32", "float64",
    ]  # fmt: skip
    with pytest.raises(UserError, match="one of bf16, fp16, fp32, fp64"):
        element_type("bfloat16")
    with pytest.raises(UserError, match="complex64 have no place"):
        type_of(torch.zeros(1, dtype=torch.complex64))
