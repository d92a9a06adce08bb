"""Replay by rule: from where a stage's replayed groups come, with which probability, and what was looked at."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from orchestrator.choosing.choice import Choice, make_choice
from orchestrator.choosing.replay import SPREAD, Replay
from orchestrator.progress import Progress
from orchestrator.spec.sections import CurriculumSection, ReplayRule
from store.records import CellRecord, HoldoutQueryRecord, ItemRecord
from tests.orchestrator.choosing.test_choice import CATEGORIES

TRAINABLE = {"words": ["3"], "book": ["2"], "maze": ["one"]}
OTHERS = ["book", "words"]


def items(environment: str, category: str, *corrects: int, num_scored: int = 4) -> list[ItemRecord]:
    return [ItemRecord(environment, category, f"{n}", num_scored, c, float(c), 0.0, 1) for n, c in enumerate(corrects)]


def accuracy(environment: str, value: float, split: str = "anchor") -> CellRecord:
    return CellRecord(environment, None, "pass_1", value, None, 2, 4, split)


def due(window: int = 3) -> Replay:
    """Make one that saw: words lost one task after stage 1 and one after stage 2, book lost one after stage 2."""
    rule = Replay("due", window, TRAINABLE)
    rule.observe(0, [], [*items("words", "3", 4, 4, 0), *items("book", "2", 4, 0)])
    rule.observe(1, [], [*items("words", "3", 0, 4, 0), *items("book", "2", 4, 0)])
    rule.observe(2, [], [*items("words", "3", 0, 1, 0), *items("book", "2", 2, 0)])
    return rule


def test_due_weighs_losses_by_how_soon_they_leave_the_window() -> None:
    """In stage 3 the losses of words are 2 stages and 1 stage old, that of book 1 stage."""
    weights = {"words": 2 / 3 + 1 / 3, "book": 1 / 3}
    shares = [weights[name] / sum(weights.values()) for name in OTHERS]
    expected = [(1 - SPREAD) * share + SPREAD / 2 for share in shares]
    assert due().chances(OTHERS).tolist() == pytest.approx(expected)
    said = "due replay from book 0.28 (1 lost, the first after stage 2), words 0.73 (2 lost, the first after stage 1)"
    assert due().why(OTHERS) == said


def test_a_loss_that_is_older_than_the_window_weighs_less_again_and_a_repaired_one_nothing() -> None:
    rule = due(window=2)
    rule.observe(5, [], [*items("words", "3", 0, 4, 0), *items("book", "2", 4, 0)])
    looks = rule.observe(5, [accuracy("words", 0.2), accuracy("book", 0.5, "own")], [])
    assert looks == [
        HoldoutQueryRecord("words", None, "anchor", "replay", 2 / 5),  # lost after stage 1, before stage 6
        HoldoutQueryRecord("book", None, "own", "replay", 0),
    ]


def test_weakest_weighs_by_the_fall_from_the_best() -> None:
    rule = Replay("weakest", 1, TRAINABLE)
    rule.observe(0, [accuracy("words", 0.4), accuracy("book", 0.5), accuracy("maze", 0.0)], [])
    rule.observe(1, [accuracy("words", 0.8), accuracy("book", 0.4), accuracy("maze", 0.01)], [])
    rule.observe(2, [accuracy("words", 0.2)], [])  # the others were not evaluated: they count as before
    weights = [1 - 0.4 / 0.5, 0.0, 1 - 0.2 / 0.8]  # the maze was never learnt
    shares = [weight / sum(weights) for weight in weights]
    expected = [(1 - SPREAD) * share + SPREAD / 3 for share in shares]
    assert rule.chances(["book", "maze", "words"]).tolist() == pytest.approx(expected)
    assert "words 0.74 (accuracy 0.20, at best 0.80)" in rule.why(["book", "maze", "words"])


def test_without_losses_all_are_alike_and_only_trainable_categories_count() -> None:
    rule = Replay("due", 3, TRAINABLE)
    assert rule.chances(OTHERS).tolist() == [0.5, 0.5]
    rule.observe(0, [], items("words", "kept", 4, 4))
    rule.observe(1, [], items("words", "kept", 0, 0))
    assert rule.chances(OTHERS).tolist() == [0.5, 0.5]


def test_a_task_that_could_not_be_scored_stays_what_it_was() -> None:
    rule = Replay("due", 3, TRAINABLE)
    rule.observe(0, [], items("words", "3", 4))
    rule.observe(1, [], items("words", "3", 0, num_scored=0))
    assert rule.chances(OTHERS).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("rule", ["due", "weakest"])
def test_what_is_known_survives_json(rule: ReplayRule) -> None:
    one, other = due(), Replay(rule, 3, TRAINABLE)
    one.rule = rule
    one.observe(3, [accuracy("words", 0.5)], [])
    one.observe(4, [accuracy("words", 0.25)], [])
    other.load_state(json.loads(json.dumps(one.state())))
    assert other.chances(OTHERS).tolist() == one.chances(OTHERS).tolist()
    more = [*items("words", "3", 4, 0, 4), *items("book", "2", 0, 0)]
    assert one.observe(5, [accuracy("words", 0.3)], more) == other.observe(5, [accuracy("words", 0.3)], more)


def choice(rule: str, seed: int = 0) -> Choice:
    stage = {"replay": {"share": 0.5, "rule": rule, "from": "all"}}
    return make_choice(CurriculumSection.model_validate({"stage": stage}), CATEGORIES, seed)


def seen(chosen: Choice) -> list[HoldoutQueryRecord]:
    first, second = Progress(3, 2), Progress(3, 2, stage=1)
    chosen.look(first, [accuracy("book", 0.8), accuracy("maze", 0.5)], items("book", "2", 4, 4))
    return chosen.look(second, [accuracy("book", 0.2), accuracy("maze", 0.5)], items("book", "2", 0, 0))


@pytest.mark.parametrize("rule", ["due", "weakest"])
def test_slots_are_drawn_with_the_probabilities_that_they_carry(rule: str) -> None:
    chosen = choice(rule)
    assert [look.asker for look in seen(chosen)] == ["replay", "replay"]
    slots = [slot for step in range(100) for slot in chosen.slots(40, step, "words", ["words"])]
    replayed = [slot for slot in slots if slot.role == "replay"]
    chances = {slot.environment: slot.drawn_with for slot in replayed}
    assert len(replayed) == 2000
    assert chances == pytest.approx({"book": 0.95, "maze": 0.05})
    assert Counter(slot.environment for slot in replayed)["maze"] == pytest.approx(100, abs=35)
    assert {slot.drawn_with for slot in slots if slot.role == "main"} == {None}
    assert all(slot.pick.probability <= 1 for slot in replayed), "of the category alone, as its bandit drew it"
    assert "book 0.95" in chosen.why_replay("words", ["words"])


def test_a_rule_goes_on_from_its_state_and_begins_anew_where_there_is_none() -> None:
    one, other = choice("due"), choice("due", seed=5)
    other.seed = one.seed
    seen(one)
    assert other.load_state(json.loads(json.dumps(one.state()))) == []
    assert other.slots(16, 2, "words", ["words"]) == one.slots(16, 2, "words", ["words"])
    plain = choice("random")
    assert seen(plain) == [], "nothing is looked at"
    assert "replay" not in plain.state(), "what a checkpoint of random replay holds is what it held"
    assert choice("due").load_state(plain.state()) == ["what due replay knows of lost tasks"]
    assert plain.why_replay("words", ["words"]) == ""


@pytest.mark.parametrize("rule", ["due", "weakest"])
def test_tasks_that_are_others_now_were_not_lost(rule: str) -> None:
    chosen = choice(rule)
    seen(chosen)
    assert chosen.forget({"select": ["maze"], "anchor": ["book", "words"]}) == [
        f"what {rule} replay knows of book, whose held-out tasks are others now"
    ]
    assert "book 0.50 (not measured), maze 0.50 (" in chosen.why_replay("words", ["words"])
    chosen.look(Progress(3, 2, stage=2), [accuracy("book", 0.1)], items("book", "2", 0, 0))
    assert chosen.slots(40, 5, "words", ["words"])[-1].drawn_with == 0.5, "none of these was ever solved"
    assert chosen.forget({"anchor": ["book"]}), "it is known again"


def test_random_replay_as_a_map_is_what_a_number_is() -> None:
    number = make_choice(CurriculumSection.model_validate({"stage": {"replay": 0.5, "from": "all"}}), CATEGORIES, 0)
    for step in range(5):
        assert choice("random").slots(16, step, "words", []) == number.slots(16, step, "words", [])
        number = make_choice(CurriculumSection.model_validate({"stage": {"replay": 0.5, "from": "all"}}), CATEGORIES, 0)


def test_the_order_of_categories_changes_no_bit() -> None:
    """A checkpoint has them by name."""
    lost = {"z": 4, "m": 4, "a": 1}  # by category: the stage after which its task was lost
    one, other = (Replay("due", 7, {"words": lost}) for _ in range(2))
    for stage in range(5):
        one.observe(stage, [], [item for name, at in lost.items() for item in items("words", name, 4 * (stage < at))])
    other.load_state(json.loads(json.dumps(one.state(), sort_keys=True)))
    look = [accuracy("words", 0.5)]
    assert one.observe(4, look, []) == other.observe(4, look, [])
