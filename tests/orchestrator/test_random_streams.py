from __future__ import annotations

import pytest

from orchestrator import random_streams


@pytest.mark.parametrize(
    ("seed", "name", "first"),
    [
        (0, ("policy",), 812859846),
        (1, ("policy",), 1507038512),
        (0, ("bandits", "words"), 619589233),
    ],
)
def test_a_stream_is_the_same_for_ever(seed: int, name: tuple[str, ...], first: int) -> None:
    """These numbers hold on every machine and in every version: all runs begin with them."""
    assert random_streams.integer(seed, *name) == first


def test_streams_of_other_names_and_seeds_are_other_streams() -> None:
    names = [("a",), ("b",), ("a", "b"), ("ab",), ("b", "a")]
    drawn = {
        tuple(random_streams.generator(seed, *name).integers(2**31, size=3)) for seed in (0, 1, 2) for name in names
    }
    assert len(drawn) == 15


def test_asking_for_one_stream_leaves_another_alone() -> None:
    generator = random_streams.generator(0, "a")
    first = generator.random()
    random_streams.generator(0, "b").random(100)
    again = random_streams.generator(0, "a")
    assert (again.random(), again.random()) == (first, generator.random())


def test_an_integer_is_below_its_bound() -> None:
    assert {random_streams.integer(seed, "x", below=3) for seed in range(40)} == {0, 1, 2}
