"""`llmtool generate`: prompts, conversations and rows of files, continued by a checkpoint."""

from llmtool.commands.generate.texts import generate_texts as generate_texts
