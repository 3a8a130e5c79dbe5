"""What else turns q and k, called as the reference is."""

import torch


def liger_rope(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Liger-Kernel: one set of tables, [1 or B, T, D] with the halves repeated; it turns in place, hence the copies."""
    from liger_kernel.ops.rope import LigerRopeFunction

    if cos.shape[1] > 1:
        raise ValueError("Liger-Kernel has no tables of several heads")
    doubled = [torch.cat((table[:, 0], table[:, 0]), -1) for table in (cos, sin)]
    turned: tuple[torch.Tensor, torch.Tensor] = LigerRopeFunction.apply(q.clone(), k.clone(), *doubled)
    return turned
