"""What UniAttn is compared with: the softmax shared without compensation, and keys and values shared across layers."""
