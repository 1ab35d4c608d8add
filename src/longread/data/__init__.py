"""Rows of text, tasks, tokenizers and tokenized splits. Never torch."""
