"""Terms added to the loss: extra coefficients on log-probs or entropies (objectives.md 11)."""
