"""A run's plasticity as facts and in sentences: what the ledger has, with the worked numbers of plasticity.md 3.1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from store.carryover import Matrices
from store.ledger import Ledger
from store.ledger.query_rows import TaskSetRow
from store.plasticity import entropy_carried, first_and_last, lost_share, transfers
from store.run_summary import facts
from store.sentences import how_trainable, what_carried, what_was_lost
from tests.store.plasticity_runs import GAIN_RATIO, plastic
from tests.store.report.runs import Shape, written


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Any]]:
    """The facts of the made-up run."""
    with Ledger.open("sqlite://") as ledger:
        yield facts(ledger, Path("nowhere"), plastic(ledger, "made").name)


def test_trainability_is_told_with_its_level_and_interval(found: dict[str, Any]) -> None:
    rows = {(row["kind"], row["after_stage"]): row for row in found["plasticity"]["trainability"]}
    now = rows["rl", 6]
    assert now["gain_ratio"] == pytest.approx(GAIN_RATIO, abs=1e-3)
    assert (now["level"], now["base_level"], now["num_seeds"]) == (pytest.approx(0.2), pytest.approx(0.1), 3)
    low, high = now["interval"]
    assert low < now["gain_ratio"] < high
    assert rows["rl", 0]["gain_ratio"] is None
    assert rows["rl", 0]["interval"] is None
    assert rows["supervised", 6]["gain"] > 0, "a falling loss is a gain"


def test_the_facts_hold_every_kind_of_number(found: dict[str, Any]) -> None:
    own = found["plasticity"]
    assert own["is_measured"]
    assert own["network"]["dormant_0.025"][3][6] == pytest.approx(0.3)
    assert own["entropy_fixed"]["2"]["words"] == pytest.approx(2 * 0.85**2)
    assert set(own["drift"]) == {"kl_base", "kl_prev"}
    assert own["interventions"][0]["before"]["pass_1"] == pytest.approx((0.30 + 0.26 + 0.27) / 3)
    assert own["interventions"][0]["after"] == {"pass_1": pytest.approx(0.2), "entropy_fixed": pytest.approx(1.8)}
    parts = found["looking"]["parts"]
    assert {name: of["looks"] for name, of in parts.items()} == {"evaluation": 7, "network": 7, "probe_rl_words": 3}


def test_entropy_carried_is_over_stages_and_has_an_interval_from_three_on() -> None:
    entropy = {(i, "a"): 0.5**i for i in range(5)}
    carried = entropy_carried(Matrices({}, entropy, {}, ["a"] * 4), {})
    assert carried is not None
    assert carried["mean"] == pytest.approx(0.25)  # of .5, .25 and .125
    assert carried["interval"][0] < 0.25 < carried["interval"][1]
    few = entropy_carried(Matrices({}, entropy, {}, ["a"] * 3), {})
    assert few is not None
    assert few["interval"] is None


@pytest.mark.parametrize(("read", "metric"), [((0, 4), "entropy_token"), (range(5), "entropy_fixed")])
def test_where_few_arrivals_have_frozen_answers_it_is_what_the_policy_wrote(read: Sequence[int], metric: str) -> None:
    fixed = {str(i): {"a": 0.9**i} for i in read}
    carried = entropy_carried(Matrices({}, {(i, "a"): 0.5**i for i in range(5)}, {}, ["a"] * 4), fixed)
    assert carried is not None
    assert (carried["metric"], carried["num_stages"]) == (metric, 3)
    assert carried["mean"] == pytest.approx({"entropy_token": 0.5, "entropy_fixed": 0.9}[metric] ** 2)


def test_a_share_of_nothing_is_a_stage_of_the_mean() -> None:
    entropy = {(0, "a"): 1.0, (0, "b"): 1.0, (1, "a"): 0.5, (1, "b"): 0.0, (2, "a"): 0.5, (2, "b"): 0.5}
    carried = entropy_carried(Matrices({}, entropy, {}, ["a", "b", "a"]), {})
    assert carried == {"metric": "entropy_token", "mean": 0.0, "interval": None, "num_stages": 2}


def test_a_transfer_is_the_mean_over_visits_and_carried_beyond_chance() -> None:
    accuracy = {(0, "b"): 0.1, (1, "b"): 0.2, (2, "b"): 0.2, (3, "b"): 0.5}
    errors = dict.fromkeys(accuracy, 0.05)
    (helped,) = [one for one in transfers(Matrices(accuracy, {}, errors, ["a", "b", "a"])) if one.trained == "a"]
    assert (helped.changed, helped.num_visits, helped.change) == ("b", 2, pytest.approx(0.2))
    assert helped.margin == pytest.approx(2 * (4 * 0.05**2) ** 0.5 / 2)
    assert helped.is_carried
    unknown = transfers(Matrices(accuracy, {}, {}, ["a", "b", "a"]))
    assert not any(one.is_carried for one in unknown)
    assert transfers(Matrices(accuracy, {}, errors, [None, None, None])) == []


def test_a_stage_in_which_held_out_tasks_changed_is_no_visit() -> None:
    accuracy = {(0, "b"): 0.1, (1, "b"): 0.2, (2, "b"): 0.2, (3, "b"): 0.9}
    found = Matrices(accuracy, {}, dict.fromkeys(accuracy, 0.05), ["a", "b", "a"])
    sets = [TaskSetRow("b", "easy", "anchor", sha256, *at) for sha256, at in (("old", (0, 2)), ("new", (3, 3)))]
    (helped,) = [one for one in transfers(found, sets) if one.trained == "a"]
    assert (helped.num_visits, helped.change) == (1, pytest.approx(0.1))


def test_the_more_changes_there_are_the_more_is_chance() -> None:
    names = [f"e{k}" for k in range(20)]
    draw = np.random.default_rng(0)
    values = 0.5 + 0.05 * draw.standard_normal((len(names) + 1, len(names)))
    accuracy = {(i, name): float(v) for i, row in enumerate(values) for name, v in zip(names, row, strict=True)}
    found = transfers(Matrices(accuracy, {}, dict.fromkeys(accuracy, 0.05), names))
    others = [one for one in found if one.trained != one.changed]
    assert len(others) == 20 * 19
    assert sum(abs(one.change) > (one.margin or 0.0) for one in others) > 5, "beyond two standard errors"
    assert not any(one.is_carried for one in others)
    z = NormalDist().inv_cdf(1 - 0.05 / 2 / len(others))
    assert [one.bound for one in found] == pytest.approx([z * 0.05 * 2**0.5] * len(found))


def test_every_sentence_has_its_interval(found: dict[str, Any]) -> None:
    told = what_carried(found)
    assert list(told) == ["Trainability", "Carried", "Turnover"]
    assert told["Trainability"].startswith(
        "After stage 6 a copy of the policy gains, where the base gains 1: "
        ".65 on rl words (.62 to .68, 3 seeds; starts at .20, the base at .10); .46 on supervised language ("
    )
    assert "had 61% of its entropy at the start, on the same frozen answers" in told["Carried"]
    assert "5 stages after the first; 95 % interval 45% to 84%" in told["Carried"]
    solved = sum(row["solved_before"] for row in found["plasticity"]["turnover"])
    assert told["Turnover"].startswith(f"Of {solved} times that a held-out task was solved")


def test_what_was_not_measured_has_no_sentence(tmp_path: Path) -> None:
    with Ledger.open("sqlite://") as ledger:
        bare = facts(ledger, tmp_path, written(ledger, Shape(), "bare").name)
    assert not bare["plasticity"]["is_measured"]
    assert what_carried(bare) == {}
    assert first_and_last(bare["plasticity"]) == []
    assert lost_share([]) is None


def test_one_seed_has_no_interval_and_says_so(found: dict[str, Any]) -> None:
    (row, *_) = [row for row in found["plasticity"]["trainability"] if row["after_stage"] == 6]
    told = how_trainable([{**row, "interval": None, "num_seeds": 1}])
    assert told is not None
    assert "(1 seed, no interval; starts at .20, the base at .10)" in told


def test_the_short_block_has_each_start_beside_its_gain(found: dict[str, Any]) -> None:
    rows = first_and_last(found["plasticity"])
    assert [row.what for row in rows] == [
        "score at its start",
        "gain",
        "loss at its start",
        "gain",
        "dormant units",
        "effective rank, last layer",
        "entropy on frozen answers, nats",
        "KL to the base, nats",
    ]


def test_each_number_names_the_boundary_that_had_it_first(found: dict[str, Any]) -> None:
    later = {stage: row for stage, row in found["plasticity"]["drift"]["kl_base"].items() if stage != "0"}
    *_, entropy, kl = first_and_last({**found["plasticity"], "drift": {"kl_base": later}})
    assert (entropy.first_stage, kl.first_stage) == (0, 1)
    assert kl.first == pytest.approx(0.08)


def test_ends_are_means_over_the_environments_that_both_have(found: dict[str, Any]) -> None:
    drift = {"1": {"a": 1.0, "b": 3.0, "gone": 9.0}, "2": {"a": 1.0}, "4": {"a": 2.0, "b": 4.0, "late": 0.1}}
    row = first_and_last({**found["plasticity"], "drift": {"kl_base": drift}})[-1]
    assert (row.first, row.last, row.first_stage, row.last_stage) == (2.0, 3.0, 1, 4)
    drift = {"1": {"gone": 9.0}, "4": {"late": 0.1}}
    row = first_and_last({**found["plasticity"], "drift": {"kl_base": drift}})[-1]
    assert (row.first, row.last, row.first_stage, row.last_stage) == (None, 0.1, None, 4)


def test_what_one_boundary_measured_is_one_value(found: dict[str, Any]) -> None:
    once = {"6": found["plasticity"]["drift"]["kl_base"]["6"]}
    row = first_and_last({**found["plasticity"], "drift": {"kl_base": once}})[-1]
    assert (row.what, row.first, row.first_stage) == ("KL to the base, nats", None, None)
    assert row.last is not None


@pytest.mark.parametrize(
    ("lost", "repaired", "said"),
    [
        (1, 1, "found it lost 1 time (10%, 2% to 40%; luck alone: about 2); 1 time a lost one was solved again."),
        (3, 0, "found it lost 3 times (30%, 11% to 60%; luck alone: about 2); not once a lost one was solved again."),
    ],
)
def test_times_are_counted_in_english(lost: int, repaired: int, said: str) -> None:
    row = {"solved_before": 10, "lost": lost, "lost_by_luck": 2.0, "repaired": repaired}
    assert str(what_was_lost([row])).endswith(said)
