"""`llmtool bench`, callable from Python: kernels, compile, machine, decode.

The first three need torch, triton and rich only, and run from a source tree.
"""
