"""The life of a run: begun, resumed, forked, assembled, stopped, recovered, listed, pruned."""
