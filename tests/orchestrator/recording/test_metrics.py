from __future__ import annotations

import math

import pytest

from orchestrator.recording import step_metrics
from orchestrator.stopwatch import Stopwatch
from policies.learner import UpdateReport
from store.metrics import METRICS
from tests.orchestrator.rollout.episodes import group, in_slot

GROUPS = [
    group([1.0, 0.5, 0.0, None], "words", "3"),
    group([0.0, 0.0, 0.0, 0.0], "words", "3", finish="length"),
    group([1.0, 1.0, None, None], "words", "4", entropies=[2.0]),
    group([None, None, None, None], "book", "2"),
]
SIGNALS = [1 / 3, 0.0, 0.0, None]


def by_place() -> dict[tuple[str | None, str | None, str], float | None]:
    records = step_metrics.of_groups([in_slot(g, signal=s) for g, s in zip(GROUPS, SIGNALS, strict=True)])
    assert len({(r.environment, r.category, r.name) for r in records}) == len(records)
    return {(r.environment, r.category, r.name): r.value for r in records}


@pytest.mark.parametrize(
    ("environment", "category", "name", "value"),
    [
        ("words", "3", "reward", 1.5 / 7),
        ("words", "3", "accuracy", 1 / 7),
        ("words", "3", "signal", 1 / 6),
        ("words", "3", "zero_var_groups", 1 / 2),
        ("words", "3", "response_len", 2.0),
        ("words", "3", "truncated_frac", 1 / 2),
        ("words", "3", "entropy_token", 1.0),
        ("words", "3", "num_unscorable", 1),
        ("words", "4", "response_len", 1.0),
        ("words", None, "reward", 3.5 / 9),
        ("words", None, "zero_var_groups", 2 / 3),
        ("words", None, "entropy_token", (8 * 2 + 4 * 2.0) / (16 + 4)),  # tokens weigh, not groups
        ("book", "2", "num_unscorable", 4),
        ("book", "2", "entropy_token", 1.0),
        (None, None, "reward", 3.5 / 9),
        (None, None, "num_unscorable", 7),
        (None, None, "signal", 1 / 9),
    ],
)
def test_a_steps_numbers_by_category_environment_and_all(
    environment: str | None, category: str | None, name: str, value: float
) -> None:
    assert by_place()[environment, category, name] == pytest.approx(value)


def test_turns_are_counted_where_an_episode_has_several() -> None:
    played = [in_slot(group([1.0, 0.0])), in_slot(group([1.0, 0.0], num_turns=3))]
    assert "num_turns" not in {record.name for record in step_metrics.of_groups(played[:1])}
    turns = [record.value for record in step_metrics.of_groups(played) if record.name == "num_turns"]
    assert turns == [2.0] * 3, "of the category, the environment and the batch"


def test_what_there_is_nothing_to_count_of_is_left_out() -> None:
    assert {name for (environment, _, name) in by_place() if environment == "book"} == {
        *("num_unscorable", "response_len", "truncated_frac", "entropy_token")
    }


def test_an_updates_numbers_are_known_metrics_and_missing_where_not_finite() -> None:
    report = UpdateReport(
        sums={"clip_frac": (3.0, 12.0), "advantage_abs": (0.0, 0.0)},
        maxima={"sampler_gap_max": 0.01},
        loss=math.nan,
        grad_norm=math.inf,
        lr=1e-4,
        num_updates=0,
        num_skipped=1,
        seconds={},
        num_rows=8,
        num_rows_run=6,
    )
    update = step_metrics.of_update(report)
    records = [*step_metrics.of_controllers({"coefficient": 0.002, "loss": 1.0}, update), *update]
    found = {record.name: record.value for record in records}
    assert len(found) == len(records), "a controller does not say again what the update says"
    assert found == {
        **{"coefficient": 0.002, "clip_frac": 0.25, "sampler_gap_max": 0.01},
        **{"loss": None, "grad_norm": None, "lr": 1e-4, "skipped_updates": 1},
        "rows_run_frac": 0.75,
    }
    assert found.keys() <= METRICS.keys()
    assert [r.name for r in step_metrics.of_controllers({"coefficient": 0.1}, step_metrics.of_update(None))] == [
        "coefficient"
    ]


def test_the_parts_of_a_steps_time_add_up_to_the_whole() -> None:
    watch = Stopwatch()
    with watch("play"):
        pass
    with watch("learn"):
        sum(range(10_000))
    found = of_time(watch)
    parts = sum(value for name, value in found.items() if name.startswith("seconds_"))
    assert found["seconds_play"] == watch.seconds["play"]
    assert found["seconds_other"] >= watch.seconds["learn"]
    assert parts <= watch.total
    assert found.keys() <= METRICS.keys()


def test_what_another_thread_did_is_no_part_of_the_step_but_the_time_of_playing() -> None:
    watch = Stopwatch()
    watch.seconds |= {"wait": 0.0, "update": 2.0}
    watch.elsewhere({"play": 4.0, "score": 1.0})
    found = of_time(watch, has_update=True)
    assert found["seconds_play"] == 0
    assert found["seconds_update"] == 2.0
    num_tokens = sum(g.num_tokens for g in GROUPS)
    assert found["tokens_per_s_play"] == num_tokens / 4
    assert found["tokens_per_s_update"] == num_tokens / 2
    assert found["tokens_fed_per_s"] == 300 / 2


def test_the_speeds_of_environments_add_up() -> None:
    watch = Stopwatch()
    watch.seconds["play"] = 0.5
    records = [r for r in step_metrics.of_time(watch, GROUPS, None) if r.name == "tokens_per_s_play"]
    speeds = {r.environment: r.value or 0.0 for r in records}
    assert speeds[None] == pytest.approx(speeds["words"] + speeds["book"])


@pytest.mark.parametrize(("version", "behind"), [(4, 0), (5, 1)])
def test_how_old_the_weights_were_that_wrote_the_batch(version: int, behind: int) -> None:
    (found,) = step_metrics.of_versions(GROUPS, version)
    assert (found.name, found.value) == ("versions_behind", behind)
    assert found.n == sum(g.num_tokens for g in GROUPS)
    assert step_metrics.of_versions([], version) == []


def of_time(watch: Stopwatch, has_update: bool = False) -> dict[str, float]:
    report = UpdateReport({}, {}, 0.0, 0.0, 0.0, 1, 0, {}, 8, 6, 300) if has_update else None
    records = step_metrics.of_time(watch, GROUPS, report)
    return {record.name: record.value or 0.0 for record in records if record.environment is None}
