"""Finedeep (Pan et al., arXiv 2502.12928): a dense layer as M x K small experts, all of them run."""
