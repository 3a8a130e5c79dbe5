"""NExtLong (Gao et al., ICML 2025, arXiv 2501.12766): long training samples out of short documents."""
