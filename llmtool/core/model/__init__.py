"""One decoder for many families, its parts, its cache; what runs a model and what carries it elsewhere."""
