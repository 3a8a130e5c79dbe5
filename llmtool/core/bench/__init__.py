"""Timers, measured ceilings, the correctness gate, compiler checks and reports of `llmtool bench`."""
