"""Sequences of small things in one buffer each: a vocabulary of 100,000 tokens without 300,000 objects.

They compare, index and iterate as the lists that they stand for; the engine takes their buffers as they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from operator import eq
from typing import Any, TypeVar, overload

T = TypeVar("T")


class _Packed(Sequence[T]):
    """What the kinds share: equality with any sequence of the same items, slices as lists."""

    def _item(self, place: int) -> T:
        raise NotImplementedError

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self._item(number) for number in range(*place.indices(len(self)))]
        size = len(self)
        if not -size <= place < size:
            raise IndexError(place)
        return self._item(place % size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        raise TypeError(f"unhashable: {type(self).__name__}")

    def __repr__(self) -> str:
        return repr(list(self))


def pack_u32(values: Iterable[int]) -> bytes:
    """Numbers as the engine takes them: native 32-bit words."""
    from array import array

    return array("I", values).tobytes()


def pack_ends(lengths: Iterable[int]) -> bytes:
    """Running sum of lengths as native 64-bit words: the engine's offsets."""
    return pack_u64(accumulate(lengths))


def pack_u64(values: Iterable[int]) -> bytes:
    """Numbers as native 64-bit words."""
    from array import array

    return array("Q", values).tobytes()


class PackedBytes(_Packed[bytes]):
    """Byte strings. data: all of them. ends: u64, where each ends."""

    def __init__(self, data: bytes, ends: bytes) -> None:
        self.data, self.ends = data, ends
        self._ends = memoryview(ends).cast("Q")

    @classmethod
    def of(cls, items: Sequence[bytes]) -> "PackedBytes":
        """The same items in one buffer."""
        return items if isinstance(items, cls) else cls(b"".join(items), pack_ends(map(len, items)))

    def singles(self) -> set[bytes]:
        """The items of one byte, without a look at the others."""
        return {self.data[start:end] for start, end in pairwise([0, *self._ends.tolist()]) if end - start == 1}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.data, self.ends)

    def __len__(self) -> int:
        return len(self._ends)

    def _item(self, place: int) -> bytes:
        return self.data[self._ends[place - 1] if place else 0 : self._ends[place]]

    def __iter__(self) -> Iterator[bytes]:
        data = self.data
        return (data[start:end] for start, end in pairwise([0, *self._ends]))


class PackedTriples(_Packed[tuple[int, int, int]]):
    """Triples of numbers. data: u32, one after another."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._numbers = memoryview(data).cast("I")

    @classmethod
    def of(cls, items: Sequence[tuple[int, int, int]]) -> "PackedTriples":
        """The same items in one buffer."""
        return items if isinstance(items, cls) else cls(pack_u32(chain.from_iterable(items)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.data,)

    def __len__(self) -> int:
        return len(self._numbers) // 3

    def _item(self, place: int) -> tuple[int, int, int]:
        a, b, c = self._numbers[3 * place : 3 * place + 3]
        return a, b, c

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        flat = self._numbers.tolist()
        return iter(zip(flat[::3], flat[1::3], flat[2::3], strict=True))


class PackedIds(_Packed[tuple[int, ...]]):
    """Tuples of numbers, none empty, most of them of one. data: u32, one after another. ends: u64, of each."""

    def __init__(self, data: bytes, ends: bytes) -> None:
        self.data, self.ends = data, ends
        self._numbers, self._ends = memoryview(data).cast("I"), memoryview(ends).cast("Q")

    @classmethod
    def of(cls, items: Sequence[tuple[int, ...]]) -> "PackedIds":
        """The same items in one buffer."""
        if isinstance(items, cls):
            return items
        return cls(pack_u32(chain.from_iterable(items)), pack_ends(map(len, items)))

    @classmethod
    def single(cls, numbers: Sequence[int]) -> "PackedIds":
        """Each number a tuple of its own."""
        return cls(pack_u32(numbers), pack_u64(range(1, len(numbers) + 1)))

    @property
    def are_single(self) -> bool:
        """Whether each tuple is one number."""
        return len(self._numbers) == len(self._ends)

    @property
    def numbers(self) -> list[int]:
        """All of them, one after another."""
        return self._numbers.tolist()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.data, self.ends)

    def __len__(self) -> int:
        return len(self._ends)

    def _item(self, place: int) -> tuple[int, ...]:
        return tuple(self._numbers[self._ends[place - 1] if place else 0 : self._ends[place]])

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        flat = self.numbers
        if self.are_single:
            return iter(zip(flat, strict=True))
        return (tuple(flat[start:end]) for start, end in pairwise([0, *self._ends]))
