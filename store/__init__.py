"""What is remembered: the ledger (SQL), checkpoints, carry-over, and the home folder they live in.

Reads and runs without torch, and imports none of the other packages.
"""
