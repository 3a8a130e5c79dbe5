"""The first half of experts: both grouped products and SwiGLU in one kernel."""
