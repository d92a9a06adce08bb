"""What an answer is worth: one file a reward, found by name, and functions of the user's own.

A reward reads an `Attempt` and gives a `Score`. It knows nothing of files or rows; an environment made of rows
brings answers and truths together. Importing this package imports no reward.
"""

from environments.rewards.config import RewardSection, make_reward
from environments.rewards.contracts import NOT_APPLIED, AnswerReward, Attempt, Reward

__all__ = ["NOT_APPLIED", "AnswerReward", "Attempt", "Reward", "RewardSection", "make_reward"]
