"""The referee: checks any environment against its contract and gives advice in words.

`check` is for tests, also those of people who write environments of their own; `examine` tells the facts beside.
"""

from environments.checking.findings import CategoryFacts, Finding, Report
from environments.checking.referee import check, examine

__all__ = ["CategoryFacts", "Finding", "Report", "check", "examine"]
