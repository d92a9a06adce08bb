from __future__ import annotations

import json
from dataclasses import replace

from orchestrator.bandits.contracts import Pick
from orchestrator.played_group import PlayedGroup
from orchestrator.progress import Progress
from tests.orchestrator.rollout import episodes


def earning(*signals: float | None) -> list[PlayedGroup]:
    return [episodes.earning("3", [True, False], signal) for signal in signals]


def course(at: Progress) -> str:
    """Walk a curriculum to its end as the loop does: B boundary, S stage, . step."""
    done = ""
    while not at.is_finished:
        if at.is_at_boundary:
            at.end_boundary()
            done += "B"
        elif at.stage_is_over:
            at.begin_stage(Pick(f"{at.stage}.0", f"env{at.stage % 2}", 1.0, at.stage))
            done += "S"
        else:
            at.begin_step()
            at.end_step(earning(0.5))
            done += "."
    return done


def test_boundaries_stages_and_steps_come_in_order() -> None:
    at = Progress(num_stages=2, steps_per_stage=3)
    assert course(at) == "BS...BS...B"
    assert (at.step, at.num_steps, at.num_boundaries, at.visited) == (6, 6, 3, ["env0", "env1"])


def test_it_goes_on_from_its_state_after_json_wherever_it_stands() -> None:
    whole, at = "BS..BS..BS..B", Progress(3, 2)
    for done in range(len(whole)):
        copy = Progress(3, 2)
        copy.load_state(json.loads(json.dumps(at.state())))
        assert copy == at
        assert course(copy) == whole[done:]
        _advance(at)


def _advance(at: Progress) -> None:
    if at.is_at_boundary:
        at.end_boundary()
    elif at.stage_is_over:
        at.begin_stage(Pick("0.0", "words", 0.5, at.stage))
    else:
        at.begin_step()
        at.end_step(earning(0.25, 0.75))


def test_a_stages_signal_is_the_mean_over_its_own_groups() -> None:
    at = Progress(2, 2)
    at.begin_stage(None)
    assert at.stage_signal == (None, 0)
    at.end_step(earning(0.1, 0.3))
    at.end_step(earning(0.5))
    signal, num_groups = at.stage_signal
    assert (round(signal or 0, 12), num_groups) == (0.3, 3)
    at.begin_stage(None)
    assert at.stage_signal == (None, 0)


def test_a_stages_score_is_the_mean_over_its_own_groups_with_how_they_scatter() -> None:
    at = Progress(2, 2)
    at.begin_stage(None)
    assert at.stage_score == (None, 0.0)
    of_replay = replace(earning(0.5)[0].slot, role="replay")
    first, second, unseen, other = (
        replace(group, score=score)
        for group, score in zip(
            [*earning(0.1, 0.3), *earning(None), replace(earning(0.5)[0], slot=of_replay)],
            (0.25, 0.75, 0.5, 1.0),
            strict=True,
        )
    )
    at.end_step([first, unseen, other])
    at.end_step([second])
    assert at.stage_score == (0.5, 2 * 0.25**2)
    at.begin_stage(None)
    assert at.stage_score == (None, 0.0)


def test_a_stop_rules_reason_ends_the_stage_before_its_budget() -> None:
    at = Progress(num_stages=2, steps_per_stage=30)
    at.num_boundaries = 1
    at.begin_stage(None)
    at.begin_step()
    at.stop_reason = "mastery"
    assert at.stage_is_over
    assert at.is_at_boundary
    at.end_boundary()
    at.begin_stage(None)
    assert (at.stop_reason, at.stage_is_over, at.window.history) == (None, False, [])


def test_the_steps_still_to_come_are_counted_from_where_the_run_stands() -> None:
    at = Progress(num_stages=3, steps_per_stage=30)
    assert at.num_steps == 90
    at.num_boundaries = 1
    at.begin_stage(None)
    for _ in range(10):
        at.begin_step()
    assert at.num_steps == 90
    at.stop_reason = "mastery"
    assert at.num_steps == 70, "20 of the first stage's steps are not needed"


def test_ten_steps_make_an_eval() -> None:
    at = Progress(1, 30, stage=1)
    assert [at.end_step(earning(0.5)) for _ in range(10)] == [False] * 9 + [True]
    assert at.window.history[0].score == 0.5


def test_steps_without_an_update_count_in_a_row() -> None:
    at = Progress(1, 9)
    for correct in ([], [], [False], []):
        at.end_step([episodes.earning("3", correct, None)])
    assert at.num_unscorable_steps == 1


def test_an_environment_is_visited_from_its_stage_on_and_once() -> None:
    at = Progress(3, 1)
    for arm in ("words", "book", "words"):
        at.begin_stage(Pick("0.0", arm, 1.0, 0))
    assert (at.environment, at.visited) == ("words", ["words", "book"])


def silent(num: int = 2, correct: bool = False) -> list[PlayedGroup]:
    return [episodes.earning("3", [correct] * 4, 0.0, has_spread=False)] * num


def test_steps_without_signal_are_counted_by_the_environment_of_their_stage() -> None:
    """In a row, over its stages; a step that cannot be told changes nothing."""
    at = Progress(num_stages=9, steps_per_stage=2)
    for name, groups in (
        ("a", [silent(), [*silent(1), episodes.earning("3", [True, False], 0.5, has_spread=True)]]),
        ("b", [silent(), silent(correct=True)]),
        ("a", [silent(), [episodes.earning("3", [True], None)]]),
        ("b", [[], silent(1)]),
    ):
        at.begin_stage(Pick("0.0", name, 1.0, 0))
        for own in groups:
            at.end_step(own)
    assert at.silence == {"b": [3, 8, 20], "a": [1, 0, 8]}
    copy = Progress(9, 2)
    copy.load_state(json.loads(json.dumps(at.state())))
    assert copy == at


def test_a_state_of_before_there_was_silence_is_read() -> None:
    at = Progress(1, 2)
    state = at.state()
    del state["silence"]
    at.load_state(state)
    assert at.silence == {}
