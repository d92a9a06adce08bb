"""Specs, overrides and arguments as nobody would write them, put through the real command line.

`python -m tests.fuzz --cases 10000` counts what is accepted and refused; a traceback, a hang, a message that repeats a
long value or obeys a control character, and a spec that `validate` takes and `run` does not, each fail with the case.
"""
