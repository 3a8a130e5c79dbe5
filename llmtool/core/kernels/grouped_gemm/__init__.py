"""Matrix products of groups of rows, each with its own matrix: the work of experts."""
