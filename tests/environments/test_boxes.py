import itertools
import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from environments import Box, EnvironmentFault, EnvironmentSource, first_tasks, validate
from environments.boxes import INDICES, MOST_CELLS
from tests.environments.checker.here import findings_here
from tests.environments.fakes import create as fake

PLANE = Box(("length", "share"), (3, 0.0), (12, 0.5), (True, False))


def test_an_environment_has_no_box_unless_it_says_so():
    assert fake("numbers").box("easy") is None


def test_whole_numbers_are_levels_as_they_are_and_real_ones_are_cut_into_64():
    assert (PLANE.levels, PLANE.num_cells) == ((10, 64), 640)
    found = [PLANE.values(cell) for cell in range(640)]
    assert {values["length"] for values in found} == set(range(3, 13))
    shares = sorted({values["share"] for values in found})
    assert (len(shares), shares[0], shares[-1]) == (64, 0.0, 0.5)
    assert np.diff(shares) == pytest.approx([0.5 / 63] * 63)
    assert all(isinstance(values["length"], int) for values in found)


def test_a_long_whole_range_and_many_dimensions_have_fewer_levels():
    long = Box(("value",), (1,), (10_000,), (True,))
    values = [long.values(cell)["value"] for cell in range(long.num_cells)]
    assert (len(set(values)), min(values), max(values)) == (64, 1, 10_000)
    names = tuple("abcdef")
    many = Box(names, (0.0,) * 6, (1.0,) * 6, (False,) * 6)
    assert many.levels == (8,) * 6
    assert many.num_cells <= MOST_CELLS
    assert many.num_tasks >= 4096


@pytest.mark.parametrize(
    ("point", "values"),
    [
        ((0.0, 0.0), {"length": 3, "share": 0.0}),
        ((1.0, 1.0), {"length": 12, "share": 0.5}),
        ((0.0999, 0.0), {"length": 3, "share": 0.0}),
        ((0.1001, 0.999), {"length": 4, "share": 0.5}),
    ],
)
def test_a_point_of_the_unit_box_has_the_values_of_its_cell(point, values):
    assert PLANE.values(PLANE.cell_of(np.array(point))) == values


def test_uniform_points_are_uniform_over_the_values():
    lengths = [PLANE.values(PLANE.cell_of(p))["length"] for p in np.random.default_rng(0).random((5000, 2))]
    assert np.bincount(lengths)[3:].min() > 400


def test_an_index_tells_its_cell_and_a_cell_its_indices():
    for cell, number in itertools.product(range(0, 640, 37), (0, 1, 1000, PLANE.num_tasks - 1)):
        index = PLANE.index(cell, number)
        assert 0 <= index < INDICES
        assert PLANE.cell(index) == cell
        assert PLANE.cell_of(PLANE.point(index)) == cell


@pytest.mark.parametrize("number", [-1, PLANE.num_tasks])
def test_no_index_grows_out_of_what_generators_take(number):
    with pytest.raises(ValueError, match=f"has {PLANE.num_tasks} tasks"):
        PLANE.index(0, number)


def test_indices_from_0_sweep_the_box_and_the_first_64_are_spread_over_it():
    assert sorted(PLANE.cell(index) for index in range(640)) == list(range(640))
    points = np.array([PLANE.point(index) for index in range(64)])
    quarters, counts = np.unique((points * 2).astype(int) @ [2, 1], return_counts=True)
    assert quarters.tolist() == [0, 1, 2, 3]
    assert counts.min() >= 9
    assert {PLANE.values(PLANE.cell(index))["length"] for index in range(64)} == set(range(3, 13))


def test_the_order_of_cells_never_changes():
    """A task's index is its name in ledgers: this order is part of the format."""
    assert [PLANE.cell(index) for index in range(8)] == [410, 366, 503, 254, 566, 203, 543, 319]


def test_the_points_of_a_cell_fill_it_evenly():
    inside = np.array([PLANE.point(PLANE.index(77, number)) for number in range(2000)]) * PLANE.levels
    low = inside.min(axis=0)
    assert np.floor(inside).astype(int).tolist() == [np.floor(low).astype(int).tolist()] * 2000
    for k in range(2):
        assert np.histogram(inside[:, k] % 1, 5, (0, 1))[0].min() > 330


def test_the_nearest_cells_come_in_the_order_of_their_distance():
    line = Box(("n",), (0,), (4,), (True,))
    assert line.nearest(1).tolist() == [1, 0, 2, 3, 4]
    assert PLANE.nearest(100)[0] == 100


def test_the_corners_have_every_parameter_at_an_end():
    assert [PLANE.values(cell) for cell in PLANE.corners()] == [
        {"length": length, "share": share} for length in (3, 12) for share in (0.0, 0.5)
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((), (), (), ()), "at least 1"),
        ((("a",), (1,), (2, 3), (True,)), "of one length"),
        ((("a",), (2,), (2,), (True,)), "a: a range goes up"),
        ((("a",), (0.0,), (float("inf"),), (False,)), "a: a range goes up"),
        ((("a",), (0.5,), (3,), (True,)), "ends at whole numbers"),
        ((tuple("abcdefghijklmnopqrs"), (0,) * 19, (1,) * 19, (True,) * 19), "it takes 18 at most"),
    ],
)
def test_a_box_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Box(*arguments)


# Boxes of reasoning_gym

pytest.importorskip("reasoning_gym")

WORDS = {"min_word_len + max_word_len": [3, 10]}


def options(dataset="spell_backward", **given):
    return {"dataset": dataset, **given}


def gym(**given):
    return EnvironmentSource("words", "reasoning_gym", options(**given)).create(tell=lambda text: None)


@pytest.fixture(scope="module")
def spelling():
    return gym(parameters=WORDS)


def test_parameters_make_one_category_named_box(spelling):
    (category,) = spelling.categories
    assert (category.name, category.trainable, category.parameters) == ("box", True, WORDS)
    assert spelling.size("box") is None
    both = gym(parameters=WORDS, categories={"3": {"min_word_len": 3, "max_word_len": 3}})
    assert [category.name for category in both.categories] == ["3", "box"]
    assert both.box("3") is None


@pytest.mark.parametrize(
    "given", [{}, {"parameters": WORDS}, {"parameters": {"min_word_len": [3, 8]}, "categories": {"a": {}}}]
)
def test_resolved_options_make_the_same_categories(given):
    resolved = validate("reasoning_gym", options(**given))
    again = validate("reasoning_gym", resolved.model_dump(mode="json"))
    assert again.option_sets == resolved.option_sets


def test_a_category_may_have_parameters_beside_fixed_options():
    inside = gym(categories={"any": {"max_word_len": 8, "parameters": {"min_word_len": [3, 8]}, "trainable": False}})
    (category,) = inside.categories
    assert (category.name, category.trainable) == ("any", False)
    assert category.parameters == {"max_word_len": 8, "min_word_len": [3, 8]}
    box = inside.box("any")
    at_least = [box.values(box.cell(index))["min_word_len"] for index in range(60)]
    lengths = [len(inside.task("any", index).answer) for index in range(60)]
    assert all(least <= length <= 8 for least, length in zip(at_least, lengths, strict=True))
    assert len(set(lengths)) > 3


def test_a_task_is_of_the_cell_its_index_tells(spelling):
    box = spelling.box("box")
    for index in [*range(40), 2**30 - 1, 2**31 - 2]:
        (length,) = box.values(box.cell(index)).values()
        assert len(spelling.task("box", index).answer) == length


def test_a_task_depends_on_category_and_index_alone(spelling):
    again = gym(parameters=WORDS)
    assert [again.task("box", index) for index in (70, 3)] == [spelling.task("box", index) for index in (70, 3)]


def test_a_task_of_a_box_is_scored_by_a_copy_that_never_made_it(spelling):
    task = pickle.loads(pickle.dumps(spelling.task("box", 12)))
    elsewhere = EnvironmentSource("words", "reasoning_gym", options(parameters=WORDS)).build()
    assert elsewhere.score(task, task.answer).correct
    assert not elsewhere.score(task, task.answer[::-1] + "x").correct


def test_the_first_tasks_of_a_pool_cover_the_box(spelling):
    lengths = [len(task.answer) for task in first_tasks(spelling, "box", "anchor", 32)]
    assert set(lengths) == set(range(3, 11))


def test_whole_numbers_are_whole_where_both_ends_are_and_the_option_takes_no_others():
    assert gym(dataset="gcd", parameters={"max_value": [10, 90]}).box("box").whole == (True,)
    real = gym(dataset="letter_jumble", parameters={"min_corruption_level": [0, 0.5]}).box("box")
    assert real.whole == (False,)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            options(parameters={"min_word_len": [3, 12]}),
            "refuses the corner min_word_len = 12 of its parameters",
        ),
        (options(parameters={"min_word_len": [3, 12]}), "narrow a range, .* or join names by '\\+'"),
        (options(parameters={"min_wrd_len": [3, 8]}), "no option 'min_wrd_len'; did you mean min_word_len"),
        (options(parameters={"min_word_len": [8, 3]}), "min_word_len: a range goes up"),
        (options(parameters={"min_word_len": [3]}), "min_word_len: expected a range"),
        (options(parameters={"min_word_len": [3.5, 8]}), "min_word_len takes whole numbers"),
        (options(parameters={}), "names 1 to 6 options"),
        (options(parameters={"data_file": [1, 2]}), "data_file is no number that spell_backward"),
        (options(parameters={"seed": [1, 2]}), "seed is no number that"),
        (
            options(parameters={"min_word_len": [3, 4], "min_word_len + max_word_len": [3, 5]}),
            "has two ranges",
        ),
        (options(categories={"a": {"parameters": 3}}), "names 1 to 6 options"),
        (options(categories={"a": {"parameters": {"min_word_len": [3, 5]}, "size": 9}}), "a box never ends"),
        (
            options(categories={"a": {"parameters": {"min_word_len": [3, 5]}, "min_word_len": 4}}),
            "has a value and a range",
        ),
        (options(categories={"box": {}}, parameters=WORDS), "give that one another name"),
        (
            options(dataset="acre", parameters={"train": [1, 2]}),
            "acre lays out all its tasks when it is built",
        ),
    ],
)
def test_a_box_that_a_data_set_cannot_have_is_refused_by_name_and_with_a_remedy(given, words):
    with pytest.raises(ValidationError, match=words):
        validate("reasoning_gym", given)


def test_a_corner_that_leaves_nothing_to_ask_is_found_when_the_environment_is_opened():
    with pytest.raises(EnvironmentFault, match=r"could not make task \d+ at min_word_len\+max_word_len = 12"):
        gym(parameters={"min_word_len+max_word_len": [3, 12]})


@pytest.mark.parametrize(
    "given",
    [
        options(parameters=WORDS),
        options(dataset="gcd", parameters={"min_value": [1, 9], "max_value": [10, 2000]}, answer="tag"),
    ],
)
def test_the_checker_finds_nothing_in_a_box(given):
    found = findings_here(EnvironmentSource("boxed", "reasoning_gym", given))
    assert [str(finding) for finding in found if finding.severity != "note"] == []
