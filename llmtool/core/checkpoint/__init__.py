"""Checkpoints as Hugging Face directories of safetensors: read strictly, written as a stream, never executed."""
