"""Times as text."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Write a time as people say it: 48 s, 2 min 50 s, 3 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
