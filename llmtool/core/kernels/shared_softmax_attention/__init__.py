"""P V for one decoded token: probabilities that the layers of a group share, times each layer's cached values."""
