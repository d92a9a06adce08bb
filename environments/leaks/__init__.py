"""Leaks: held-out tasks that are all but training tasks, over all environments of a spec together.

The split is by content key, so that the same conversation is never on both sides. What differs in white space or
case, in a few words, or in the order of its numbers has another key; and a held-out file is taken as it is given.
`texts` says what of a task is compared, `search` looks through environments.
"""

from environments.leaks.search import Leak, Leaks, TaskPlace, find_leaks

__all__ = ["Leak", "Leaks", "TaskPlace", "find_leaks"]
