"""What the paper compares with, at equal total and active parameters."""
