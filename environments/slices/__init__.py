"""Slices: an environment split into categories afterwards, for tasks that came without.

`options.py` is what a spec says, `environment.py` the environment that delegates to another one, `methods.py` which
task is in which slice, `clusters.py` groups of texts or vectors, `slice_file.py` the assignment as a file.
"""
