"""Shapers: advantages to advantages, token by token, before the ratio rule (objectives.md 7, 8, 10)."""
