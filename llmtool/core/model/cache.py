"""A static key-value cache: memory is taken once, tokens are written in place."""

from collections.abc import Callable, Hashable

import torch


class StaticCache:
    """Room for `capacity` tokens a row; a layer's memory is taken at its first update, in the shape that it brings.

    whole: hand out all `capacity` places rather than those filled. Shapes then never change from step to step, which
    torch.compile and CUDA graphs want, and the mask hides what is not filled.
    """

    def __init__(self, capacity: int, *, whole: bool = False) -> None:
        self.capacity = capacity
        self.whole = whole
        self.length = 0
        self._keys: dict[int, torch.Tensor] = {}
        self._values: dict[int, torch.Tensor] = {}
        self.slots: torch.Tensor | None = None
        """Places [T] that the tokens of this pass are written to; set before each pass where `whole`."""
        self._tables: dict[Hashable, tuple[torch.Tensor, torch.Tensor]] = {}

    def update(
        self, layer: int, keys: torch.Tensor | None, values: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Write [B, heads, T, D] behind what is there; see carry.Cache."""
        held = None if keys is None else self._write(self._keys, layer, keys)
        return held, self._write(self._values, layer, values)

    def _write(self, store: dict[int, torch.Tensor], layer: int, new: torch.Tensor) -> torch.Tensor:
        if layer not in store:
            # Zeros, not empty: a masked NaN would still spoil the weighted sum of values.
            store[layer] = new.new_zeros(new.shape[0], new.shape[1], self.capacity, new.shape[3])
        memory = store[layer]
        if self.whole:
            assert self.slots is not None
            return memory.index_copy_(2, self.slots, new)
        stop = self.length + new.shape[2]
        memory[:, :, self.length : stop] = new
        return memory[:, :, :stop]

    def tables(
        self,
        kind: Hashable,
        tokens: int,
        make: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
        device: torch.device,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotary tables [1, heads, tokens, turned / 2] of the next places, cut from one of all places for each kind.

        Made anew they are an eighth of a decode step of a model of 3 M parameters.
        """
        if kind not in self._tables:
            self._tables[kind] = make(torch.arange(self.capacity, device=device)[None])
        cos, sin = self._tables[kind]
        cut = slice(self.length, self.length + tokens)
        return cos[:, :, cut], sin[:, :, cut]

    def advance(self, tokens: int) -> None:
        """Count the tokens of a pass, after its last layer; with `whole` the caller counts, in `slots`."""
        if not self.whole:
            self.length += tokens

    def pin(self) -> None:
        """Promise torch.compile that the memory stays where it is: CUDA graphs then write to it directly."""
        for memory in (*self._keys.values(), *self._values.values()):
            torch._dynamo.mark_static_address(memory)

    @property
    def bytes(self) -> int:
        """Memory taken."""
        return sum(x.numel() * x.element_size() for store in (self._keys, self._values) for x in store.values())
