"""`llmtool scaling`: fit.py watches a run, laws.py holds the verbs beside it."""
