"""Judging models: how far two checkpoints agree."""
