"""Whole runs on servers, whose episodes go on by themselves: the same digests as turn by turn, whatever servers do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.runs.api import run
from orchestrator.runs.assembly import lay_foundation
from orchestrator.spec import load_spec
from policies.samplers.serving import request_batch
from policies.samplers.vllm_server import VllmServerSampler
from tests.environments.remote.server import Server
from tests.integration.runs import told
from tests.orchestrator.specs import FAKE, Raw, small
from tests.policies.samplers.serving.fakes import FakeServer
from tests.shares import slow


def curriculum(name: str, **sections: Any) -> Raw:
    """Four steps on a book and on talks of three turns."""
    return small(
        name,
        warm_start=None,
        environments={
            "book": {"type": "codebook", "categories": {"2": 2, "4": 4}, "keys": 6},
            "talk": {"type": FAKE, "character": "many_turns", "in_process": True},
        },
        curriculum={"stages": 2, "scheduler": "round_robin", "stage": {"steps": 2, "replay": 0.25}},
        **sections,
    )


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeServer]]:
    """Two that play the policy of these specs, and start with other weights."""
    monkeypatch.setattr(request_batch, "FIRST_PAUSE_S", 0.01)
    made = [FakeServer(policy=lay_foundation(load_spec(curriculum("any", seed=9))).policy) for _ in range(2)]
    yield made
    for server in made:
        server.die()


def on(servers: list[FakeServer]) -> Raw:
    return {"type": "vllm_server", "urls": [server.url for server in servers], "max_tokens": 6, "turn_tokens": 3}


OF_THEIR_OWN = [  # groups, budgets and objectives
    "environments.talk.episodes={group_size: 6, max_tokens: 5, turn_tokens: 2}",
    "environments.book.episodes={group_size: 3}",
    "objective={preset: repo_r, by: {talk: dapo}}",
]


@pytest.mark.parametrize("own", [[], slow(OF_THEIR_OWN)], ids=["alike", "of their own"])
def test_a_run_is_the_same_as_turn_by_turn(
    tmp_path: Path, servers: list[FakeServer], monkeypatch: pytest.MonkeyPatch, own: list[str]
) -> None:
    def play(name: str) -> None:
        done = run(curriculum(name, sampler=on(servers)), home=tmp_path, overrides=own)
        assert done.status == "finished"

    names = ["streams", "together"]
    play("streams")
    if not own:
        servers[0].script.extend(["500", "well", "500"])  # what fails is asked for again, elsewhere
        play("fails")
        names.append("fails")
    with monkeypatch.context() as patch:
        patch.setattr(VllmServerSampler, "stream", lambda self, sampling: None)
        play("together")
    digests = {name: told(tmp_path, name)["digest_all"] for name in names}
    assert len(set(digests.values())) == 1, digests


def test_a_server_of_an_environment_that_has_little_room_changes_nothing(tmp_path: Path) -> None:
    def spec(name: str, sampler: Raw, **options: Any) -> Raw:
        served = {"type": "http", "urls": [game.url], **options}
        talk = {"type": FAKE, "character": "many_turns", "in_process": True}
        return {**curriculum(name, sampler=sampler), "environments": {"game": served, "talk": talk}}

    with Server() as game:
        sampler: Raw = {"type": "transformers", "max_tokens": 6, "turn_tokens": 3}
        player = FakeServer(policy=lay_foundation(load_spec(spec("any", sampler))).policy)
        try:
            assert run(spec("roomy", on([player])), home=tmp_path).status == "finished"
            assert game.most > 1
            game.room, game.most = 1, 0
            narrow = spec("narrow", on([player]), episodes_per_server=1)
            assert run(narrow, home=tmp_path).status == "finished"
        finally:
            player.die()
    assert game.most == 1
    assert told(tmp_path, "narrow")["digest_all"] == told(tmp_path, "roomy")["digest_all"]


@pytest.mark.slow
def test_episodes_of_a_server_that_lost_the_weights_are_played_anew(tmp_path: Path, servers: list[FakeServer]) -> None:
    assert run(curriculum("sound", sampler=on(servers)), home=tmp_path).status == "finished"
    lost = servers[0]

    def forget(number: int) -> None:
        if number == num_before + 40:
            lost.forget()

    num_before = len(lost.bodies)
    lost.before_completion = forget
    assert run(curriculum("forgets", sampler=on(servers)), home=tmp_path).status == "finished"
    assert len(lost.bodies) > num_before + 40
    assert told(tmp_path, "forgets")["digest_all"] == told(tmp_path, "sound")["digest_all"]
