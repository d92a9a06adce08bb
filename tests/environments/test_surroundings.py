"""What is lent to foreign code: generators of an episode's own."""

from __future__ import annotations

import random

import numpy as np

from environments.surroundings import OwnRandomState


def drawn() -> tuple[float, float, float]:
    return random.random(), np.random.random(), np.random.normal()


def test_an_episode_goes_on_with_numbers_of_its_own_and_leaves_the_others_theirs() -> None:
    random.seed(1)
    np.random.seed(1)
    before = [drawn(), drawn()]
    random.seed(1)
    np.random.seed(1)
    own, after = OwnRandomState(7), [drawn()]
    with own.lent():
        seen = [drawn()]
    after.append(drawn())
    with own.lent():
        seen.append(drawn())
    assert after == before
    python, numpy = random.Random(7), np.random.RandomState(7)
    assert seen == [(python.random(), numpy.random_sample(), numpy.normal()) for _ in range(2)]
