from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest

from environments import NoTasks
from orchestrator.bandits import ArmInfo
from orchestrator.bandits.contracts import Bandit, Standing
from orchestrator.choosing.choice import EVERYTHING, RETOLD, Choice, make_choice, require_known_arms
from orchestrator.choosing.stage_scheduler import REPAID
from orchestrator.errors import SpecError
from orchestrator.played_group import PlayedGroup, Slot
from orchestrator.progress import Progress
from orchestrator.schedulers.rewards import GAIN_SCALE
from orchestrator.spec.sections import CurriculumSection
from tests.orchestrator.rollout.episodes import earning, group, in_slot

NAMES = {"words": ["3", "4", "5"], "book": ["2", "8"], "maze": ["one"]}
CATEGORIES = {name: {category: ArmInfo() for category in own} for name, own in NAMES.items()}


def choice(seed: int = 0, **section: Any) -> Choice:
    return make_choice(CurriculumSection.model_validate(section), CATEGORIES, seed)


def played(slots: list[Slot], signals: list[float | None], score: float | None = None) -> list[PlayedGroup]:
    return [in_slot(group([1.0]), slot, signal=s, score=score) for slot, s in zip(slots, signals, strict=True)]


def replayed(chosen: Choice, visited: list[str], n: int = 40, steps: int = 50) -> Counter[str]:
    slots = [slot for step in range(steps) for slot in chosen.slots(n, step, "words", visited)]
    return Counter(slot.environment for slot in slots if slot.role == "replay")


def test_a_stage_trains_on_its_environment_and_the_bandit_picks_the_category() -> None:
    chosen = choice()
    slots = chosen.slots(64, 1, "words", ["words"])
    assert [slot.index for slot in slots] == list(range(64))
    assert {(slot.environment, slot.role, slot.level, slot.bandit) for slot in slots} == {
        ("words", "main", "category", "words")
    }
    assert {slot.category for slot in slots} == {"3", "4", "5"}


@pytest.mark.parametrize(("share", "n", "expected"), [(0.25, 40, 10), (0.2, 32, 6), (0.1, 4, 0), (0.9, 4, 3)])
def test_replay_has_its_share_of_every_batch(share: float, n: int, expected: int) -> None:
    slots = choice(stage={"replay": share}).slots(n, 7, "words", ["book", "words"])
    assert Counter(slot.role for slot in slots) == Counter(main=n - expected, replay=expected)
    assert all(slot.bandit == slot.environment for slot in slots), "an environment's own bandit picks, and learns"


def test_a_quarter_of_a_batch_is_replay_if_nothing_is_said() -> None:
    slots = choice().slots(40, 7, "words", ["book", "words"])
    assert Counter(slot.role for slot in slots) == Counter(main=30, replay=10)


def test_a_schedule_of_levels_goes_by_the_stages_of_its_environment_and_not_by_replay() -> None:
    chosen = choice(stages=6, stage={"steps": 10, "replay": 0.4}, bandit="easy_to_hard")
    bandits: dict[str, Any] = dict(chosen.bandits)
    for step in range(10):
        chosen.slots(40, step, "words", [*NAMES])
    assert {name: one.progress for name, one in bandits.items()} == {"words": 0.5, "book": 0.0, "maze": 0.0}
    fork, _ = forked(chosen, stages=6, stage={"steps": 10, "replay": 0.4}, bandit="easy_to_hard")
    bandits = dict(fork.bandits)
    assert {name: one.progress for name, one in bandits.items()} == {"words": 0.5, "book": 0.0, "maze": 0.0}


@pytest.mark.parametrize(
    ("mode", "bandit", "said"),
    [
        ("staged", {"type": "fixed", "weights": {"33": 1}}, "weights names 33, .*Did you mean '3'"),
        ("staged", {"type": "easy_to_hard", "levels": {"words/3": 1}}, "levels names words/3, "),
        ("flat", {"type": "easy_to_hard", "levels": {"3": 1}}, "In flat mode an arm is `environment/category`"),
        ("flat", {"type": "size", "sizes": {"words/3": 1, "words": 2}}, "sizes names words, "),
        ("staged", {"type": "learning_progress", "baseline": {"six": 0.1}}, "baseline names six, "),
        ("staged", {"type": "fixed", "weights": {"3": 1, "8": 2}}, None),
    ],
)
def test_an_option_that_names_an_arm_which_nobody_has_is_refused(mode: str, bandit: Any, said: str | None) -> None:
    section = CurriculumSection.model_validate({"mode": mode, "bandit": bandit})
    with nullcontext() if said is None else pytest.raises(SpecError, match=said):
        require_known_arms(section, CATEGORIES)


def test_replay_comes_from_environments_that_had_a_stage_in_equal_parts() -> None:
    chosen = choice(stage={"replay": 0.25})
    assert replayed(chosen, ["words"]) == {}, "none yet: the whole batch is the stage's own"
    assert set(replayed(chosen, ["words", "book"])) == {"book"}
    both = replayed(chosen, ["words", "book", "maze"])
    assert both.total() == 500
    assert 200 < both["book"] < 300


def test_replay_may_come_from_all_environments() -> None:
    assert set(replayed(choice(stage={"replay": 0.25, "from": "all"}), ["words"])) == {"book", "maze"}


def test_replay_is_drawn_anew_every_step_and_the_same_in_every_run() -> None:
    def counts(step: int) -> list[str]:
        slots = choice(stage={"replay": 0.5}).slots(8, step, "words", ["words", "book", "maze"])
        return [slot.environment for slot in slots]

    assert counts(3) == counts(3)
    assert len({tuple(counts(step)) for step in range(12)}) > 1


@pytest.mark.parametrize("bandit", ["headroom", "discounted_ucb", "thompson", "sliding_window_ucb"])
def test_a_category_that_no_verifier_can_score_is_not_picked_for_ever(bandit: str) -> None:
    """Nothing was ever seen of it, and such bandits are optimistic: it had eight slots of ten."""
    chosen, picked = choice(bandit=bandit), Counter[str]()
    for step in range(150):
        slots = chosen.slots(8, step, "words", [])
        picked.update(slot.category for slot in slots)
        pays: dict[str, Any] = {"5": {"signal": None, "score": None}}
        paid = {"signal": 0.3, "score": 0.2 + 0.004 * step}  # they are learnt
        chosen.learn([in_slot(group([1.0]), slot, **pays.get(slot.category, paid)) for slot in slots])
    assert picked["5"] / picked.total() < 0.3


def test_a_stage_that_nothing_can_be_said_of_earns_nothing() -> None:
    chosen = choice(scheduler={"type": "discounted_ucb", "reward": "total_gain"})
    at, picked = Progress(40, 30), Counter[str]()
    for _ in range(30):
        found = chosen.next_environment()
        at.begin_stage(found.pick)
        picked[str(at.environment)] += 1
        at.stage_step = 40
        chosen.end_stage(at, {"words": 0.5, "book": 0.5})  # the maze has no score
    assert picked["maze"] < 15


def test_a_pick_is_recorded_with_the_probability_it_was_drawn_with() -> None:
    chosen = choice(stage={"replay": 0.5})
    slots = chosen.slots(16, 1, "words", ["words", "book"])
    chosen.learn(played(slots, [0.4 if slot.category in ("3", "8") else 0.1 for slot in slots]))
    before = {name: bandit.probabilities() for name, bandit in chosen.bandits.items()}
    assert before["words"]["3"] > before["words"]["4"]
    for slot in chosen.slots(16, 2, "words", ["words", "book"]):
        assert slot.pick.probability == before[slot.environment][slot.category]


def test_each_bandit_learns_from_its_own_slots() -> None:
    chosen = choice(stage={"replay": 0.5}, bandit={"type": "sec", "learning_rate": 1.0})
    slots = chosen.slots(8, 1, "words", ["words", "maze"])
    chosen.learn(played(slots, [0.5 if slot.environment == "maze" else 0.0 for slot in slots]))
    values = {record.bandit: record.value for record in chosen.arms() if record.arm in ("one", "3")}
    assert values == {"maze": 0.5, "words": 0.0}


def test_a_group_that_could_not_be_scored_counts_as_one_without_signal() -> None:
    chosen, twin = choice(), choice()
    for one, signal in ((chosen, None), (twin, 0.0)):
        one.learn(played(one.slots(8, 1, "words", ["words"]), [signal] * 8))
    assert list(chosen.arms()) == list(twin.arms())
    assert chosen.bandits["words"].state()["pending"] == []


def test_flat_mode_has_one_bandit_over_all_arms() -> None:
    chosen = choice(mode="flat")
    assert chosen.next_environment().pick is None
    slots = chosen.slots(200, 1, None, [])
    assert {(slot.environment, slot.category) for slot in slots} == {
        (name, category) for name, own in CATEGORIES.items() for category in own
    }
    assert {(slot.role, slot.level, slot.bandit) for slot in slots} == {("main", "flat", EVERYTHING)}
    assert all(slot.pick.probability == pytest.approx(1 / 6) for slot in slots)
    assert [record.arm for record in chosen.arms()] == sorted(f"{n}/{c}" for n, own in CATEGORIES.items() for c in own)


@pytest.mark.parametrize("mode", ["staged", "flat"])
def test_choosing_goes_on_from_its_state_after_json(mode: str) -> None:
    section: dict[str, Any] = {"mode": mode} | ({"scheduler": "uniform"} if mode == "staged" else {})
    one, other = choice(**section), choice(seed=5, **section)
    one.next_environment()
    one.learn(played(one.slots(8, 1, "words", ["words"]), [0.3] * 8, 0.5))
    other.load_state(json.loads(json.dumps(one.state())))
    assert other.slots(16, 2, "words", ["words"]) == one.slots(16, 2, "words", ["words"])
    assert [other.next_environment() for _ in range(5)] == [one.next_environment() for _ in range(5)]


def test_the_scheduler_hears_what_its_stage_earned() -> None:
    chosen, at = choice(scheduler="boltzmann"), Progress(num_stages=3, steps_per_stage=2)
    first = chosen.next_environment()
    at.begin_stage(first.pick)
    at.end_step([earning("3", [True, False], 0.3)])
    earned = chosen.end_stage(at, {})
    assert earned.reward == pytest.approx(0.3)
    arms = {arm.arm: arm for arm in chosen.arms() if arm.bandit == EVERYTHING}
    assert first.pick is not None
    assert arms[first.pick.arm].value == pytest.approx(0.3), "its first stage is its first estimate"
    at.begin_stage(chosen.next_environment().pick)
    assert chosen.end_stage(at, {}).reward is None, "a stage without groups teaches nothing"
    assert chosen.state()["scheduler"]["pending"] == []


def forked(parent: Choice, **section: Any) -> tuple[Choice, list[str]]:
    fork = choice(seed=5, **section)
    return fork, fork.load_state(json.loads(json.dumps(parent.state())))


def of_scheduler(chosen: Choice) -> dict[str, tuple[float | None, int]]:
    return {arm.arm: (arm.value, arm.num_picks) for arm in chosen.arms() if arm.bandit == EVERYTHING}


def test_a_scheduler_that_a_fork_pays_by_another_reward_begins_anew() -> None:
    parent, at = choice(scheduler="discounted_ucb"), Progress(num_stages=8, steps_per_stage=2)
    for _ in NAMES:
        at.begin_stage(parent.next_environment().pick)
        at.end_step([earning("3", [True, False], 0.3)])
        parent.end_stage(at, {})
    same, anew = forked(parent, scheduler={"type": "discounted_ucb", "width": 0.3})
    assert (anew, of_scheduler(same)) == ([], of_scheduler(parent))
    paid_in_gains = {"type": "discounted_ucb", "reward": "gain"}
    fork, anew = forked(parent, scheduler=paid_in_gains)
    assert anew == [REPAID]
    assert of_scheduler(fork) == dict.fromkeys(NAMES, (None, 0))
    assert forked(parent, scheduler={"type": "discounted_ucb", "scale": 2.0})[1] == [REPAID]
    assert forked(parent, scheduler={"type": "discounted_ucb", "scale": 1.0})[1] == [], "what it was by default"
    reads_correct = {"type": "headroom", "signal_reward": "correct"}
    assert forked(parent, scheduler="discounted_ucb", bandit=reads_correct)[1] == [RETOLD, REPAID]
    assert forked(choice(scheduler="round_robin"), scheduler="round_robin", bandit=reads_correct)[1] == [RETOLD]
    older = {name: value for name, value in parent.state().items() if name != "unit"}
    earlier = {**older, "reward": "gain"}
    assert choice(scheduler="discounted_ucb").load_state(earlier) == [REPAID]
    assert choice(scheduler=paid_in_gains).load_state(older) == [], "a state without the key says of no other"


def test_a_stage_that_began_without_scores_teaches_a_scheduler_nothing() -> None:
    chosen, at = choice(scheduler={"type": "discounted_ucb", "reward": "gain"}), Progress(8, 2)
    earned = []
    for score in (0.4, 0.6):
        at.begin_stage(chosen.next_environment().pick)
        at.stage_step = 2
        earned.append(chosen.end_stage(at, dict.fromkeys(NAMES, score)))
    assert [one.reward for one in earned] == [None, pytest.approx(GAIN_SCALE * 0.2)]
    assert earned[0].why.endswith("had no held-out score when its stage began (gain): not judged")
    assert [value for value, _ in of_scheduler(chosen).values() if value is not None] == [pytest.approx(1.0)]
    assert chosen.state()["scheduler"]["pending"] == []


def test_scores_of_held_out_tasks_that_are_others_now_are_compared_with_nothing() -> None:
    paid_in_gains, at = {"type": "discounted_ucb", "reward": "total_gain"}, Progress(8, 2)
    parent = choice(scheduler=paid_in_gains)
    parent.end_stage(at, dict.fromkeys(NAMES, 0.5))
    chosen, anew = forked(parent, scheduler=paid_in_gains)
    assert anew == []
    at.begin_stage(chosen.next_environment().pick)
    changed, trained = "maze", at.environment
    assert trained not in (None, changed)
    assert chosen.forget({"anchor": ["book"], "select": [changed, "numbers"]}) == [
        "the scheduler's held-out scores of maze, whose held-out tasks are others now"
    ]
    assert chosen.forget({"select": [changed]}) == [], "nothing is known of it any more"
    at.stage_step = 2
    earned = chosen.end_stage(at, {**dict.fromkeys(NAMES, 0.5), changed: 0.1, str(trained): 0.7})
    assert earned.reward == pytest.approx(GAIN_SCALE * 0.2), "the other tasks took nothing from it"
    assert chosen.forget({"select": [changed]}), "the next stage is compared with this one again"


@pytest.mark.parametrize("mode", ["staged", "flat"])
def test_bandits_that_a_fork_tells_another_signal_begin_anew(mode: str) -> None:
    usual = {"type": "sec", "signal_scale": "quantile"}
    parent = choice(mode=mode, bandit=usual)
    parent.learn(played(parent.slots(8, 1, "words", ["words"]), [0.3] * 8, 0.5))
    for changed in ({"signal": "standardised"}, {"signal_reward": "correct"}, {"signal_scale": "none"}):
        fork, anew = forked(parent, mode=mode, bandit={**usual, **changed})
        assert anew[0] == RETOLD
        assert anew[1:] == ([REPAID] if mode == "staged" and "signal_reward" in changed else [])
        assert list(fork.arms()) == list(choice(mode=mode, bandit=usual).arms())
        assert fork.state()["scales"] == {}
        older = {name: value for name, value in parent.state().items() if name not in ("told", "unit")}
        assert choice(mode=mode, bandit={**usual, **changed}).load_state(older) == []
    same, anew = forked(parent, mode=mode, bandit={**usual, "learning_rate": 0.1})
    assert (anew, [arm.value for arm in same.arms()]) == ([], [arm.value for arm in parent.arms()])


@pytest.mark.parametrize(
    ("scheduler", "unit"),
    [
        ({"type": "headroom"}, "mean |advantage|"),
        ({"type": "boltzmann", "reward": "retention"}, "retention"),
    ],
)
def test_a_pick_says_what_its_numbers_are(scheduler: dict[str, Any], unit: str) -> None:
    """Beside the probability of each environment stands what a stage of it is expected to earn, with its name."""
    chosen, at = choice(scheduler=scheduler), Progress(num_stages=4, steps_per_stage=2)
    for _ in NAMES:  # each has a first stage
        at.begin_stage(chosen.next_environment().pick)
        at.end_step([earning("3", [True, False], 0.3)])
        chosen.end_stage(at, dict.fromkeys(NAMES, 0.5))
    why = chosen.next_environment().why
    each = r"(words|book|maze) \d\.\d\d, \d\.\d{3}"
    assert re.search(rf"\(of each, and the {re.escape(unit)} expected of a stage: {each}; {each}; {each}\)$", why)


def test_the_signal_reads_value_or_correctness_as_the_spec_says() -> None:
    values, correct = [1.0, 0.5, 0.5, 0.0], [True, False, False, False]
    assert choice().signal(values, correct) == pytest.approx(0.25)
    assert choice(bandit={"signal_reward": "correct"}).signal(values, correct) == pytest.approx(0.375)
    assert choice(bandit={"signal": "leave_one_out"}).signal(values, correct) == pytest.approx(1 / 3)
    assert choice().signal([1.0], [True]) is None


def test_what_a_bandit_refuses_is_a_mistake_in_the_spec() -> None:
    with pytest.raises(SpecError, match=r"curriculum\.bandit: bandit\.weights must be at least 0"):
        choice(bandit={"type": "fixed", "weights": {"3": -1}})


def test_the_level_above_hears_the_raw_form_whatever_the_bandits_use() -> None:
    won = in_slot(group([1.0, 0.0, 0.0, 0.0]))
    for form in ("raw", "leave_one_out", "standardised"):
        chosen = choice(bandit={"signal": form})
        assert chosen.rate(won).raw_signal == pytest.approx(0.375)


def test_quantile_scaling_lets_environments_of_different_rewards_compare() -> None:
    """A dense reward's |advantage| is a tenth of a binary one's; scaled, both have the same say."""
    chosen = choice(mode="flat", bandit={"type": "sec", "signal_scale": "quantile", "learning_rate": 1.0})
    for step in range(40):
        slots = chosen.slots(30, step, None, [])
        size = [0.4 if slot.environment == "words" else 0.04 for slot in slots]
        best = [slot.category in ("3", "2", "one") for slot in slots]
        signals: list[float | None] = [s * (1.0 if b else 0.2) for s, b in zip(size, best, strict=True)]
        chosen.learn(played(slots, signals, 0.5))
    values = chosen.bandits[EVERYTHING].values()
    assert values["words/3"] == pytest.approx(1.0)
    assert values["book/2"] == pytest.approx(1.0)
    assert values["book/8"] == pytest.approx(0.0)
    again = choice(mode="flat", bandit={"type": "sec", "signal_scale": "quantile"}, seed=5)
    again.load_state(json.loads(json.dumps(chosen.state())))
    assert again.state() == chosen.state()


def test_the_state_of_many_arms_is_read_as_arrays_and_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: Any) -> Any:
        raise AssertionError("nothing by arm is made in a step")

    monkeypatch.setattr(Bandit, "by_arm", refused)
    many = {"words": {str(k): ArmInfo() for k in range(500)}}
    chosen = make_choice(CurriculumSection.model_validate({"mode": "flat", "stages": 1}), many, 0)
    first = chosen.arms()
    slots = chosen.slots(8, 1, None, [])
    picked = chosen.arms()
    chosen.learn(played(slots, [0.5] * 8))
    assert len(first) == len(chosen.arms()) == 500
    assert [sum(one.num_picks for one in arms) for arms in (first, picked)] == [0, 8]
    assert {one.value for one in picked} == {None} != {one.value for one in chosen.arms()}


def test_bandits_that_no_slot_came_from_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Counter[str]()
    whole = Bandit.standing

    def counted(bandit: Bandit) -> Standing:
        reads[bandit.arms[0]] += 1
        return whole(bandit)

    many = {f"env{k}": {f"only{k}": ArmInfo(), f"other{k}": ArmInfo()} for k in range(100)}
    section = {"stages": 1, "stage": {"replay": 0}}
    chosen = make_choice(CurriculumSection.model_validate(section), many, 0)
    chosen.arms()
    monkeypatch.setattr(Bandit, "standing", counted)
    slots = chosen.slots(8, 1, "env7", [])
    picked = list(chosen.arms())
    chosen.learn(played(slots, [0.5] * 8))
    learnt = list(chosen.arms())
    assert [reads[f"only{k}"] for k in range(100)] == [2 if k == 7 else 0 for k in range(100)]
    assert sum(arm.num_picks for arm in picked) == 8
    assert {arm.value for arm in picked} == {None} != {arm.value for arm in learnt if arm.bandit == "env7"}
    assert (len(learnt), learnt[0].bandit, learnt[-1].bandit) == (300, "env0", EVERYTHING)


def test_arms_are_read_anew_from_a_state_and_after_a_quarantine() -> None:
    taught, fresh = choice(), choice()
    fresh.arms()
    taught.learn(played(taught.slots(8, 1, "words", ["words"]), [0.5] * 8))
    fresh.load_state(taught.state())
    assert list(fresh.arms()) == list(taught.arms())
    stopped = choice(quarantine={"after": 1, "steps": 10})
    before = len(stopped.arms())
    unscored = [in_slot(group([None]), slot) for slot in stopped.slots(8, 1, "words", ["words"])]
    assert stopped.set_aside(unscored, 1)
    assert len(stopped.arms()) < before


NODES = {str(k): ArmInfo(10, {"node_0": k // 2, "node_1": k % 2}) for k in range(3)}
TOLD = {"words": NODES, "book": NODES}


@pytest.mark.parametrize("mode", ["staged", "flat"])
@pytest.mark.parametrize("bandit", ["linucb", "beta_thompson_tree"])
def test_what_is_known_of_categories_is_told_of_those_that_join_or_come_back(mode: str, bandit: str) -> None:
    """linucb refused them, which failed the fork or the run, and a tree had them as children of its root."""
    section = CurriculumSection.model_validate({"mode": mode, "bandit": bandit, "quarantine": {"after": 1}})
    whole = make_choice(section, TOLD, 0)
    begun = make_choice(section, {name: {"0": own["0"], "2": own["2"]} for name, own in TOLD.items()}, 0)
    stopped = make_choice(section, TOLD, 0)
    for name, own in TOLD.items():
        for category in own:
            stopped.do_without(NoTasks("", name, category, "none left"), 1)
    for left in (begun, stopped):
        again = make_choice(section, TOLD, 0)
        again.load_state(json.loads(json.dumps(left.state())))
        assert [one.probabilities() for one in again.bandits.values()] == [
            one.probabilities() for one in whole.bandits.values()
        ]
