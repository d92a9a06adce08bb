"""Reward maps: rewards to rewards, before the estimator (objectives.md 13). The bandit never sees them."""
