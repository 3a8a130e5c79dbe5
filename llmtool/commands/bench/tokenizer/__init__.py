"""`llmtool bench tokenizer`: our tokenizers beside the fastest there are, on one machine in one run.

Every measurement is a fresh process ("cold": caches empty), contenders take turns, and the median is shown. What a
contender returns is hashed, and no ratio is given for one whose ids (or merges) are not ours. The corpus should be
large and diverse: a small or repeated text flatters caches.
"""
