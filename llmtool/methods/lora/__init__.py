"""LoRA (Hu et al., arXiv 2106.09685): a frozen matrix and a trained one of low rank beside it."""
