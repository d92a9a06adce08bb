"""The referee: checks any environment against its contract and gives advice in words.

`check` is for tests, also those of people who write environments of their own; `examine` tells the facts beside.
"""

from environments.checker.findings import CategoryFacts, CheckReport, Finding
from environments.checker.referee import check, examine

__all__ = ["CategoryFacts", "CheckReport", "Finding", "check", "examine"]
