"""What the paper compares CartesianMoE with, at equal total and active parameters, and a control that it lacks."""
