"""Quarantine: categories and environments that cannot be scored are set aside and tried again; what can be goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.callbacks import Callback, Watchers
from orchestrator.choosing.quarantine import Quarantine
from orchestrator.progress import Progress
from orchestrator.runs.catalog import opened
from orchestrator.spec.sections import Quarantine as QuarantineSection
from store.records import StepRecord
from tests.integration.patchy import Patchy
from tests.integration.runs import At, Killed, ending, kill, told
from tests.orchestrator.rollout.episodes import earning
from tests.orchestrator.specs import small
from tests.shares import share
from tests.source_lines import place

HERE = "tests.integration.patchy:create"
STEPS = 24


class Played(Callback):
    """Which arms each step played, as environment/category."""

    def __init__(self) -> None:
        self.arms: list[set[str]] = []

    def step(self, at: Progress, record: StepRecord) -> None:
        picks = [pick for pick in record.picks if pick.level in ("category", "flat")]
        self.arms.append({f"{pick.environment}/{pick.arm.removeprefix(pick.environment + '/')}" for pick in picks})


def patchy(path: Path, *broken: str, name: str = "patchy", **changes: Any) -> dict[str, Any]:
    """Two environments of two categories each, whose answers can be scored but for those that the file names."""
    path.write_text(" ".join(broken))
    environment = {"type": HERE, "path": str(path)}
    curriculum = {
        "stages": 3,
        "scheduler": "round_robin",
        "bandit": "uniform",
        "stage": {"steps": 8, "replay": 0},
        "quarantine": {"after": 2, "steps": 6},
    }
    return small(
        name,
        warm_start=None,
        environments={"one": environment, "two": environment},
        curriculum={**curriculum, **changes},
        step={"groups": 8, "group_size": 2},
        evaluate={"items": 1, "samples": 4},
    )


def picked(home: Path, name: str = "patchy") -> list[str]:
    with opened(home, name) as (_, ledger):
        return [pick.arm for pick in ledger.reading.picks(name) if pick.level == "category"]


def said(home: Path, name: str = "patchy") -> list[tuple[int, str]]:
    return [(event["step"], event["text"]) for event in told(home, name)["events"] if event["kind"] == "quarantine"]


def test_a_category_that_cannot_be_scored_is_set_aside_tried_again_and_set_aside_for_twice_as_long(
    tmp_path: Path,
) -> None:
    played = Played()
    spec = patchy(tmp_path / "broken", "one/hard", stages=1, stage={"steps": STEPS, "replay": 0})
    orchestrator.run(spec, home=tmp_path, watcher=played)
    of_arms = Counter(arm.removeprefix("one/") for arm in picked(tmp_path))
    assert {
        arm["arm"]: arm["num_picks"] for arm in told(tmp_path, "patchy")["arms"] if arm["bandit"] == "one"
    } == of_arms
    tries = [step for step, arms in enumerate(played.arms, start=1) if "one/hard" in arms]
    assert tries == [1, 2, 9, 22], "two steps, six without it, one, twelve without it, one"
    assert all("one/easy" in arms for arms in played.arms)
    assert [text for _, text in said(tmp_path)][:3] == [
        "one/hard goes into quarantine for 6 steps: no sample of its last 2 steps could be scored (raised "
        f"RuntimeError: the judge is away{place(Patchy.score)})",
        "one/hard is tried again",
        "one/hard goes into quarantine for 12 steps: no sample of its last step could be scored (raised "
        f"RuntimeError: the judge is away{place(Patchy.score)})",
    ]
    assert [step for step, _ in said(tmp_path)] == [2, 8, 9, 21, 22]


def test_what_can_be_scored_again_is_played_as_ever(tmp_path: Path) -> None:
    file, played = tmp_path / "broken", Played()
    spec = patchy(file, "one/hard", stages=1, stage={"steps": STEPS, "replay": 0})

    def mend() -> None:
        file.write_text("")

    orchestrator.run(spec, home=tmp_path, watcher=Watchers([played, At(5, mend, ["step"])]))
    assert [step for step, arms in enumerate(played.arms, start=1) if "one/hard" not in arms] == [3, 4, 5, 6, 7, 8]
    assert [step for step, _ in said(tmp_path)] == [2, 8]


@pytest.mark.parametrize("mode", ["staged", "flat"])
def test_an_environment_that_cannot_be_scored_ends_its_stage_and_the_run_goes_on_with_others(
    tmp_path: Path, mode: str
) -> None:
    played = Played()
    changes: dict[str, Any] = {} if mode == "staged" else {"mode": "flat", "scheduler": None}
    orchestrator.run(patchy(tmp_path / "broken", "one", **changes), home=tmp_path, watcher=played)
    story = told(tmp_path, "patchy")
    assert story["status"] == "finished"
    if mode == "staged":
        assert [(row["environment"], row["stop_reason"]) for row in story["stages"]] == [
            ("one", "quarantine"),
            ("two", "budget"),
            ("one", "quarantine"),
        ]
    with_one = [step for step, arms in enumerate(played.arms, start=1) if any(arm.startswith("one") for arm in arms)]
    assert len(with_one) < len(played.arms) / 2


def test_the_run_stops_only_when_nothing_can_be_trained_on_and_then_tries_all_of_it_again(tmp_path: Path) -> None:
    file = tmp_path / "broken"
    stopped = orchestrator.run(patchy(file, "one", "two"), home=tmp_path)
    assert "no answer can be scored, in any environment" in str(stopped.reason)
    assert told(tmp_path, "patchy")["num_steps"] == 4, "two of each"
    file.write_text("")
    orchestrator.resume("patchy", home=tmp_path)
    assert told(tmp_path, "patchy")["status"] == "finished"


@pytest.mark.parametrize(("scheduler", "ahead"), share(product(["headroom", "sequence", "discounted_ucb"], [0, 1]), 1))
def test_a_run_that_is_killed_sets_the_same_aside(tmp_path: Path, scheduler: str, ahead: int) -> None:
    chosen = {"type": "sequence", "order": ["one", "two", "two"]} if scheduler == "sequence" else scheduler
    changes = {"scheduler": chosen, "stage": {"steps": 8, "replay": 0.25, "from": "all"}}
    asked = ["checkpoint.every_steps=1", f"sampler.ahead={ahead}"]
    file = tmp_path / "broken"
    orchestrator.run(patchy(file, "one/hard", "two", name="whole", **changes), asked, home=tmp_path)
    expected = ending(tmp_path, "whole")
    spec = patchy(file, "one/hard", "two", **changes)
    with pytest.raises(Killed):
        orchestrator.run(spec, asked, home=tmp_path, watcher=At(4, kill, ["step"]))
    for _ in range(50):
        try:
            orchestrator.resume("patchy", home=tmp_path, watcher=At(7, kill, ["step"]))
        except Killed:
            continue
        break
    assert ending(tmp_path, "patchy") == expected
    assert said(tmp_path) == said(tmp_path, "whole") != []


def test_a_fork_without_quarantine_has_all_its_arms_again(tmp_path: Path) -> None:
    file = tmp_path / "broken"
    orchestrator.run(patchy(file, "one/hard", "two"), home=tmp_path)
    file.write_text("")
    played = Played()
    orchestrator.fork("patchy", 2, overrides=["curriculum.quarantine=null"], home=tmp_path, watcher=played)
    assert {arm for arms in played.arms for arm in arms} >= {"one/easy", "one/hard"}


def test_what_the_sampler_lost_says_nothing_about_an_environment() -> None:
    failed = earning("3", [], None)
    lost = replace(failed, samples=tuple(replace(one, finish="lost") for one in failed.samples))
    quarantine = Quarantine(QuarantineSection(after=1), {"words": ["3"]})
    assert not quarantine.judges([lost])
    assert quarantine.judge([lost], 1) == []
    assert quarantine.is_open("words")
    assert quarantine.judge([failed], 2) != []
    assert not quarantine.is_open("words")


def test_an_environment_is_tried_again_only_when_something_of_it_may_be_picked() -> None:
    quarantine = Quarantine(QuarantineSection(after=1), {"words": ["3", "4"], "book": ["1"]})
    terms = {"words": 6, "words/3": 24, "words/4": 30}
    quarantine.load_state({place: {"failed": 0, "times": 1, "until": until} for place, until in terms.items()})
    found = {step: quarantine.judge([], step) for step in range(1, 31)}
    assert {step: said for step, said in found.items() if said} == {
        24: ["words/3 is tried again"],
        30: ["words/4 is tried again"],
    }
