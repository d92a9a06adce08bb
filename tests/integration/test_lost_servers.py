"""Servers of an environment that are lost while a run goes on: it is set aside, the others are trained on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from environments import EnvironmentFault
from environments.remote import servers as listing
from orchestrator.callbacks import Callback, Watchers
from orchestrator.errors import DONE, RESUMABLE, YOUR_MISTAKE
from orchestrator.progress import Progress
from tests.conftest import Evergreen
from tests.integration.runs import At, Killed, ending, kill, told
from tests.integration.test_quarantine import Played, said
from tests.orchestrator.specs import FAKE, small, written
from tests.shares import slow

PROGRAM = Path(__file__).parents[1] / "environments" / "remote" / "short_pages.py"


class ServerProcess:
    """A server of an environment, with a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.url, self.shut = f"http://127.0.0.1:{self.port}", folder / "no tasks today"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, str(PROGRAM), str(self.port), str(self.shut)])
        for _ in range(600):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("it does not start")

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    monkeypatch.setattr(listing, "PAUSE_S", 0.05)
    monkeypatch.setattr(listing, "MOST_PAUSE_S", 0.05)
    made = ServerProcess(tmp_path)
    yield made
    if made.process.poll() is None:
        made.kill()


def served(server: ServerProcess, name: str = "served", **changes: Any) -> dict[str, Any]:
    """A game in a server, and words in the trainer; three stages of six steps, the first of them the game's."""
    curriculum = {
        "stages": 3,
        "scheduler": {"type": "sequence", "order": ["game", "words", "game"]},
        "bandit": "uniform",
        "stage": {"steps": 6, "replay": 0},
        "quarantine": {"after": 3, "steps": 4},
    }
    game = {"type": "http", "urls": [server.url], "timeout_s": 5, "retry_s": 0.3, "patience_s": 20}
    return small(
        name,
        warm_start=None,
        environments={"game": game, "words": {"type": FAKE, "in_process": True}},
        curriculum={**curriculum, **changes},
        step={"groups": 4, "group_size": 2},
        evaluate={"items": 2, "samples": 4},
        sampler={"max_tokens": 4, "turn_tokens": 2},
    )


def stages(home: Path, name: str = "served") -> list[tuple[str, str, int]]:
    steps = told(home, name)["stages"]
    return [(row["environment"], row["stop_reason"], row["end_step"] - row["start_step"]) for row in steps]


@pytest.mark.parametrize("ahead", [0, slow(1)])
def test_people_are_told_of_a_server_that_keeps_a_run_waiting(
    tmp_path: Path, server: ServerProcess, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    for module in ("environments.futures", "environments.remote.servers", "orchestrator.rollout.episode_stream"):
        monkeypatch.setattr(f"{module}.LONG_S", 0.1)
    heard, threads = list[str](), set[threading.Thread]()

    class Listening(Callback):
        def phase(self, text: str) -> None:
            heard.append(text)
            threads.add(threading.current_thread())

    def begin_anew() -> None:
        server.kill()
        threading.Timer(2, server.start).start()

    spec = served(server, quarantine=None)
    spec["environments"]["game"] |= {"retry_s": 20}
    watcher = Watchers([Listening(), At(2, begin_anew, ["step"])])
    done = orchestrator.run(spec, [f"sampler.ahead={ahead}"], home=tmp_path, watcher=watcher, until_step=4)
    assert done.reason == "--until-step 4"
    waits = [text for text in heard if text.startswith(f"game waits: {server.url} does not answer (")]
    assert len(waits) == 1
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("ahead", [0, slow(1)])
def test_a_server_that_is_killed_is_set_aside_and_the_run_goes_on_with_others(
    tmp_path: Path, server: ServerProcess, ahead: int
) -> None:
    played = Played()
    watcher = Watchers([played, At(2, server.kill, ["step"])])
    done = orchestrator.run(served(server), [f"sampler.ahead={ahead}"], home=tmp_path, watcher=watcher)
    assert done.status == "finished"
    with_game = [step for step, arms in enumerate(played.arms, start=1) if any(arm.startswith("game") for arm in arms)]
    assert with_game == [1, 2, 3][: 2 + ahead], "what was drawn is played, nothing else"
    texts = [text for _, text in said(tmp_path, "served")]
    gives_none = "it gives no tasks (no server: "
    assert texts[0].startswith(f"game goes into quarantine for 4 steps: {gives_none}")
    assert texts[1] == "game is tried again"
    assert texts[2].startswith(f"game goes into quarantine for 8 steps: {gives_none}")
    assert stages(tmp_path)[2] == ("game", "quarantine", 0)
    assert [one[:2] for one in stages(tmp_path)] == [
        ("game", "quarantine"),
        ("words", "budget"),
        ("game", "quarantine"),
    ]


def test_a_server_that_comes_back_is_played_again(tmp_path: Path, server: ServerProcess) -> None:
    played = Played()
    watcher = Watchers([played, At(2, server.kill, ["step"]), At(5, server.start, ["step"])])
    assert orchestrator.run(served(server), home=tmp_path, watcher=watcher).status == "finished"
    assert [any(arm.startswith("game") for arm in arms) for arms in played.arms] == [True] * 2 + [False] * 6 + [
        True
    ] * 6
    assert [text.partition(":")[0] for _, text in said(tmp_path, "served")] == [
        "game goes into quarantine for 4 steps",
        "game is tried again",
    ]


class AtGame(Callback):
    """Kills the server when a stage on its environment begins."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server

    def stage(self, at: Progress) -> None:
        if at.environment == "game" and self.server.process.poll() is None:
            self.server.kill()


@pytest.mark.slow
def test_a_stage_without_a_step_earns_its_scheduler_nothing(tmp_path: Path, server: ServerProcess) -> None:
    spec = served(server, scheduler={"type": "discounted_ucb", "reward": "gain"})
    assert orchestrator.run(spec, home=tmp_path, watcher=AtGame(server)).status == "finished"
    assert ("game", "quarantine", 0) in stages(tmp_path)


@pytest.mark.slow
def test_in_one_batch_with_others_the_step_is_drawn_anew(tmp_path: Path, server: ServerProcess) -> None:
    played = Played()
    spec = served(server, mode="flat", scheduler=None)
    watcher = Watchers([played, At(3, server.kill, ["step"])])
    assert orchestrator.run(spec, home=tmp_path, watcher=watcher).status == "finished"
    assert len(played.arms) == 18
    assert all("words/" in " ".join(arms) for arms in played.arms[3:])
    assert all(text.startswith(("game goes into quarantine", "game is tried")) for _, text in said(tmp_path, "served"))


def test_one_category_without_tasks_is_set_aside_alone_as_its_server_answers(
    tmp_path: Path, server: ServerProcess
) -> None:
    watcher = At(2, server.shut.touch, ["step"])
    assert orchestrator.run(served(server), home=tmp_path, watcher=watcher).status == "finished"
    first = [text for _, text in said(tmp_path, "served")][:3]
    assert sorted(text.partition(" ")[0] for text in first) == ["game/3", "game/4", "game/5"]
    assert all(text.endswith("it gives no tasks (refused: 404 no tasks today)") for text in first)


@pytest.mark.slow
def test_with_nothing_else_to_train_on_tasks_are_waited_for_and_nothing_changes(
    tmp_path: Path, server: ServerProcess
) -> None:
    alone = {"stages": 1, "scheduler": "round_robin"}
    spec = served(server, "whole", **alone)
    del spec["environments"]["words"]
    orchestrator.run(spec, home=tmp_path)

    def restart() -> None:
        server.kill()
        threading.Timer(1.5, server.start).start()

    orchestrator.run(spec | {"name": "served"}, home=tmp_path, watcher=At(2, restart, ["step"]))
    assert ending(tmp_path, "served") == ending(tmp_path, "whole")
    assert said(tmp_path, "served") == []


def test_without_servers_a_resume_ends_resumable_and_a_first_start_as_a_mistake(
    tmp_path: Path, server: ServerProcess, evergreen: Evergreen
) -> None:
    """A scheduler tries the one again, when servers may be up; the other is a wrong URL more likely than not."""
    home, spec = tmp_path / "home", served(server, stages=1)
    assert orchestrator.run(spec, home=home, until_step=1).status == "stopped"
    server.kill()
    result = evergreen("resume", "served", "--home", home)
    assert result.exit_code == RESUMABLE
    assert "no server answers as one of environments" in " ".join(result.stderr.split())
    assert "served is as it was. Go on with: evergreen resume served" in " ".join(result.stderr.split())
    assert evergreen("run", written(tmp_path, spec | {"name": "again"}), "--home", home).exit_code == YOUR_MISTAKE
    server.start()
    assert evergreen("resume", "served", "--home", home).exit_code == DONE


@pytest.mark.slow
def test_after_that_the_run_stops_and_goes_on_when_there_is_a_server(tmp_path: Path, server: ServerProcess) -> None:
    spec = served(server, stages=1, scheduler="round_robin")
    del spec["environments"]["words"]
    spec["environments"]["game"]["patience_s"] = 1
    stopped = orchestrator.run(spec, home=tmp_path, watcher=At(2, server.kill, ["step"]))
    assert stopped.status == "stopped"
    assert "environment game: task " in str(stopped.reason)
    assert "cannot be had of its servers (no server: " in str(stopped.reason)
    with pytest.raises(EnvironmentFault, match="no server answers as one of environments"):
        orchestrator.resume("served", home=tmp_path)
    server.start()
    assert orchestrator.resume("served", home=tmp_path).status == "finished"


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_without_the_same(tmp_path: Path, server: ServerProcess) -> None:
    asked = ["checkpoint.every_steps=1"]
    shut = At(2, server.shut.touch, ["step"])
    orchestrator.run(served(server, "whole"), asked, home=tmp_path, watcher=shut)
    server.shut.unlink()
    watcher = Watchers([At(2, server.shut.touch, ["step"]), At(5, kill, ["step"])])
    with pytest.raises(Killed):
        orchestrator.run(served(server), asked, home=tmp_path, watcher=watcher)
    server.shut.unlink()
    orchestrator.resume("served", home=tmp_path, watcher=At(1, server.shut.touch, ["step"]))
    assert ending(tmp_path, "served") == ending(tmp_path, "whole")
    assert said(tmp_path, "served") == said(tmp_path, "whole") != []
