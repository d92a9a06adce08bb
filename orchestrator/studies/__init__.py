"""Studies: many runs over settings and seeds, in parallel processes, resumable, told before they begin.

`study.py` is the file that a newcomer opens first: what a study is, from its file to its runs.
"""
