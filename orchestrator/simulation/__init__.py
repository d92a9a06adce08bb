"""Worlds without a language model, in which choosers are ranked in seconds."""
