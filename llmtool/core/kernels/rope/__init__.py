"""Rotary position embeddings of q and k in one kernel."""
