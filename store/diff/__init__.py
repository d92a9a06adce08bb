"""Two runs side by side: what they were told to do, the first thing in which they differ, and how much after it.

What is compared is what the digests of `store.ledger.digest` cover, in the order in which it happens: a boundary,
the stage after it, then in every step picks, tasks, replies, scores, the bandits' rewards, training metrics. Times
are no difference.
"""

from store.diff.run_diff import Diff, DiffSide, diff
from store.diff.sentences import in_words, value

__all__ = ["Diff", "DiffSide", "diff", "in_words", "value"]
