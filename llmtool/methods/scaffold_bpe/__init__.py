"""Scaffold-BPE (Lian et al., AAAI 2025, arXiv 2404.17808): tokens that only build others leave the vocabulary."""
