"""Advantage estimators: rewards of a step, by group, to one advantage a sequence (objectives.md 4)."""
