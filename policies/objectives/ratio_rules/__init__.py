"""Ratio rules: how far the policy may have moved before a token stops counting (objectives.md 6)."""
