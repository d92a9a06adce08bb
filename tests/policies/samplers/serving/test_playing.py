"""Batches on servers that play real weights and fail as they are told to: every row once, in order, of our weights."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policies.errors import PolicyError
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Sampling
from policies.samplers.testing import random_policy, same, some_requests
from policies.samplers.transformers import Config as Exact
from policies.samplers.transformers import create as exact
from tests.policies.samplers.serving.fakes import START, FakeServer, Make


def rows(policy: Policy, group_size: int = 4) -> list[Request]:
    """Four groups."""
    return some_requests(policy, group_size, budget=3)


def expected(requests: list[Request]) -> list[Generation]:
    """What the policy itself plays; the fake servers draw as it does."""
    return exact(Exact(), random_policy()).generate(requests, Sampling())


def agree(played: list[Generation], wanted: list[Generation]) -> None:
    assert [g.ids for g in played] == [g.ids for g in wanted]
    assert [g.finish for g in played] == [g.finish for g in wanted]
    for a, b in zip(played, wanted, strict=True):
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


def seeds(servers: list[FakeServer], requests: list[Request]) -> Counter[int]:
    """How often each row was answered well."""
    asked = {request.seed for request in requests}
    return Counter(seed for server in servers for seed in server.played if seed in asked)


def test_a_request_says_everything(make: Make, servers: list[FakeServer]) -> None:
    sampler = make(urls=[servers[0].url])
    (request,) = rows(sampler.policy, 1)[:1]
    sampler.generate([request], Sampling(temperature=0.7, top_p=0.9, top_k=20))
    assert servers[0].bodies[-1] == {
        "prompt": list(request.ids),
        "max_tokens": request.budget,
        "seed": request.seed,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "min_tokens": 0,
        "n": 1,
        "stop_token_ids": list(sampler.policy.stop_ids),
        "ignore_eos": True,
        "add_special_tokens": False,
        "logprobs": 0,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def test_rows_are_spread_and_those_of_a_prompt_stay_together(make: Make, servers: list[FakeServer]) -> None:
    sampler = make()
    requests = rows(sampler.policy)
    agree(sampler.generate(requests, Sampling()), expected(requests))
    prompts = [{tuple(body["prompt"]) for body in server.bodies if body["max_tokens"] > 1} for server in servers]
    assert [len(own) for own in prompts] == [2, 2]
    assert not prompts[0] & prompts[1]
    assert sampler.take_news() == []


@pytest.mark.parametrize(
    "script",
    [
        ["503", "503"],
        ["429", "500"],
        ["reset", "reset"],
        ["short"],
        ["too many"],
        ["cut"],
        ["abort", "error"],
        ["other prompt"],
        ["positive"],
        ["nan"],
        ["no ids", "reset"],
    ],
)
def test_a_row_that_failed_is_asked_for_again_and_comes_once(
    make: Make, servers: list[FakeServer], script: list[str]
) -> None:
    sampler = make(urls=[servers[0].url])
    requests = rows(sampler.policy, 2)
    servers[0].script.extend(script)
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert seeds(servers, requests) == Counter({request.seed: 1 for request in requests})
    (news,) = sampler.take_news()
    assert news.startswith(f"{len(script)} attempt")
    assert servers[0].url in news


def test_a_row_goes_to_another_server_first(make: Make, servers: list[FakeServer]) -> None:
    sampler = make()
    requests = rows(sampler.policy, 1)[:1]
    servers[0].script.extend(["503"] * 3)
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert seeds(servers[1:], requests).total() == 1


def test_what_no_server_would_take_fails_at_once_with_its_words(make: Make, servers: list[FakeServer]) -> None:
    sampler = make(urls=[servers[0].url])
    requests = rows(sampler.policy, 1)
    servers[0].script.append("400")
    with pytest.raises(PolicyError, match=rf"{servers[0].url}/v1/completions answered 400: scripted 400"):
        sampler.generate(requests, Sampling())


@pytest.mark.parametrize("status", ["302", "307"])
def test_a_redirect_is_not_followed(make: Make, servers: list[FakeServer], status: str) -> None:
    sampler = make(urls=[servers[0].url])
    requests = rows(sampler.policy, 1)
    servers[0].script.extend([status] * len(requests))
    servers[0].called.clear()
    with pytest.raises(
        PolicyError, match=rf"/v1/completions redirects \({status}\): name the URL of the server itself"
    ):
        sampler.generate(requests, Sampling())
    assert servers[0].called.count("/health") <= 1, "that of a look before playing"


def test_rows_that_a_server_would_cut_are_refused(make: Make, servers: list[FakeServer]) -> None:
    servers[1].context = 300
    sampler = make()
    assert sampler.context == 300, "so that whoever plays asks for no more"
    assert [news for news in sampler.take_news() if news.startswith("the servers take 300 tokens in a row")]
    (request, *_) = rows(sampler.policy)
    long = Request(request.ids, request.seed, 300)
    with pytest.raises(PolicyError, match=rf"need 3\d\d tokens, {servers[1].url} takes 300: lower max_tokens"):
        sampler.generate([request, long], Sampling())


def test_rows_planned_before_a_server_took_fewer_tokens_are_played_as_far_as_it_takes_them(
    make: Make, servers: list[FakeServer]
) -> None:
    sampler = make(urls=[servers[0].url])
    servers[0].context = 220
    servers[0].restart()
    stream = sampler.stream(Sampling())
    assert sampler.context == 220, "so that the next batch asks for no more"
    cut, lost = Request((5,) * 215, 1, 9), Request((5,) * 220, 2, 9)
    assert [stream.submit(request, number).result(30).finish for number, request in enumerate((cut, lost))] == [
        expected([replace(cut, budget=5)])[0].finish,
        "lost",
    ]
    assert servers[0].bodies[-1]["max_tokens"] == 5
    stream.finish()
    assert sampler.take_news()[-1] == "1 of 2 rows are lost and count as unscorable"


def test_a_server_that_comes_back_in_mid_batch_and_takes_fewer_tokens_is_asked_for_no_more(
    make: Make, servers: list[FakeServer]
) -> None:
    sampler = make(urls=[servers[0].url])
    servers[0].context = 220

    def restart(number: int) -> None:
        if len(servers[0].loaded) == 1:
            servers[0].restart()

    servers[0].before_completion = restart
    request = Request((5,) * 218, 1, 3)
    agree(sampler.generate([request], Sampling()), expected([replace(request, budget=2)]))
    asked = [body["max_tokens"] for body in servers[0].bodies if len(body["prompt"]) == 218]
    assert asked == [3, 2]


def test_a_server_that_takes_no_row_of_the_weight_check_is_left_out(make: Make, servers: list[FakeServer]) -> None:
    servers[1].context = 150
    sampler = make()
    requests = rows(sampler.policy, 2)
    agree(sampler.generate(requests, Sampling()), expected(requests))
    (news,) = [news for news in sampler.take_news() if servers[1].url in news]
    assert "rows of 150 tokens at most, and its weights are checked by rows of 201: start it with a larger" in news


def test_up_to_a_tenth_of_the_rows_may_be_lost(make: Make, servers: list[FakeServer]) -> None:
    sampler = make(urls=[servers[0].url], in_flight=1)
    requests = rows(sampler.policy, 3)
    servers[0].before_completion = lambda number: (
        servers[0].script.append("503") if servers[0].bodies[-1]["seed"] == requests[5].seed else None
    )
    played = sampler.generate(requests, Sampling())
    assert [row for row, g in enumerate(played) if g.finish == "lost"] == [5]
    agree(played[:5] + played[6:], expected(requests[:5] + requests[6:]))
    assert sampler.take_news() == [
        "3 attempts at a row failed, and were made again elsewhere or later. "
        f"{servers[0].url}: /v1/completions answered 503: scripted 503",
        "1 of 12 rows are lost and count as unscorable",
    ]


@pytest.mark.parametrize(("num_episodes", "is_lost"), [(20, True), (8, False)])
def test_what_is_lost_is_judged_by_the_whole_batch_however_few_are_under_way(
    make: Make, servers: list[FakeServer], num_episodes: int, is_lost: bool
) -> None:
    sampler = make(urls=[servers[0].url])
    stream = sampler.stream(Sampling())
    stream.expect(num_episodes)
    servers[0].script.extend(["503"] * 3)
    first, second = rows(sampler.policy)[:2]
    row = stream.submit(first, 0)
    if is_lost:
        assert row.result(30).finish == "lost"
        assert stream.submit(second, 1).result(30).finish != "lost"
        stream.finish()
        assert sampler.take_news()[-1] == "1 of 2 rows are lost and count as unscorable"
    else:
        with pytest.raises(PolicyError, match=r"1 of 8 episodes are lost, each after 3 attempts at a row\. http"):
            row.result(30)


def test_more_than_a_tenth_lost_stops_with_the_server_and_its_last_words(make: Make, servers: list[FakeServer]) -> None:
    sampler = make(urls=[servers[0].url])
    servers[0].script.extend(["503"] * 100)
    with pytest.raises(PolicyError, match=rf"rows are lost.*{servers[0].url}: /v1/completions answered 503"):
        sampler.generate(rows(sampler.policy), Sampling())


def test_a_server_that_dies_in_mid_batch_costs_retries_and_no_row(make: Make, servers: list[FakeServer]) -> None:
    sampler = make()
    requests = rows(sampler.policy)
    servers[0].before_completion = lambda number: servers[0].die() if number == 11 else None
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert "attempts at a row failed" in sampler.take_news()[0]
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert sampler.take_news()[0].startswith(f"{servers[0].url} is left out")


def test_a_server_that_restarts_in_mid_batch_plays_on_only_with_our_weights(
    make: Make, servers: list[FakeServer]
) -> None:
    sampler = make()
    requests = rows(sampler.policy)
    servers[0].before_completion = lambda number: servers[0].restart() if number == 11 else None
    agree(sampler.generate(requests, Sampling()), expected(requests))


def test_answers_of_other_weights_are_discarded_and_the_server_is_brought_up_again(
    make: Make, servers: list[FakeServer]
) -> None:
    """It lost them without failing: only its label tells."""
    sampler = make()
    requests = rows(sampler.policy)
    servers[0].before_completion = lambda number: servers[0].forget() if number == 11 else None
    agree(sampler.generate(requests, Sampling()), expected(requests))
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert len(servers[0].loaded) == 2
    assert f"{servers[0].url}: it held the weights {START} instead of ours" in sampler.take_news()[0]


def test_a_server_that_lags_is_brought_up_before_it_gets_work(make: Make, servers: list[FakeServer]) -> None:
    sampler = make()
    requests = rows(sampler.policy)
    servers[1].restart()
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert servers[1].loaded[0] == servers[1].loaded[1] == servers[1].label
    assert servers[0].loaded == servers[0].loaded[:1]
    assert len(sampler.take_news()) == 1


def test_a_server_that_is_away_is_left_out_and_comes_back(make: Make, servers: list[FakeServer]) -> None:
    sampler = make()
    requests = rows(sampler.policy)
    servers[0].die()
    sampler.sync(1)
    for _ in range(2):
        assert {g.spans[0].version for g in sampler.generate(requests, Sampling())} == {1}
    (news,) = sampler.take_news()
    assert news.startswith(f"{servers[0].url} is left out, and tried again before every batch: /health")
    servers[0].forget()
    servers[0].start()
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert servers[0].label == servers[1].label
    assert seeds(servers[:1], requests).total() == 8
    assert sampler.take_news()[-1] == f"{servers[0].url} is back"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"is_healthy": False}, "/health answered 503"),
        ({"empties_its_cache": False}, "would not empty its prefix cache"),
        (
            {"logprobs_mode": "raw_logprobs"},
            "--logprobs-mode raw_logprobs; restart it with processed_logprobs",
        ),
        ({"logprobs_mode": "raw_logprobs", "tells": False}, "nats from the policy's own"),
        ({"load": lambda folder: None}, "nats from the policy's own.*does not play the weights it was given"),
    ],
)
def test_a_server_that_cannot_be_brought_up_gets_no_work(
    make: Make, servers: list[FakeServer], how: dict[str, object], message: str
) -> None:
    for name, value in how.items():
        setattr(servers[0], name, value)
    sampler = make()
    requests = rows(sampler.policy)
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert seeds(servers[:1], requests).total() == 0
    servers[1].die()
    with pytest.raises(PolicyError, match=message):
        sampler.generate(requests, Sampling())


def test_a_stale_server_is_found_when_the_proof_is_due(make: Make, servers: list[FakeServer]) -> None:
    sampler = make(probe_every=2)
    servers[0].load = lambda folder: None  # says yes, and changes nothing
    policy = sampler.policy
    for version in (1, 2):
        for parameter in policy.model.parameters():
            parameter.data.mul_(1.05)
        sampler.sync(version)
        assert bool(sampler.take_news()) == (version == 2)


def test_weights_reach_the_servers_and_old_directories_go(
    make: Make, servers: list[FakeServer], tmp_path: Path
) -> None:
    sampler = make(weights=tmp_path)
    for version in range(1, 5):
        sampler.sync(version)
        assert all(server.label == server.loaded[-1] for server in servers)
    assert sorted(folder.name for folder in tmp_path.glob("*/*/")) == servers[0].loaded[-2:]
    assert [name.split("-")[0] for name in servers[0].loaded] == ["0", "1", "2", "3", "4"]


def test_a_directory_that_was_spoilt_is_named_to_no_server(
    make: Make, servers: list[FakeServer], tmp_path: Path
) -> None:
    sampler = make(weights=tmp_path)
    (file,) = tmp_path.glob("*/*/*.safetensors")
    file.write_bytes(file.read_bytes()[:-8])
    servers[0].restart()
    with pytest.raises(PolicyError, match="not whole, and are named to no server"):
        sampler.generate(rows(sampler.policy), Sampling())
    assert len(servers[0].loaded) == 1


def test_two_runs_on_one_server_do_not_play_each_others_weights(make: Make, servers: list[FakeServer]) -> None:
    """Versions are equal, labels are not."""
    first, second = make(), make()
    requests = rows(first.policy)
    for parameter in second.policy.model.parameters():
        parameter.data.mul_(1.05)
    second.sync(0)
    other = second.generate(requests, Sampling())
    agree(first.generate(requests, Sampling()), expected(requests))
    assert not all(same(a, b) for a, b in zip(other, expected(requests), strict=True))


def test_a_late_answer_is_asked_for_again(make: Make, servers: list[FakeServer]) -> None:
    sampler = make(timeout_s=1)
    requests = rows(sampler.policy, 1)
    servers[0].before_completion = lambda number: time.sleep(1.5) if number == 9 else None
    agree(sampler.generate(requests, Sampling()), expected(requests))
    assert "no answer to /v1/completions in 1 s" in sampler.take_news()[0]
