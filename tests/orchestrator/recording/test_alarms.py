from __future__ import annotations

from dataclasses import asdict

import pytest

from orchestrator.recording.events import of_entropy, on_same_tasks, raise_alarms
from store.ledger.query_rows import CellRow, TaskSetRow
from store.records import CellRecord, HoldoutRecord, MetricRecord


def step(
    gap: float = 1e-7,
    behind: float = 0,
    capped: float = 0,
    cut_off: float = 0,
    n: float = 64,
) -> list[MetricRecord]:
    return [
        MetricRecord("sampler_gap_mean", gap),
        MetricRecord("versions_behind", behind),
        MetricRecord("tis_capped_frac", capped),
        MetricRecord("truncated_frac", cut_off, "words", None, n),
        MetricRecord("truncated_frac", 1.0, "words", "3", n),
    ]


@pytest.mark.parametrize(
    ("numbers", "dtype", "said"),
    [
        (step(), "float32", []),
        (step(gap=2e-4), "float32", ["stale weights"]),
        (step(gap=2e-4), "bfloat16", []),
        (step(gap=0.06), "bfloat16", ["stale weights"]),
        (step(gap=0.06, behind=1), "float32", []),  # older weights explain it
        (step(capped=0.02), "float32", ["learner.lr"]),
        (step(cut_off=0.6), "float32", ["max_tokens"]),
        (step(cut_off=0.6, n=8), "float32", []),  # too few to say
        (step(gap=1.0, capped=0.5, cut_off=0.9), "float32", ["stale weights", "learner.lr", "max_tokens"]),
        ([], "float32", []),
    ],
)
def test_what_calls_for_an_alarm_and_what_does_not(numbers: list[MetricRecord], dtype: str, said: list[str]) -> None:
    events = raise_alarms([], numbers, dtype)
    assert [event.kind for event in events] == ["alarm"] * len(said)
    for event, word in zip(events, said, strict=True):
        assert word in event.text


def test_an_alarm_is_raised_once_until_it_has_calmed_down() -> None:
    on: list[str] = []
    loud, calm = step(cut_off=0.9), step()
    raised = [len(raise_alarms(on, numbers, "float32")) for numbers in (loud, loud, calm, loud)]
    assert raised == [1, 0, 0, 1]
    assert on == ["cut off words"]


def test_an_alarm_of_answers_cut_off_lasts_while_shares_go_up_and_down_and_other_stages_come_between() -> None:
    on: list[str] = []
    shares = [(0.6, "words"), (0.4, "words"), (0.6, "words"), (0.9, "numbers"), (0.6, "words"), (0.2, "words")]
    course = [(step(cut_off=share), environment) for share, environment in [*shares, (0.6, "words")]]
    course.insert(3, (step(cut_off=0.9, n=8), "words"))
    raised = [len(raise_alarms(on, numbers, "float32", environment=own)) for numbers, own in course]
    assert raised == [1, 0, 0, 0, 0, 0, 0, 1]


def test_where_no_token_ends_an_answer_a_larger_budget_is_no_advice() -> None:
    (event,) = raise_alarms([], step(cut_off=1.0), "float32", can_end=False)
    assert "100% of the answers to words were cut off by a budget: the policy has no token that ends" in event.text
    assert "Set `tokenizer.eos_token`" in event.text
    assert "max_tokens" not in event.text


def test_replayed_groups_of_another_environment_raise_no_alarm_of_answers_cut_off() -> None:
    assert raise_alarms([], step(cut_off=0.9), "float32", environment="numbers") == []
    assert len(raise_alarms([], step(cut_off=0.9), "float32", environment=None)) == 1, "flat: all are trained on"


@pytest.mark.parametrize(
    ("silence", "ends", "said"),
    [
        ({}, False, []),
        ({"words": [9, 0, 576]}, False, []),
        (
            {"words": [10, 0, 640]},
            False,
            [
                "no group of words had a signal in the last 10 steps that were its own: none of 640 answers",
                "easier",
            ],
        ),
        ({"words": [10, 640, 640]}, False, ["all 640 answers were correct", "harder categories"]),
        (
            {"words": [10, 320, 640]},
            False,
            ["all samples of a task did alike (320 of 640 answers correct)", "group_size"],
        ),
        ({"words": [10, 0, 640]}, False, ["`curriculum: {stage: {stop: [dead_signal]}}` ends such stages"]),
        ({"words": [10, 0, 640]}, True, ["The stop rule `dead_signal` ends such stages"]),
        ({"": [10, 0, 640]}, False, ["no group of any environment"]),
    ],
)
def test_ten_steps_without_signal_are_an_alarm_that_says_why(
    silence: dict[str, list[int]], ends: bool, said: list[str]
) -> None:
    events = raise_alarms([], step(), "float32", silence, ends_dead_stages=ends)
    assert len(events) == bool(said)
    for word in said:
        assert word in events[0].text
    assert ("stop" in "".join(event.text for event in events)) == (bool(said) and "" not in silence)


def test_silence_that_a_single_signal_broke_is_told_once_a_stage() -> None:
    on: list[str] = []
    course = [("a", 10), ("a", 0), ("a", 10), ("b", 0), ("a", 10)]
    raised = [len(raise_alarms(on, step(), "float32", {"a": [n, 0, 9]}, environment=own)) for own, n in course]
    assert raised == [1, 0, 0, 0, 1]


def test_where_entropy_is_gone_that_is_the_reason_though_no_answer_was_correct() -> None:
    numbers = [*step(), MetricRecord("entropy_token", 0.03, "words", None, 64)]
    (event,) = raise_alarms([], numbers, "float32", {"words": [10, 0, 640]})
    assert "its entropy is 0.03 nats a token" in event.text
    assert "easier" not in event.text


def boundary(entropy: float, accuracy: float) -> list[CellRecord]:
    values = {"entropy_token": entropy, "pass_1": accuracy}
    return [CellRecord("words", None, name, value, None, 8, 4) for name, value in values.items()]


@pytest.mark.parametrize(
    ("course", "alarms"),
    [
        ([(1.45, 0.0), (1.8, 0.0), (3.52, 0.0), (5.08, 0.0)], [0, 0, 1, 0]),
        ([(1.45, 0.0), (3.5, 0.0), (1.4, 0.0), (3.5, 0.0)], [0, 1, 0, 1]),
        ([(1.45, 0.0), (3.5, 0.4)], [0, 0]),  # it learns
        ([(0.01, 0.2), (0.2, 0.2)], [0, 0]),  # of almost nothing
    ],
)
def test_entropy_far_above_its_start_without_a_gain_is_an_alarm(
    course: list[tuple[float, float]], alarms: list[int]
) -> None:
    rows = [boundary(*values) for values in course]
    raised = [of_entropy([cell for own in rows[:stage] for cell in own], rows[stage]) for stage in range(len(rows))]
    assert [len(one) for one in raised] == alarms
    assert all("become noise" in event.text for one in raised for event in one)


def test_entropy_on_other_held_out_tasks_is_no_course() -> None:
    def found(entropy: float, after_stage: int) -> list[CellRow]:
        return [CellRow(**asdict(cell), after_stage=after_stage, eval_config="") for cell in boundary(entropy, 0.0)]

    before, sets = [*found(1.45, 0), *found(1.5, 1)], [TaskSetRow("words", "easy", "anchor", "a", 0, 1)]
    none = HoldoutRecord("words", "rare", "anchor", "c", 0)  # measured nowhere
    same, other = ([HoldoutRecord("words", "easy", "anchor", sha256, 8), none] for sha256 in "ab")
    assert len(of_entropy(on_same_tasks(before, sets, same), boundary(3.5, 0.0))) == 1
    assert of_entropy(on_same_tasks(before, sets, other), boundary(3.5, 0.0)) == []
    sets = [TaskSetRow("words", "easy", "anchor", "b", 0, 0), TaskSetRow("words", "easy", "anchor", "a", 1, 1)]
    assert on_same_tasks(before, sets, same) == before[2:]


def test_silence_of_an_environment_is_told_once_though_other_stages_come_between() -> None:
    on: list[str] = []
    course = [{"a": [10, 0, 9]}, {"a": [10, 0, 9], "b": [1, 0, 9]}, {"a": [11, 0, 9]}, {}, {"a": [10, 9, 9]}]
    assert [len(raise_alarms(on, step(), "float32", silence)) for silence in course] == [1, 0, 0, 0, 1]
