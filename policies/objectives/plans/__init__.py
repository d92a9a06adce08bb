"""Data plans: how many samples of which tasks, and which groups are kept (objectives.md 14)."""
