"""Controllers: one entropy reading a step moves one coefficient (objectives.md 12)."""
