"""One folder per paper; siblings never import each other."""
