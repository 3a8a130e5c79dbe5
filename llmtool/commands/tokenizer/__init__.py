"""`llmtool tokenizer`: what its commands do, for any tokenizer."""
