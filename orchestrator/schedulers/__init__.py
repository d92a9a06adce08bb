"""Schedulers: bandits, or fixed orders, over the environment of the next stage."""
