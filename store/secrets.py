"""What must not leave a process: passwords, tokens and logins inside URLs, hidden in everything that is printed.

It hides too much rather than too little. A password may hold any character, raw or percent-encoded, so a login ends
at the last @ that can end one. Where passwords come from is in `store.logins`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,40}://[^\s\"'<>`]*")
_PORT = re.compile(r"[^:/]*:\d{1,5}(/|$)")  # a host and its port, then a path
_OPTIONS = re.compile(r"[\w.-]+=")
_OPTION = re.compile(r"(^|[&;])([^=&;]*)=([^&]*)")
_SECRET = re.compile(
    r"pass(word|wd|phrase)$|pwd|token|secret|credential|signature|^sig$|^(auth|key)$"
    r"|(api|access|account)[-_]?key|odbc_connect",
    re.IGNORECASE,
)
# libpq and others also write `host=h password='a b'`
_KEYWORD = re.compile(
    r"(?<![\w-])((?:\w*_)?(?:ssl)?(?:password|passwd|pwd)\s*=\s*)('(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^\s&,;'\")\]}]+)",
    re.IGNORECASE,
)


def without_logins(text: str) -> str:
    """Hide the users, passwords and tokens in the URLs of a text."""
    if "://" in text:
        text = _URL.sub(lambda url: _hide(url[0], keep_user=False), text)
    return _KEYWORD.sub(rf"\1{HIDDEN}", text) if "=" in text else text


def url_without_logins(value: str) -> str:
    """Hide them in a value that may be a URL: it is one to its end then, whatever characters it has."""
    return without_logins(_hide(value, keep_user=False) if is_url(value) else value)


def values_without_logins(data: Any) -> Any:
    """Hide them in plain data, value by value."""
    if isinstance(data, Mapping):
        return {key: values_without_logins(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [values_without_logins(value) for value in data]
    return url_without_logins(data) if isinstance(data, str) else data


def without_passwords(url: str) -> str:
    """Hide a URL's password, tokens and secret options, but not its user: what may be kept with a run."""
    return _hide(url, keep_user=True) if is_url(url) else url


def is_url(text: str) -> bool:
    """Whether a text is a single URL."""
    return _URL.match(text) is not None and text.count("://") == 1


def holds_secret(url: str) -> bool:
    """Whether a URL holds a password or a token, and not only the place of one."""
    return HIDDEN not in url and without_passwords(url) != url


def _hide(url: str, keep_user: bool) -> str:
    scheme, _, rest = url.partition("://")
    end = _end_of_login(scheme, rest, whole_password=not keep_user)
    login, place = rest[: max(end, 0)], rest[end + 1 :]
    place, mark, options = place.partition("?")
    options = _OPTION.sub(
        lambda found: f"{found[1]}{found[2]}={HIDDEN if _SECRET.search(found[2]) else found[3]}", options
    )
    if end >= 0:
        user, colon, _ = login.partition(":")
        shown = f"{user}:{HIDDEN}" if colon else HIDDEN if scheme.startswith("http") else user
        place = f"{shown if keep_user else HIDDEN}@{place}"  # an HTTP server's lone user is a token
    return f"{scheme}://{place}{mark}{options}"


def _end_of_login(scheme: str, rest: str, whole_password: bool) -> int:
    """Find the @ that ends a login; -1: there is none.

    An HTTP client ends it before the path, whatever the password was meant to be; `whole_password` does not.
    """
    head, _, options = rest.partition("?")
    authority = rest.partition("/")[0]
    if scheme.startswith("http") and not whole_password and "@" in authority:
        return authority.rindex("@")
    if "@" not in head:  # in what follows it may stand as well, unless that is a query
        return -1 if _OPTIONS.match(options) else rest.rfind("@")
    is_path = "/" in head[: head.rindex("@")] and ":" not in authority and "@" not in authority
    has_port = scheme.startswith("http") and "@" not in authority and _PORT.match(rest) is not None
    return -1 if is_path or has_port else head.rindex("@")
