"""One folder an op: reference.py (torch, literal), triton.py, spec.py (shapes, dtypes, tolerances, FLOPs, bytes)."""
