"""`llmtool eval`: loss, needles in haystacks, what layers and experts do."""
