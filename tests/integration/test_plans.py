"""Runs whose objective plans what is sampled: who learns of what, and that interrupting them changes nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.bandits.signal import mean_absolute_advantage
from orchestrator.callbacks import Callback
from orchestrator.progress import Progress
from orchestrator.runs.api import resume, run
from store.records import StepRecord
from tests.integration.runs import At, Killed, component, ending, kill, series
from tests.orchestrator.specs import small
from tests.shares import share

HERE = "scoring.isolation=none"
SWITCH = {"type": "switch", "knob": "tempered_temperature", "low": 0.8, "high": 1.2}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "dynamic": {"preset": "rloo", "plans": ["dynamic_sampling"], "dynamic_sampling_rounds": 3},
    "tempered": {"preset": "aepo", "tempered_share": 0.5, "controller": SWITCH},
    "gvm": {"preset": "gvm", "gvm_pilot": 2},
    "all": {
        "preset": "aepo",
        "plans": ["dynamic_sampling", "gvm", "tempered"],
        "gvm_pilot": 2,
        "tempered_only_better": False,
        "controller": SWITCH,
    },
    "ahead": {
        "preset": "aepo",
        "plans": ["dynamic_sampling", "tempered"],
        "tempered_only_better": False,
        "controller": SWITCH,
    },
}


def planned(name: str) -> dict[str, Any]:
    """A spec with a plan; `book` has six tasks a category, so that what is played again soon comes round."""
    spec = small(name, objective=OBJECTIVES[name])
    return spec | {"sampler": {"max_tokens": 3, "ahead": 1}} if name == "ahead" else spec


class Noting(Callback):
    """Keeps the records of all steps."""

    def __init__(self) -> None:
        self.steps: list[StepRecord] = []

    def step(self, at: Progress, record: StepRecord) -> None:
        self.steps.append(record)


@pytest.fixture(scope="module")
def seen() -> dict[str, Noting]:
    return {}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, seen: dict[str, Noting]) -> Path:
    home = tmp_path_factory.mktemp("plans")
    for name in OBJECTIVES:
        seen[name] = Noting()
        run(planned(name), [HERE], home=home, watcher=seen[name])
    return home


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_stopped_time_and_again_it_equals_the_uninterrupted_run(home: Path, name: str) -> None:
    outcome = run(planned(name), [f"name={name}-steps", HERE], home=home, until_step=1)
    for step in (2, 5, 8):
        outcome = resume(outcome.name, home=home, until_step=step)
    assert resume(outcome.name, home=home).status == "finished"
    assert ending(home, outcome.name) == ending(home, name)


@pytest.mark.parametrize(("name", "moment"), share([("all", 6), ("ahead", 3), ("ahead", 9)], 1))
@pytest.mark.slow
def test_killed_at_any_moment_it_equals_the_uninterrupted_run(home: Path, name: str, moment: int) -> None:
    killed = f"{name}-killed-{moment}"
    with pytest.raises(Killed):
        run(planned(name), [f"name={killed}", HERE], home=home, watcher=At(moment, kill))
    assert resume(killed, home=home).status == "finished"
    assert ending(home, killed) == ending(home, name)


def numbers(record: StepRecord, name: str) -> dict[tuple[str | None, str | None], float | None]:
    """A metric of a step, by environment and category."""
    return {(m.environment, m.category): m.value for m in record.metrics if m.name == name}


@pytest.mark.parametrize("name", ["dynamic", "all", "ahead"])
def test_what_was_dropped_reaches_the_bandit_and_is_replaced_from_its_arm(
    home: Path, seen: dict[str, Noting], name: str
) -> None:
    num_again = 0
    for record in seen[name].steps:
        assert [pick.slot for pick in record.picks] == [0, 1, 2, 3], "one pick a place, however often it was played"
        assert [group.slot for group in record.groups] == list(range(len(record.groups)))
        num_again += len(record.groups) - 4
        chosen = Counter((pick.environment, pick.arm) for pick in record.picks)
        kept = Counter({arm: int(n or 0) for arm, n in numbers(record, "groups_kept").items() if all(arm)})
        assert kept <= chosen, "never more of an arm than was chosen"
        if numbers(record, "generation_rounds")[None, None] == 1:
            assert kept == chosen
        for pick, group in zip(record.picks, record.groups, strict=False):
            if len(set(group.values)) == 1 and pick.signal is not None:
                # the first group had no spread: that 0 is in the mean, with what came after
                assert pick.signal <= 0.25
        signals = [pick.signal for pick in record.picks if pick.signal is not None]
        assert len(signals) == 4
    assert num_again > 3, "the test has something to see"
    assert len({g.task_key for g in seen[name].steps[0].groups}) == len(seen[name].steps[0].groups)


def test_the_mean_signal_of_picks_and_groups_is_the_same(home: Path, seen: dict[str, Noting]) -> None:
    """Weighed by their groups: no group that was generated is lost on the way to the bandit."""
    for record in seen["dynamic"].steps:
        spread = [mean_absolute_advantage([v for v in g.values if v is not None]) or 0.0 for g in record.groups]
        found = numbers(record, "signal")[None, None]
        assert found == pytest.approx(sum(spread) / len(spread))


def test_a_step_in_which_no_group_has_spread_makes_no_update_and_goes_on(tmp_path: Path) -> None:
    environments = {"one": {"type": "tests.environments.fakes:create", "in_process": True, "categories": ["easy"]}}
    spec = small(
        "solved",
        objective={"preset": "rloo", "plans": ["dynamic_sampling"], "dynamic_sampling_rounds": 2},
        warm_start=None,
        environments=environments,
        curriculum={"stages": 1, "stage": {"steps": 5}},
        step={"groups": 2, "group_size": 2},
    )
    noting = Noting()
    assert run(spec, [HERE], home=tmp_path, watcher=noting).status == "finished"
    idle = [r for r in noting.steps if numbers(r, "groups_kept")[None, None] == 0]
    assert idle, "the test has something to see"
    for record in idle:
        texts = [event.text for event in record.events if event.kind == "skipped update"]
        assert texts == ["all groups of this step lack spread: no update"]
        assert not numbers(record, "loss")


def test_side_rows_are_no_picks_no_groups_and_no_reading_of_entropy(home: Path, seen: dict[str, Noting]) -> None:
    for record in seen["tempered"].steps:
        assert len(record.picks) == len(record.groups) == 4
        assert numbers(record, "entropy_token")[None, None] is not None
    rows = series(home, "tempered", "tempered_rows")
    assert sum(row or 0 for row in rows) > 0
    assert set(series(home, "all", "tempered_temperature")) == {0.8, 1.2}, "the controller moved it"
    knobs = [state["value"] for state in component(home, "all", "objective")["objective"]["controllers"]]
    assert knobs[0] in (0.8, 1.2)


def test_a_batch_played_ahead_is_played_at_the_temperature_of_when_it_was_begun(
    home: Path,
) -> None:
    """The controller moves after the update, the batch is begun before it: it lags by one step more."""
    coefficients = series(home, "ahead", "coefficient")
    found = series(home, "ahead", "tempered_temperature")
    stages = [range(0, 3), range(3, 6), range(6, 9)]
    for stage in stages:
        first, *others = stage
        assert found[first] == coefficients[first], "the first of a stage is played when it is needed"
        assert [found[k] for k in others] == [coefficients[k - 1] for k in others]


def test_groups_differ_in_size_and_steps_do_not(home: Path, seen: dict[str, Noting]) -> None:
    sizes = [[len(group.values) for group in record.groups] for record in seen["gvm"].steps]
    assert {sum(own) for own in sizes} == {16}
    assert any(len(set(own)) > 1 for own in sizes), "the test has something to see"
    assert min(min(own) for own in sizes) >= 3, "the pilot and the floor"
    for record in seen["gvm"].steps:
        arms: dict[tuple[str, str], list[int]] = {}
        for group in record.groups:
            arms.setdefault((group.environment, group.category), []).append(len(group.values))
        assert all(sum(own) == 4 * len(own) for own in arms.values()), "never across arms"


def test_without_plans_there_is_no_number_of_them(tmp_path: Path) -> None:
    noting = Noting()
    run(small("plain", objective="rloo"), [HERE], home=tmp_path, watcher=noting, until_step=1)
    names = {metric.name for metric in noting.steps[0].metrics}
    assert not names & {"generation_rounds", "groups_kept", "tempered_rows", "largest_group"}
