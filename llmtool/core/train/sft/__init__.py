"""Supervised fine-tuning: rows of data to conversations, those to tokens and labels, packed into rows."""
