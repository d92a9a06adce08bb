"""Checks of any environment against its contract: findings with remedies, for tests and for `check-env`."""

from environments.checker.checker import check, examine
from environments.checker.findings import CategoryFacts, CheckReport, Finding

__all__ = ["CategoryFacts", "CheckReport", "Finding", "check", "examine"]
