"""Servers that come and go: a list in a file, and the addresses of a name."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from policies.errors import PolicyError
from policies.samplers.contracts import Request, Sampling
from policies.samplers.serving.server_list import ServerList, valid
from policies.samplers.vllm_server import Config
from tests.policies.samplers.serving.fakes import FakeServer, Make
from tests.policies.samplers.serving.test_playing import agree, expected, rows, seeds


def write(file: Path, *servers: FakeServer) -> None:
    file.write_text("# who plays\n\n" + "".join(f"{server.url}/  # one\n" for server in servers))


def test_a_server_that_is_listed_later_plays_and_one_that_is_not_any_more_rests(
    make: Make, servers: list[FakeServer], tmp_path: Path
) -> None:
    file = tmp_path / "servers"
    write(file, servers[0])
    sampler = make(urls=["http://127.0.0.1:8321"], urls_file=file)
    requests = rows(sampler.policy)
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert sampler.take_news() == []
    assert seeds(servers[1:], requests).total() == 0

    write(file, *servers)
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert sampler.take_news() == [f"{servers[1].url} is a new server"]
    assert servers[1].label == servers[0].label
    assert seeds(servers[1:], requests).total() == len(requests) / 2

    write(file, servers[1])
    servers[0].die()
    sampler.sync(1)
    assert {one.spans[0].version for one in sampler.generate(requests, Sampling())} == {1}
    assert sampler.take_news() == [f"{servers[0].url} is no server any more"]


def test_a_server_that_comes_and_takes_fewer_tokens_gets_the_shorter_rows(
    make: Make, servers: list[FakeServer], tmp_path: Path
) -> None:
    write(file := tmp_path / "servers", servers[0])
    sampler = make(urls=["http://127.0.0.1:8321"], urls_file=file)
    servers[1].context = 220
    write(file, *servers)
    requests = [Request((5,) * 218, 99, 3), *rows(sampler.policy)]
    stream = sampler.stream(Sampling())
    assert sampler.context == 220, "so that the next batch asks for no more"
    played = [stream.submit(request, number) for number, request in enumerate(requests)]
    agree([row.result(30) for row in played], expected(requests))
    assert sampler.take_news()[-1].startswith("the servers take 220 tokens in a row")
    assert seeds(servers[1:], requests[:1]).total() == 0 < seeds(servers[1:], requests).total()


@pytest.mark.parametrize(
    ("text", "says"),
    [("# nobody\n", "lists no server"), ("10.0.0.1:8000\n", "not '10.0.0.1:8000'"), (None, "cannot be read")],
)
def test_a_list_that_says_nothing_is_told_once_and_the_servers_stay(
    make: Make, servers: list[FakeServer], tmp_path: Path, text: str | None, says: str
) -> None:
    file = tmp_path / "servers"
    write(file, *servers)
    sampler = make(urls=["http://127.0.0.1:8321"], urls_file=file)
    requests = rows(sampler.policy)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    for _ in range(2):
        agree(sampler.generate(requests, Sampling()), expected(requests))
    (news,) = sampler.take_news()
    assert says in news
    assert news.endswith("; the servers stay those there were")
    write(file, *servers)
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert sampler.take_news() == []


def test_a_run_does_not_begin_with_a_list_that_says_nothing(make: Make, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"sampler\.urls_file: .* cannot be read"):
        make(urls=["http://127.0.0.1:8321"], urls_file=tmp_path / "servers")


def test_each_address_of_a_name_is_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(host: str, port: int, **options: Any) -> list[Any]:
        assert (host, port) == ("players", 8000)
        found = [("10.0.0.12", port), ("fd00::1", port, 0, 0), ("10.0.0.3", port), ("10.0.0.3", port)]
        return [(0, 0, 0, "", place) for place in found]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    servers = ServerList(["http://players:8000"], None, every_address=True).read()
    assert servers == ["http://10.0.0.3:8000", "http://10.0.0.12:8000", "http://[fd00::1]:8000"]


def test_names_that_share_an_address_are_one_server() -> None:
    urls = ["http://127.0.0.1:8000", "http://localhost:8000"]
    assert ServerList(urls, None, every_address=True).read().count(urls[0]) == 1


def test_certificates_are_not_for_addresses(tmp_path: Path) -> None:
    (tmp_path / "servers").write_text("https://127.0.0.1:8000\n")
    with pytest.raises(PolicyError, match="take http"):
        ServerList([], tmp_path / "servers", every_address=True).read()


@pytest.mark.parametrize(
    "url", ["http://a:99999", "http://[::1", "http://:80", "a:80", "http://gpu..cluster", f"http://{64 * 'a'}"]
)
def test_what_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="a server is named like"):
        valid([url])


@pytest.mark.parametrize(
    ("url", "again"),
    [
        ("http://a:1", "http://a:1"),
        ("http://a:1", "http://a:1/"),
        ("http://A:1", "http://a:1"),
        ("http://a", "http://a:80"),
        ("http://localhost:1", "http://127.0.0.1:1/"),
    ],
)
def test_a_server_that_is_listed_twice_is_refused_however_it_is_written(url: str, again: str) -> None:
    with pytest.raises(ValueError, match=r"listed twice: http"):
        valid([url, "http://b:1", again])


def test_servers_behind_one_host_are_several() -> None:
    urls = ["http://a:1", "http://a:2", "http://a:1/two/", "https://a"]
    assert valid(urls) == ["http://a:1", "http://a:2", "http://a:1/two", "https://a"]
    assert Config(urls=["http://a:1/"]).urls == ["http://a:1"]


def test_a_name_without_an_address_is_told() -> None:
    with pytest.raises(PolicyError, match=r"nowhere\.invalid of .* has no address now"):
        ServerList(["http://nowhere.invalid:8000"], None, every_address=True).read()
