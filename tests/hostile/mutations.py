"""Files turned into hostile ones: by the structure of what they hold, and by their bytes.

    mutate("json", seed, random.Random(7))      # the same bytes each time

A JSON value is held as a tree in which an object is a list of pairs, so that keys may stand twice, and a `Raw` is
written as it is: numbers of 5,000 digits, NaN, nesting beyond every stack.
"""

import gzip
import json
import random
import re
import struct
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import zstandard


class Raw(NamedTuple):
    """Text that stands in JSON as it is."""

    text: str


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may stand twice."""


HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 255, 256, 1 << 31, (1 << 32) - 1, 1 << 53, (1 << 63) - 1, 1 << 63, 1 << 64,
    -(1 << 63), 10**9, 10**30, 10**300, 0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, Raw("9" * 5000), Raw("-" + "9" * 5000),
    Raw("1e999"), Raw("-1e999"), Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e-999"), Raw("0." + "3" * 6000),
    "", " ", "x", "0", "1", "-1", "1_000", "9" * 5000, "1e999", "nan", "inf", "²", "٣", "\ud800", "\udcff", "\x00",
    "\n", "\x1b[31m", "é" * 50, "x" * 100_000, "../../../../etc/passwd", "/dev/zero", ".", "/", "a/b", "%s%n", "{}",
    "int8", "S0", "float32", "complex128", "O", "uint16", "object", "1979-05-27",
    [], {}, [[]], [None], [0], [1, 2], [True], ["x"], [Raw("NaN")], {"": 0}, {"x": {}}, [0] * 1000, ["x"] * 1000,
    Raw("[" * 900 + "]" * 900), Raw("[" * 100_000), Raw('{"a":' * 900 + "1" + "}" * 900), Raw('{"a":' * 50_000),
    Raw("[" + ",".join(["[1]"] * 5000) + "]"), Raw('{"a":1,"a":2}'), Raw("[1,]"), Raw("nul"), Raw("'x'"), Raw(""),
)  # fmt: skip
"""What is put in the place of anything."""
WORDS = (
    "nan", "inf", "-inf", "1e999", "9" * 5000, "0x10", "-1", "0", "1_000", "²", "\x00", '"', "'", ",", ";", "\t", "|",
    "x" * 140_000, '"' + "y" * 140_000, "\r", "\n\n", "=", ":", "[" * 2000, "{", "}", "\ufeff", "\ud7ff", "é", "step",
    "loss",     "1/" + "1" * 5000, "100%|", "99:99:99", "1979-05-27", "T07:32:00", '""" ', "#", "--", "\\", "\u2028",
)  # fmt: skip
"""What is put into text."""
TEMPLATES = (
    "{{ 1/0 }}", "{% for i in range(10**9) %}x{% endfor %}", "{{ 'a'*10**10 }}", "{{ 10**5000 }}", "{{", "%}",
    "{{ ('a'*3*10**9)|length }}", "{% break %}", "{% if 1 %}" * 300, "{{ messages }}", "{{ cycler }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ lipsum(n=10**7) }}", "{% include 'x' %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "{% set x = x %}",
    "{{ ''.__class__.__mro__ }}", "{{ messages[0].content | tojson }}", "{{ raise_exception('no') }}",
    "{% generation %}", "{% endgeneration %}", "{{ '\\ud800' }}",
)  # fmt: skip

Mutation = Callable[[bytes, random.Random], bytes]


def mutate(kind: str, seed: bytes, rng: random.Random) -> bytes:
    """A hostile file; one in five by its bytes alone, a few by both."""
    by_structure = STRUCTURES.get(kind)
    if by_structure is None or rng.random() < 0.2:
        return mutate_bytes(seed, rng)
    data = by_structure(seed, rng)
    return mutate_bytes(data, rng) if rng.random() < 0.05 else data


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, bytes cut, doubled, overwritten with extreme numbers; ends as a power cut leaves them."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at, length = rng.randrange(len(out) + 1), rng.choice((1, 1, 2, 4, 8, 100, len(out)))
        match rng.randrange(10):
            case 0 | 1 if out:
                out[at - 1] ^= 1 << rng.randrange(8)
            case 2:
                del out[at:]
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = rng.randbytes(min(length, 1000))
            case 5:
                out[at:at] = out[at : at + length][:100_000]
            case 6:
                number = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1))
                width = rng.choice((1, 2, 4, 8))
                out[at : at + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, rng.choice(("little", "big")))
            case 7:
                out += bytes(rng.choice((1, 100, 5000)))
            case 8:
                out[at:] = bytes(len(out) - at)
            case _:
                out[at:at] = rng.choice(
                    (b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x80", b"\0")
                )
    return bytes(out)


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """One to three values changed, keys dropped, doubled, renamed; lists of another length."""
    tree = parse(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tree = _changed(tree, rng)
    return written(tree).encode("utf-8", "surrogatepass")


def parse(data: bytes) -> Any:
    """JSON as a tree of lists, Pairs and values."""
    return json.loads(data, object_pairs_hook=Pairs)


def written(tree: Any) -> str:
    """A tree as text."""
    if isinstance(tree, Raw):
        return tree.text
    if isinstance(tree, Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {written(value)}" for key, value in tree) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(written, tree)) + "]"
    return json.dumps(tree)


def places(tree: Any) -> list[tuple[Any, int]]:
    """Every (list or Pairs, index) below; those near the root as often as those in long lists."""
    found, level = [], [tree]
    while level:
        below = []
        for node in level:
            if isinstance(node, list) and not isinstance(node, Raw):
                found += [(node, at) for at in (range(len(node)) if len(node) < 50 else (0, 1, len(node) // 2, -1))]
                below += [value[1] if isinstance(node, Pairs) else value for value in node[:200]]
        level = below
    return found


def _changed(tree: Any, rng: random.Random) -> Any:
    spots = places(tree)
    if not spots or rng.random() < 0.02:
        return deepcopy(rng.choice(HOSTILE))
    node, at = rng.choice(spots)
    key, value = node[at] if isinstance(node, Pairs) else (None, node[at])
    match rng.randrange(12):
        case 0:
            del node[at]
        case 1:
            node.insert(at, (key, deepcopy(rng.choice(HOSTILE))) if key is not None else value)
        case 2 if key is not None:
            node[at] = (rng.choice(("", "x", key + "_", key.upper(), "\ud800", "__proto__", "a" * 5000)), value)
        case 3:
            other, there = rng.choice(spots)  # of this file too, but of another place
            found = other[there] if there < len(other) else value
            # a copy: what holds the node itself would have no end
            _put(node, at, deepcopy(found[1] if isinstance(other, Pairs) and isinstance(found, tuple) else found))
        case 4 if isinstance(value, list) and value and not isinstance(value, Raw):
            del value[rng.randrange(len(value)) :]
        case 5 if isinstance(value, list) and value and not isinstance(value, Raw) and len(value) < 2000:
            value *= rng.choice((2, 3, 50))
        case 6 if isinstance(value, list) and not isinstance(value, Raw):
            rng.shuffle(value)
        case 7 if isinstance(value, int | float) and not isinstance(value, bool):
            _put(node, at, rng.choice((-value, value + 1, value - 1, value * 10**6, value * 1.5, str(value), [value])))
        case 8 if isinstance(value, str):
            cut = rng.randrange(len(value) + 1)
            _put(node, at, rng.choice((value[:cut], value * 2, value[:cut] + "\ud800", value.swapcase(), [value])))
        case _:
            _put(node, at, deepcopy(rng.choice(HOSTILE)))
    return tree


def _put(node: Any, at: int, value: Any) -> None:
    if at < len(node):
        node[at] = (node[at][0], value) if isinstance(node, Pairs) else value


def mutate_lines(data: bytes, rng: random.Random) -> bytes:
    """JSON lines: some changed, dropped, doubled, joined, out of order."""
    lines = data.splitlines()
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(lines)) if lines else 0
        match rng.randrange(8):
            case 0:
                del lines[at : at + rng.choice((1, 1, len(lines)))]
            case 1:
                lines[at:at] = lines[at : at + 1] * rng.choice((1, 3))
            case 2 if lines:
                lines[at] = lines[at] + rng.choice(lines)
            case 3:
                lines.insert(at, rng.choice((b"", b"\0" * 100, b"x" * 200_000, b"[1]", b"null", b'"x"', b"\r", b"{")))
            case 4:
                rng.shuffle(lines)
            case _ if lines:
                try:
                    lines[at] = mutate_json(lines[at], rng).replace(b"\n", b" ")
                except (ValueError, RecursionError):  # changed before
                    lines[at] = mutate_bytes(lines[at], rng)
    return rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r")).join(lines) + rng.choice((b"\n", b""))


def mutate_text(data: bytes, rng: random.Random, words: tuple[str, ...] = WORDS) -> bytes:
    """Text: numbers and words exchanged for hostile ones, lines dropped, doubled, ended otherwise."""
    text = data.decode("utf-8", "replace")
    for _ in range(rng.choice((1, 1, 2, 4))):
        found = list(re.finditer(r"[+-]?\d[\d.e+-]*|\w+|[^\w\s]", text[:20_000]))
        spot = rng.choice(found).span() if found else (0, 0)
        match rng.randrange(8):
            case 0:
                text = text[: spot[0]] + text[spot[1] :]
            case 1:
                text = text[: spot[0]] + rng.choice(words) + text[spot[0] :]
            case 2:
                lines = text.splitlines()
                rng.shuffle(lines)
                text = "\n".join(lines[: rng.randrange(len(lines) + 1)])
            case 3:
                text = text.replace("\n", rng.choice(("\r", "\r\n", "\n\n", "\x0b", "\x85")))
            case 4:
                text = text.replace(rng.choice(",;\t |=:\"'"), rng.choice(",;\t |=:\"'"))
            case 5:
                text = text[: rng.randrange(len(text) + 1)]
            case _:
                text = text[: spot[0]] + rng.choice(words) + text[spot[1] :]
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8", "utf-8", "utf-16", "latin-1"))
    return text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")


def mutate_template(data: bytes, rng: random.Random) -> bytes:
    """A chat template with constructs that never end, fill memory or are none."""
    return mutate_text(data, rng, TEMPLATES)


def mutate_safetensors(data: bytes, rng: random.Random) -> bytes:
    """The header, as JSON, with its length in front; the data stays."""
    size = int.from_bytes(data[:8], "little")
    header = mutate_json(data[8 : 8 + size], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def mutate_npy(data: bytes, rng: random.Random) -> bytes:
    """The header, as text, with its length in front."""
    size = int.from_bytes(data[8:10], "little")
    words = ("'O'", "'<f8'", "'|S0'", "'V0'", "'<u2'", "'<i8'", "True", "(2, 3)", "(-1,)", "(9999999999999,)", "()",
             "None", "(1,)", "[('a', '<i4')]", "'<M8[s]'", "9" * 5000, "{}", "(" * 200)  # fmt: skip
    header = mutate_text(data[10 : 10 + size], rng, words)[:60_000]
    return data[:8] + struct.pack("<H", len(header)) + header + data[10 + size :]


def mutate_events(data: bytes, rng: random.Random) -> bytes:
    """TensorBoard: records changed, their checksums made anew, so that what they hold is looked at."""
    import numpy as np

    from llmtool.methods.temporal_scaling.logs.tensorboard import masked_checksums

    def checksum(content: bytes) -> bytes:
        return bytes(masked_checksums(np.frombuffer(content, np.uint8)[None, :]).astype("<u4").tobytes())

    records, place = [], 0
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 8], "little")
        records.append(data[place + 12 : place + 12 + size])
        place += 16 + size
    at = rng.randrange(len(records))
    records[at] = mutate_bytes(records[at], rng)[:10_000] or b"\0"
    out = bytearray()
    for record in records:
        length = len(record).to_bytes(8, "little")
        out += length + checksum(length) + record + checksum(record)
    return bytes(out)


def mutate_message(data: bytes, rng: random.Random) -> bytes:
    """A protocol buffer: fields dropped, doubled, out of order, of other values; what is a message itself is changed
    inside. Lengths are made anew, so that what they hold is looked at."""
    try:
        found = list(_fields(data))
    except IndexError:
        found = []
    if not found:
        return mutate_bytes(data, rng) or b"x"
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(found)) if rng.random() < 0.7 else max(0, len(found) - 1 - rng.randrange(4))
        number, wire, value = found[at]
        match rng.randrange(8):
            case 0:
                del found[at]
            case 1:
                found[at:at] = [found[at]] * rng.choice((1, 1, 1000))
            case 2:
                rng.shuffle(found)
            case 3:
                found[at] = (rng.choice((0, 1, 2, 3, 5, 24, 35, 41, 1 << 28)), wire, value)
            case 4:
                found[at] = (number, rng.randrange(8), value)
            case _ if wire == 0:
                found[at] = (number, 0, varint(rng.choice((0, 1, 2, 3, 4, 5, 6, 1 << 31, (1 << 64) - 1, 1 << 70))))
            case _ if wire == 2 and rng.random() < 0.6:
                found[at] = (number, 2, mutate_message(value, rng))
            case _ if wire == 2:
                text = str(rng.choice(WORDS)).encode("utf-8", "surrogatepass")
                found[at] = (number, 2, rng.choice((text, b"", value * 2, b"ab" * 100_000)))
            case _:
                found[at] = (number, wire, rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff" * 4)))
        if not found:
            break
    return b"".join(varint(number << 3 | wire) + (varint(len(value)) if wire == 2 else b"") + value
                    for number, wire, value in found)  # fmt: skip


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(number, wire type, the bytes of the value); IndexError where they are no message."""
    at = 0
    while at < len(data):
        key, begun = _number_at(data, at)
        size, at = _number_at(data, begun) if key & 7 in (0, 2) else ({1: 8, 5: 4}.get(key & 7, len(data)), begun)
        begun, size = (begun, at - begun) if key & 7 == 0 else (at, size)
        if begun + size > len(data):
            raise IndexError
        yield key >> 3, key & 7, data[begun : begun + size]
        at = begun + size


def _number_at(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def varint(value: int) -> bytes:
    """A number as protocol buffers write it: seven bits a byte, the low ones first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def packed(inner: Mutation, pack: Callable[[bytes], bytes]) -> Mutation:
    """What is packed is changed, or the packed bytes are."""
    return lambda data, rng: pack(inner(data, rng)) if rng.random() < 0.3 else mutate_bytes(pack(data), rng)


def mutate_sealed(data: bytes, rng: random.Random) -> bytes:
    """A training state whose own checksum is right, whatever it says."""
    from llmtool.core.run.seal import sealed

    changed = mutate_json(data, rng)
    try:
        return sealed(json.loads(changed)).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return changed


STRUCTURES: dict[str, Mutation] = {
    "json": mutate_json,
    "jsonl": mutate_lines,
    "text": mutate_text,
    "template": mutate_template,
    "safetensors": mutate_safetensors,
    "npy": mutate_npy,
    "events": mutate_events,
    "sealed": mutate_sealed,
    "message": mutate_message,
    "gzip": packed(mutate_lines, lambda data: gzip.compress(data, mtime=0)),
    "zstd": packed(mutate_lines, zstandard.ZstdCompressor().compress),
}
"""By kind of file; anything else is changed by its bytes."""
