"""Where a run's ledger and its MLflow record are, completed with the passwords that are not kept with a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.errors import UserError
from store.logins import TRACKER_PASSWORD, remember, with_login
from store.secrets import holds_secret, is_url

URLS = {  # the sections that say where, with the key of the URL and the variable that its password may be in
    "ledger": ("url", "EVERGREEN_LEDGER_PASSWORD"),
    "tracker": ("uri", TRACKER_PASSWORD),
}

Sections = Mapping[str, Any]  # of a resolved spec


def completed_url(sections: Sections, place: str, default: str) -> str:
    """Return the URL of a run's ledger or tracker, ready to be used; the home's by default. Raises `SecretError`."""
    section, (key, variable) = sections.get(place) or {}, URLS[place]
    url = section.get(key)
    return with_login(url, section.get("password_file"), variable) if url else default


def kinds_of(tracker: Mapping[str, Any]) -> list[str]:
    """Name who keeps a record of a run, as a spec's section says; a spec of another time names one at most."""
    kinds = [tracker.get("type", "none"), *(tracker.get("also") or ())]
    return [kind for kind in kinds if kind != "none"]


def remember_logins(sections: Sections) -> None:
    """Let this process use the passwords of a spec, also where it reads what was kept of the spec."""
    for section, (key, _) in URLS.items():
        if url := sections[section].get(key):
            remember(url)


def unkept(sections: Sections) -> list[str]:
    """Say which passwords of a spec are not kept with the run, and what later commands need instead."""
    return [
        f"{section}.{key} holds a password, which is not kept with the run: later commands, such as `resume`, take it "
        f"from the environment ({variable}) or from `{section}.password_file`"
        for section, (key, variable) in URLS.items()
        if (url := sections[section].get(key)) and holds_secret(url)
    ]


def refuse_plain_secrets(sections: Sections) -> None:
    """Refuse passwords where they would be kept with the run. Raises UserError."""
    keys = _plain_secrets(sections)
    if keys:
        raise UserError(
            f"{', '.join(keys)}: a URL with a password. What a run is told is kept in its folder and its ledger: give "
            "the URL without the password, and let whoever uses it read that from the environment or a file"
        )


def _plain_secrets(value: Any, key: str = "") -> list[str]:
    """Name the other keys of a spec whose URLs hold a password: all that they say is kept with the run."""
    if isinstance(value, Mapping):
        inner = [(f"{key}.{name}" if key else str(name), one) for name, one in value.items()]
    elif isinstance(value, list):
        inner = [(key, one) for one in value]
    else:
        found = isinstance(value, str) and is_url(value) and holds_secret(value)
        return [key] if found and key not in ("ledger.url", "tracker.uri") else []
    return [found for name, one in inner for found in _plain_secrets(one, name)]
