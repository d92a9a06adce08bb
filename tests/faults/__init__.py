"""Runs broken on purpose, and what is left of them: `python -m tests.faults`, `make faults`."""
