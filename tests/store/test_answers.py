from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest

from store.answers import (
    KEPT_WHOLE,
    corrected_entropy,
    counted,
    disagreement,
    entropy,
    maj_at_k,
    normalised,
    pass_at_k,
)
from store.records import AnswerCount

NEAR = 1e-6
THREE = (0.5, 0.25, 0.25)


def test_the_entropy_of_answers_of_the_plasticity_reference() -> None:
    counts = [5, 2, 1]
    assert entropy(counts) == pytest.approx(0.900256, abs=NEAR)
    assert corrected_entropy(counts) == pytest.approx(1.025256, abs=NEAR)
    assert math.exp(entropy(counts)) == pytest.approx(2.460233, abs=NEAR)
    assert disagreement(counts) == pytest.approx(0.607143, abs=NEAR)
    assert (entropy([8]), disagreement([8]), disagreement([1])) == (0.0, 0.0, None)
    assert all(math.copysign(1, entropy([n])) == 1 for n in range(1, 65)), "rounding makes none of one answer negative"
    assert entropy([1] * 8) == pytest.approx(math.log(8)), "the most that N samples can have"


@pytest.mark.parametrize(
    ("n", "plug_in", "corrected"),
    [(4, 0.729409, 0.892495), (8, 0.895452, 1.007694), (16, 0.973219, 1.035092), (32, 1.007651, 1.038898)],
)
def test_the_bias_of_both_estimates_of_the_plasticity_reference(n: int, plug_in: float, corrected: float) -> None:
    """Expectations over all counts of n samples from (.5, .25, .25), whose entropy is 1.039721."""
    found = [0.0, 0.0]
    for a in range(n + 1):
        for b in range(n + 1 - a):
            counts = (a, b, n - a - b)
            ways = math.comb(n, a) * math.comb(n - a, b)
            chance = ways * math.prod(p**k for p, k in zip(THREE, counts, strict=True))
            found[0] += chance * entropy(counts)
            found[1] += chance * corrected_entropy(counts)
    assert found == pytest.approx([plug_in, corrected], abs=1e-5)


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (10, 3, 1, 0.3),
        (10, 3, 5, 0.916667),
        (10, 3, 10, 1.0),
        (4, 1, 4, 1.0),  # the biased 1 - (1 - c/n)^k says .683594
        (8, 0, 4, 0.0),
        (8, 8, 4, 1.0),
        (8, 1, 4, 0.5),
    ],
)
def test_pass_at_k_of_the_plasticity_reference(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-6)


def of(*answers: tuple[str | None, int, int]) -> list[AnswerCount]:
    return [AnswerCount(*one) for one in answers]


@pytest.mark.parametrize(("k", "expected"), [(1, 0.5), (3, 0.6), (6, 1.0)])
def test_maj_at_k_of_the_plasticity_reference(k: int, expected: float) -> None:
    assert maj_at_k(of(("A", 3, 3), ("B", 2, 0), ("C", 1, 0)), k) == pytest.approx(expected, abs=NEAR)


def drawn_one_by_one(answers: list[AnswerCount], k: int) -> float:
    """maj@k by going through every draw."""
    samples = [one.text for one in answers for _ in range(one.num)]
    worth = {one.text: one.num_correct / one.num for one in answers}
    total, draws = 0.0, list(itertools.combinations(samples, k))
    for draw in draws:
        counts = Counter(text for text in draw if text is not None)
        leaders = [text for text, n in counts.items() if n == max(counts.values())]
        total += sum(worth[text] for text in leaders) / len(leaders) if leaders else 0.0
    return total / len(draws)


@pytest.mark.parametrize("seed", range(12))
def test_maj_at_k_is_the_mean_over_all_draws(seed: int) -> None:
    rng = random.Random(seed)
    texts = rng.choices(["a", "b", "c", "d", "e", None], [4, 3, 2, 1, 1, 2], k=9)
    answers = list(counted((text, text is not None and rng.random() < 0.4) for text in texts))
    for k in (1, 2, 3, 4, 6, 9):
        assert maj_at_k(answers, k) == pytest.approx(drawn_one_by_one(answers, k), abs=1e-12), (answers, k)


def test_a_majority_of_no_answers_is_wrong_and_too_few_samples_have_none() -> None:
    assert maj_at_k(of((None, 6, 0), ("a", 2, 2)), 1) == 0.25
    assert maj_at_k(of((None, 6, 0), ("a", 2, 2)), 8) == 1.0, "no answer counts only where there is no other"
    assert maj_at_k(of((None, 8, 0)), 4) == 0.0
    assert maj_at_k(of(("a", 3, 3)), 4) is None


def test_sixty_four_different_answers_take_no_time() -> None:
    answers = of(*((str(n), 1, n == 0) for n in range(64)))
    assert maj_at_k(answers, 16) == pytest.approx(1 / 64)


def test_answers_are_counted_without_order_and_long_ones_stay_told_apart() -> None:
    assert counted([("b", False), ("a", True), (None, False), ("a", False)]) == (
        AnswerCount("a", 2, 1),
        AnswerCount("b", 1, 0),
        AnswerCount(None, 1, 0),
    )
    assert normalised("  3 \n apples ") == "3 apples"
    assert (normalised("  "), normalised(None)) == (None, None)
    long = ["x" * 1000 + end for end in "ab"]
    short = [normalised(text) for text in long]
    assert len(set(short)) == 2
    assert all(text is not None and len(text) <= KEPT_WHOLE for text in short)
