"""DSMoE (Lv et al., EMNLP 2025, arXiv 2502.12455): a dense checkpoint becomes a dynamic sparse one."""
