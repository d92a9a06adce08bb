"""What goes wrong, addressed to a person, with the exit code that says whose mistake it is."""

from __future__ import annotations

from store.secrets import without_logins

DIVERGED = "the policy diverged at step"  # how the reason of such a stop begins
STOPPED_BY_GUARD = "a guard stopped it"  # likewise
DONE, OUR_FAULT, YOUR_MISTAKE, RESUMABLE, KILLED = 0, 1, 2, 75, 130


class EvergreenError(Exception):
    """An error with a message for a person: what was expected, what was found, what to do; without logins."""

    exit_code = OUR_FAULT

    def __init__(self, message: str = "") -> None:
        super().__init__(without_logins(message))


class UserError(EvergreenError):
    """The user can mend it: a wrong key, a missing file, an unknown run."""

    exit_code = YOUR_MISTAKE


class StoppedEarly(EvergreenError):
    """The run was asked to stop before its first step; there is nothing to save yet."""


class SpecError(UserError):
    """The spec cannot work; the message names key, line and remedy."""
