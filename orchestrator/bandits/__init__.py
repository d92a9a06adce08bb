"""Bandits over categories: one small file a method, one protocol (`contracts`), one signal (`signal`)."""

from orchestrator.bandits.contracts import Bandit, BanditConfig, Feedback, Pick
from orchestrator.bandits.signal import mean_absolute_advantage

__all__ = ["Bandit", "BanditConfig", "Feedback", "Pick", "mean_absolute_advantage"]
