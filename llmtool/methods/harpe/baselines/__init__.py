"""What HARPE is compared with: one set of frequencies for all heads, which stock rope types hold without any code."""
