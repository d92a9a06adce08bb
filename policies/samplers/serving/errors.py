"""What a server may do wrong, as against what we ask wrongly."""

from __future__ import annotations

from policies.errors import PolicyError


class ServerFault(Exception):
    """A server did not answer, or not as it should: another one, or the same a little later, may."""


class RequestRefused(PolicyError):
    """A server will not have a request, and no other would: it is our mistake, or it was not started for training."""
