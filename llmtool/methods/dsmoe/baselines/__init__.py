"""What DSMoE is compared with, converted, trained and loaded in the same way."""
