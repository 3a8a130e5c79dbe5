"""Which earlier tokens a token sees: causal order, sliding window, padding, documents of a packed row."""

import torch


def visible(
    slots: torch.Tensor,
    keys: int,
    *,
    window: int | None = None,
    padding: torch.Tensor | None = None,
    documents: torch.Tensor | None = None,
    plain: bool = False,
) -> torch.Tensor | None:
    """Mask [1 or B, 1, T, keys], True where seen; None where the kernel's own causal order says it all.

    slots [T]: places of the tokens among the keys. padding [B, keys]: True for real tokens. documents [B, keys].
    plain: the tokens are the last T of the keys, and either all of them or a single one.
    """
    if plain and padding is None and documents is None and (window is None or keys <= window):
        return None
    places = torch.arange(keys, device=slots.device)
    behind = slots[:, None] - places
    seen = behind >= 0
    if window is not None:
        seen = seen & (behind < window)
    seen = seen[None]
    if padding is not None:
        seen = seen & padding[:, None, :]
    if documents is not None:
        seen = seen & (documents[:, slots, None] == documents[:, None, :])
    # A padded token sees itself: a row without any key would be NaN.
    return (seen | (behind == 0))[:, None]


def positions_of_padded(padding: torch.Tensor) -> torch.Tensor:
    """Positions [B, S] that count real tokens only; padding stands at 0."""
    return (padding.long().cumsum(-1) - 1).clamp(min=0)


def positions_of_documents(documents: torch.Tensor) -> torch.Tensor:
    """Positions [B, T] that start anew where the document number changes."""
    places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return places - torch.where(starts, places, 0).cummax(-1).values
