"""Levels of reasoning_gym's own curricula as categories."""

import sys

import pytest
from pydantic import ValidationError

from environments import EnvironmentSource, validate
from environments.reasoning_gym import HASH_ORDERED, level_options

reasoning_gym = pytest.importorskip("reasoning_gym")
LIBRARY = reasoning_gym.factory

# Which the library's own configuration refuses, with its reason (0.1.25).
REFUSED = {
    "caesar_cipher": ({2}, "rotation must be in range"),
    "knight_swap": ({0, 1, 2, 3, 4}, "min_nodes must be >= 6"),
    "modulo_grid": ({1}, "max_target must be greater than 0"),
    "rubiks_cube": ({4}, "cube_size must be less than 7"),
    "survo": ({2, 3}, "max_empty must be <= 9"),
}
NO_LEVELS = ("acre", "gsm_symbolic", "list_functions")
WITH_LEVELS = sorted(set(LIBRARY.CURRICULA) - {"composite"})


def gym(dataset, **options):
    return EnvironmentSource("words", "reasoning_gym", {"dataset": dataset, **options}).create()


def errors(**options):
    with pytest.raises(ValidationError) as caught:
        validate("reasoning_gym", options)
    return [(error["loc"][0], error["msg"]) for error in caught.value.errors()]


def test_a_level_is_a_category_with_its_options_and_its_level():
    words = gym("spell_backward", levels=[1, 3])
    assert [(category.name, dict(category.parameters)) for category in words.categories] == [
        ("level-1", {"min_word_len": 3, "max_word_len": 5, "level": 1}),
        ("level-3", {"min_word_len": 3, "max_word_len": 9, "level": 3}),
    ]
    assert words.size("level-1") is None
    assert {len(words.task("level-1", i).answer) for i in range(60)} == {3, 4, 5}
    assert all(words.score(task, task.answer).correct for task in (words.task("level-3", i) for i in range(5)))


def test_a_number_means_the_first_so_many():
    assert [category.name for category in gym("gcd", levels=2).categories] == ["level-0", "level-1"]


def test_options_that_are_no_numbers_are_set_too():
    tasks = gym("calendar_arithmetic", levels=[0]).categories[0].parameters["tasks"]
    assert tasks == ["weekday_of_date"]


def test_tasks_are_those_of_the_same_options_written_by_hand():
    own = gym("chain_sum", levels=[2], seed=5)
    options = {key: value for key, value in own.categories[0].parameters.items() if key != "level"}
    hand = gym("chain_sum", categories={"mine": options}, seed=5)
    assert [own.task("level-2", i).key for i in (0, 7)] == [hand.task("mine", i).key for i in (0, 7)]
    assert own.task("level-2", 7) == gym("chain_sum", levels=[2], seed=5).task("level-2", 7)


def test_a_category_written_by_hand_may_tell_its_level_and_stand_beside_others():
    words = gym("spell_backward", levels=1, categories={"long": {"min_word_len": 9, "level": 4.5}})
    assert [(c.name, c.parameters["level"]) for c in words.categories] == [("long", 4.5), ("level-0", 0)]
    assert words.task("long", 0).answer


def test_a_data_set_that_checks_no_options_is_taken_as_it_is():
    powers = gym("power_function", levels=2)
    assert powers.score(powers.task("level-1", 0), powers.task("level-1", 0).answer).correct


@pytest.mark.parametrize("dataset", NO_LEVELS)
def test_a_data_set_without_levels_is_refused_and_says_what_to_do(dataset):
    ((location, message),) = errors(dataset=dataset, levels=3)
    assert location == "levels"
    assert f"{dataset} has no levels of its own; write `categories`" in message


@pytest.mark.parametrize("levels", [0, 6, [5], [-1], [], [1, 1]])
def test_levels_that_are_not_there_are_refused_with_those_there_are(levels):
    ((location, message),) = errors(dataset="spell_backward", levels=levels)
    assert location == "levels"
    assert "has levels 0 to 4" in message


def test_a_last_level_that_only_repeats_the_one_before_is_none():
    assert list(level_options(LIBRARY, "mini_sudoku", 4))[-1] == "level-3"
    assert "has levels 0 to 3" in errors(dataset="mini_sudoku", levels=5)[0][1]


@pytest.mark.parametrize(
    ("dataset", "level", "reason"),
    [
        (dataset, level, reason)
        for dataset, (refused, reason) in REFUSED.items()
        for level in sorted(refused)
        if dataset not in HASH_ORDERED
    ],
)
def test_a_level_that_the_data_set_itself_refuses_is_named(dataset, level, reason):
    ((location, message),) = errors(dataset=dataset, levels=[level])
    assert location == "levels"
    assert f"category 'level-{level}': {dataset} refuses its options: {reason}" in message


def test_a_name_that_is_taken_is_refused():
    ((location, message),) = errors(dataset="gcd", levels=1, categories={"level-0": {}})
    assert location == "levels"
    assert "give that one another name" in message


def test_a_level_is_a_number():
    assert "level is a number, not 'hard'" in errors(dataset="gcd", categories={"a": {"level": "hard"}})[0][1]


@pytest.mark.slow
@pytest.mark.parametrize("dataset", WITH_LEVELS)
def test_every_data_set_with_levels_has_tasks_at_its_easiest_two(dataset):
    if dataset in HASH_ORDERED and sys.flags.hash_randomization:
        pytest.skip("needs PYTHONHASHSEED=0")
    refused, _ = REFUSED.get(dataset, (set(), ""))
    levels = [level for level in (0, 1) if level not in refused]
    if not levels:
        return
    environment = gym(dataset, levels=levels)
    again = gym(dataset, levels=levels)
    for level in levels:
        task = environment.task(f"level-{level}", 0)
        assert task.key == again.task(f"level-{level}", 0).key
        assert task.answer is None or environment.score(task, task.answer).correct


@pytest.mark.slow
@pytest.mark.parametrize("dataset", sorted(set(WITH_LEVELS) - HASH_ORDERED))
def test_every_other_level_is_accepted(dataset):
    refused, _ = REFUSED.get(dataset, (set(), ""))
    there = [level for level in range(64) if level not in refused and _is_there(dataset, level)]
    assert there
    validate("reasoning_gym", {"dataset": dataset, "levels": there})


def _is_there(dataset, level):
    try:
        return bool(level_options(LIBRARY, dataset, [level]))
    except ValueError:
        return False
