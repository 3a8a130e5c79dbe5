"""SwiGLU whose blocks of columns are multiplied by weights: the training form of DSMoE."""
