"""DSMoE's feed-forward layer at inference: blocks that no gate opens are not computed."""
