"""MaskMoE (Su et al., arXiv 2407.09816): each vocabulary item sees only some experts."""
