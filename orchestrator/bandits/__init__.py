"""Bandits over categories: one small file a method, one protocol (`contracts`), one signal (`signal`)."""

from orchestrator.bandits.contracts import ArmInfo, Bandit, BanditConfig, Feedback, Pick, StepFeedback
from orchestrator.bandits.signal import mean_absolute_advantage

__all__ = ["ArmInfo", "Bandit", "BanditConfig", "Feedback", "Pick", "StepFeedback", "mean_absolute_advantage"]
