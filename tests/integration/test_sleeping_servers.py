"""Whole runs on servers that sleep while the learner has their GPU, stand-ins of servers that play real weights."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from orchestrator.curriculum import Curriculum
from orchestrator.measurements.gradient_reading import Gradients
from orchestrator.measurements.network_reading import Network
from orchestrator.measurements.trainability import Probe
from orchestrator.runs.api import resume, run
from orchestrator.runs.assembly import lay_foundation
from orchestrator.spec import load_spec
from policies import learner
from policies.learner import Learner
from tests.integration.forked_followers import forked_followers
from tests.integration.processes import Process
from tests.integration.runs import told
from tests.orchestrator.specs import FAKE, Raw, small
from tests.policies.samplers.serving.fakes import FakeServer
from tests.shares import slow


def curriculum(name: str, **sections: Any) -> Raw:
    """Four steps on a book and on noise, whose scores always differ."""
    return small(
        name,
        warm_start=None,
        environments={
            "book": {"type": "codebook", "categories": {"2": 2, "4": 4}, "keys": 6},
            "noise": {"type": FAKE, "character": "noisy", "in_process": True},
        },
        curriculum={"stages": 2, "scheduler": "round_robin", "stage": {"steps": 2, "replay": 0.25}},
        checkpoint={"every_steps": 1},
        **sections,
    )


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """One that plays the policy of these specs, and starts with other weights."""
    made = FakeServer(policy=lay_foundation(load_spec(curriculum("any", seed=9))).policy)
    made.can_sleep = True
    yield made
    made.die()


def on(server: FakeServer, level: int | None) -> Raw:
    return {"type": "vllm_server", "urls": [server.url], "max_tokens": 3, "sleep_level": level}


@pytest.mark.slow
def test_it_sleeps_whenever_the_learner_computes_and_plays_the_same(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep: dict[str, list[bool]] = {}

    def noting(kind: type, name: str) -> None:
        call: Callable[..., Any] = getattr(kind, name)

        def noted(*args: Any, **named: Any) -> Any:
            asleep.setdefault(kind.__name__, []).append(server.is_asleep)
            return call(*args, **named)

        monkeypatch.setattr(kind, name, noted)

    for kind, name in ((Learner, "learn"), (Network, "_read"), (Gradients, "_gradient"), (Probe, "_trained")):
        noting(kind, name)
    sizes = {"steps": 2, "eval_every": 1, "seeds": 1, "batch": 2, "items": 2, "length": 8}
    probe = {"type": "probe", "kind": "supervised", **sizes}
    looks = {"share": 100, "of": ["network", "gradients", probe]}
    assert run(curriculum("sleeps", sampler=on(server, 2), measure=looks), home=tmp_path).status == "finished"
    assert server.is_asleep, "its GPU is free when the run has ended"
    assert set(asleep) == {"Learner", "Network", "Gradients", "Probe"}
    assert all(all(noted) for noted in asleep.values()), asleep
    assert len(asleep["Learner"]) == 4
    assert run(curriculum("awake", sampler=on(server, None), measure=looks), home=tmp_path).status == "finished"
    assert told(tmp_path, "sleeps")["digest_all"] == told(tmp_path, "awake")["digest_all"]
    assert not told_of_servers(tmp_path, "sleeps")


def note_freeing(url: str, note: Path) -> None:
    """Have this process note what a server says of its sleep whenever memory of the GPU is given back."""

    def noting() -> None:
        with urlopen(f"{url}/is_sleeping") as answer:
            is_asleep = json.load(answer)["is_sleeping"]
        with note.open("a") as file:
            print("asleep" if is_asleep else "awake", file=file)

    learner.free_cached_memory = noting


@pytest.mark.slow
def test_other_ranks_give_their_gpus_memory_back_before_servers_wake(tmp_path: Path, server: FakeServer) -> None:
    given, note = curriculum("ranks", sampler=on(server, 2)), tmp_path / "note"
    with forked_followers(partial(note_freeing, server.url, note)):
        assert run(given, home=tmp_path, overrides=["resources.ranks=2"]).status == "finished"
    assert server.is_asleep
    freed = note.read_text().split()
    assert freed.count("asleep") >= 4, "before what is played after each update"
    assert server.called.count("/wake_up") == freed.count("asleep")
    assert not told_of_servers(tmp_path, "ranks")


def told_of_servers(home: Path, name: str) -> list[str]:
    """What its events say of servers."""
    return [event["text"] for event in told(home, name)["events"] if "http://" in event["text"]]


def hang_in_an_update(spec: Raw, home: Path, sign: Path) -> None:
    """Run a spec in this process, up to the third update, which never ends."""
    update = Curriculum.update

    def updated(self: Curriculum, *args: Any) -> Any:
        if self.at.step < 3:
            return update(self, *args)
        self.parts.sampler.make_room()
        sign.touch()
        time.sleep(3600)

    Curriculum.update = updated  # type: ignore[method-assign]
    run(spec, home=home)


@pytest.mark.parametrize("level", [slow(1), 2])
def test_killed_while_servers_sleep_a_run_goes_on_as_if_nothing_had_been(
    tmp_path: Path, server: FakeServer, level: int
) -> None:
    spec, sign = curriculum("killed", sampler=on(server, level)), tmp_path / "sign"
    process = Process(tmp_path, spec, tmp_path, sign, call=hang_in_an_update)
    while not sign.exists():
        assert process.is_going(), process.end()
        time.sleep(0.05)
    process.signal(signal.SIGKILL)
    assert process.end()[0] == -signal.SIGKILL
    assert server.is_asleep
    assert resume("killed", home=tmp_path).status == "finished"
    assert run({**spec, "name": "undisturbed"}, home=tmp_path).status == "finished"
    assert told(tmp_path, "killed")["digest"] == told(tmp_path, "undisturbed")["digest"]
