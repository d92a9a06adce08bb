"""Bandits over categories: one small file a method, one protocol (`contracts`), one signal (`signal`)."""

from orchestrator.bandits.contracts import About, Bandit, BanditConfig, Feedback, Pick, Seen
from orchestrator.bandits.signal import mean_absolute_advantage

__all__ = ["About", "Bandit", "BanditConfig", "Feedback", "Pick", "Seen", "mean_absolute_advantage"]
