"""The output layer and its cross-entropy, without all logits at once."""
