"""What `llmtool generate` stands on: conversations as prompts, ids as text."""
