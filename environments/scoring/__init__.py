"""Isolated scoring: a scorer that hangs, crashes or lies costs one score, never the run.

Scorers read text that an optimiser wrote. Separate processes with limits of time and memory survive what such text
does to them; they are not a security sandbox (a worker has our user's rights): run graders of untrusted code in a
container.
"""

from environments.scoring.jobs import ScoringJob
from environments.scoring.pool import ScoringOptions
from environments.scoring.scorer import Scorer

__all__ = ["Scorer", "ScoringJob", "ScoringOptions"]
