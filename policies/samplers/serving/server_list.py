"""Which servers there are: as listed, by a file, or by the addresses of a host's name. Read again before each batch."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from policies.errors import PolicyError

SCHEMES = ("http://", "https://")
EXAMPLE = "http://127.0.0.1:8321"


def valid(urls: Sequence[str]) -> list[str]:
    """Give URLs without slashes at their ends. Raises ValueError: one is no URL of a server, or is there twice."""
    seen = dict[tuple[object, ...], str]()
    for url in urls:
        if not url.startswith(SCHEMES) or not has_host_and_port(url):
            raise ValueError(f"a server is named like {EXAMPLE}, not {url!r}")
        place = _place(url)
        if place in seen:
            raise ValueError(f"a server is listed twice: {seen[place]} and {url}")
        seen[place] = url
    return [url.rstrip("/") for url in urls]


def _place(url: str) -> tuple[object, ...]:
    """Say where a server is, however its URL is written."""
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return host, parts.port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/")


def has_host_and_port(url: str) -> bool:
    """Whether a server's URL names a host, and no port that cannot be."""
    try:
        parts = urlsplit(url)
        return bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:  # brackets that do not close, a port beyond 65535, two dots in a row, a label of 64 characters
        return False


class ServerList:
    """The servers' URLs, in order; `every_address`: a host's name stands for all of its addresses, a server each."""

    def __init__(self, urls: Sequence[str], file: Path | None, every_address: bool) -> None:
        self._urls, self._file, self._every_address = urls, file, every_address

    def read(self) -> list[str]:
        """Look them up. Raises PolicyError: a list that cannot be read, is empty, or names what is no server."""
        urls = self._urls if self._file is None else self._listed(self._file)
        if not self._every_address:
            return list(urls)
        return list(dict.fromkeys(one for url in urls for one in _by_address(url)))  # two names may share an address

    def _listed(self, file: Path) -> list[str]:
        try:
            lines = [line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError(f"sampler.urls_file: {file} cannot be read ({error})") from error
        try:
            urls = valid([line for line in lines if line])
        except ValueError as error:
            raise PolicyError(f"sampler.urls_file: {file}: {error}") from error
        if not urls:
            raise PolicyError(f"sampler.urls_file: {file} lists no server: write a URL like {EXAMPLE} into each line")
        return urls


def _by_address(url: str) -> list[str]:
    """Name a server by each of the addresses of its host."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        raise PolicyError(f"sampler.every_address: {url}: certificates do not hold for addresses: take http")
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise PolicyError(f"sampler: {parts.hostname} of {url} has no address now ({error})") from error
    addresses = sorted({str(place[0]) for *_, place in found}, key=lambda one: (":" in one, ipaddress.ip_address(one)))
    port = "" if parts.port is None else f":{parts.port}"
    names = [f"[{one}]" if ":" in one else one for one in addresses]
    return [f"{parts.scheme}://{name}{port}{parts.path}" for name in names]
