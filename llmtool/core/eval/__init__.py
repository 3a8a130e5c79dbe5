"""Measuring models: comparison of two checkpoints on the same tokens."""
