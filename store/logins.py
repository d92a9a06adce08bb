"""Where the password of a database or a server comes from: its URL, a file, the environment, or the driver's own ways.

A URL that holds a password works in the process that was given it. What is kept with a run has `***` there, so later
processes take the password from elsewhere.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

from store.errors import SecretError
from store.secrets import HIDDEN, holds_secret, without_passwords

TRACKER_PASSWORD = "EVERGREEN_TRACKER_PASSWORD"  # a variable
ON_RAY = "(for runs on Ray: on every node, where `ray start` is given)"  # there a variable has to be set

_given: dict[str, str] = {}  # URLs that this process was given, by what is kept of them


def remember(url: str) -> None:
    """Let this process use a URL that holds a password, also where it reads only what was kept of it."""
    if holds_secret(url):
        _given[without_passwords(url)] = url


def with_login(url: str, password_file: str | None, variable: str) -> str:
    """Complete a URL: from a file that holds the password and no more, else from the environment, else as given.

    Where none of them knows it, PostgreSQL's library and MLflow's client are left to their own variables and files.
    Raises `SecretError`.
    """
    scheme, _, rest = url.partition("://")
    # a database's server, or a server of HTTP and who logs in there
    takes_one = "@" in rest if scheme.startswith("http") else bool(rest) and not scheme.startswith("sqlite")
    if holds_secret(url) or not (HIDDEN in url or takes_one):
        return url
    password = _read(password_file) if password_file else os.environ.get(variable)
    if password:
        return _with_password(url, password)
    if HIDDEN not in url:
        return url
    if url in _given:
        return _given[url]
    if not scheme.startswith(("postgresql", "http")):
        raise SecretError(
            f"The password of {url} is not kept with the run. Set {variable} to it {ON_RAY}, or name a file that "
            "holds it as `password_file` in the spec of the next run."
        )
    return _without_password(url)


def _read(file: str) -> str:
    try:
        password = Path(file).expanduser().read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as failed:
        raise SecretError(f"The password_file {file} cannot be read: {failed}.") from failed
    if not password:
        raise SecretError(f"The password_file {file} is empty; it holds the password and no more.")
    return password


def _with_password(url: str, password: str) -> str:
    secret = quote(password, safe="")
    if HIDDEN in url:
        return url.replace(HIDDEN, secret)
    scheme, _, rest = url.partition("://")
    user, _, place = rest.partition("@") if "@" in rest.partition("?")[0] else ("", "", rest)
    return f"{scheme}://{user}:{secret}@{place}"


def _without_password(url: str) -> str:
    """Take out the places of secrets; of a server's URL all of the login, which its client then fills in."""
    hidden = re.escape(HIDDEN)
    login = rf"[^/@]*{hidden}" if url.startswith("http") else hidden
    url = re.sub(rf"://{login}@", "://", url)
    url = re.sub(rf":{hidden}@", "@", url)
    place, mark, options = url.partition("?")
    left = [option for option in options.split("&") if not option.endswith(f"={HIDDEN}")]
    return f"{place}{mark if left else ''}{'&'.join(left)}"
