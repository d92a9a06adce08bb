"""What must not leave the machine with a record or a report: who may log in where."""

from __future__ import annotations

import re

_LOGIN = re.compile(r"://[^/@\s]*@")  # user and password, or a bare token


def without_logins(text: str) -> str:
    """Hide what stands before the host in the URLs of a text."""
    return _LOGIN.sub("://***@", text)
