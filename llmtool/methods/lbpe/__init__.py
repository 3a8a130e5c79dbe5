"""LBPE (Lian et al., arXiv 2411.05504): the longest token first."""
