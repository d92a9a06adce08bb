"""One rule decides: p, interval, verdict and sentence say the same, as often as they promise."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import permutation_test

from store.comparison import facts, sentences
from store.comparison import statistics as s
from store.comparison.result import Beside
from store.comparison.scores import Pair
from store.errors import ComparisonError
from store.intervals import Interval, t_interval
from store.ledger import Ledger
from tests.store.comparison.conftest import Compare
from tests.store.comparison.runs import Made, eight, written

Fresh = Callable[[], str]
ONE_FAR_OUT = [0.02, 0.05, 0.08, 0.10, 0.20, 0.90]  # Student's interval holds 0, the sign-flip p is .031


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def only(compare: Compare, *names: str, **asked: object) -> Pair:
    (pair,) = compare(*names, **asked).pairs
    return pair


def studies(n: int, count: int, effect: float = 0.0) -> list[s.Floats]:
    return list(rng().normal(effect, 1, (count, n)))


# --- the sentence ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "differences",
    [
        ONE_FAR_OUT,
        [-d for d in ONE_FAR_OUT],
        [0.0, *ONE_FAR_OUT[1:]],
        [-0.001, *ONE_FAR_OUT[1:]],
        [0.1] * 6,
        [0.0] * 6,
        [0.1, 0.1, 0.1, -0.1, 0.1, 0.1, 0.1],
    ],
)
def test_a_sentence_claims_what_the_interval_in_it_shows(
    ledger: Ledger, compare: Compare, fresh: Fresh, differences: list[float]
) -> None:
    sentence = sentences.sentence(only(compare, *eight(ledger, differences, fresh())))
    ends = re.search(r"\(([+-]?[.\d]+) to ([+-]?[.\d]+)\), p = (\d?\.\d+)", sentence)
    assert ends is not None
    low, high, p = map(float, ends.groups())
    is_claim = " is better than " in sentence or " is worse than " in sentence
    assert is_claim == (not low <= 0 <= high) == (p < 0.05)


def test_the_case_that_two_rules_told_apart(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    assert t_interval(ONE_FAR_OUT).holds(0)
    assert sentences.sentence(only(compare, *eight(ledger, ONE_FAR_OUT, fresh()))) == (
        "repo is better than rloo: +.225 (+.020 to +.900), p = .031."
    )


def opposed(ledger: Ledger, prefix: str, entropy: float, num_seeds: int = 6) -> list[str]:
    """Write pairs of which `repo` is always better; both had 2 nats at the start, `repo` has so many at the end."""
    runs = [
        Made(f"{prefix}{name}-{seed}", seed, name, accuracy={"book": 0.3 + more, "words": 0.5 + more}, entropy=left)
        for seed in range(num_seeds)
        for name, more, left in (("rloo", 0.01 * seed, 1.0), ("repo", 0.1 + 0.02 * seed, entropy))
    ]
    written(ledger, *runs)
    return [run.name for run in runs]


def test_accuracy_and_the_entropy_left_are_told_together_by_the_same_rule(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    """Which objective kept more entropy, at what accuracy: both halves with their intervals, whichever is compared."""
    names = opposed(ledger, fresh(), entropy=1.5)
    ((_, said),) = sentences.sentences(compare(*names))
    assert said == (
        "repo is better than rloo: +.125 (+.100 to +.150), p = .031. "
        "It keeps more entropy at the end: x1.50 (1.50 to 1.50), p = .031."
    )
    ((_, said),) = sentences.sentences(compare(*names, metric="left"))
    assert said == (
        "repo keeps more entropy than rloo: x1.50 (1.50 to 1.50), p = .031. "
        "Its held-out accuracy after the last stage is better: +.125 (+.100 to +.150), p = .031."
    )
    assert compare(*names).beside == Beside("left", "entropy left", compare(*names, metric="left").pairs)


def test_of_some_environments_the_entropy_of_the_same_is_told_beside(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    names = opposed(ledger, fresh(), entropy=1.0)
    ((_, said),) = sentences.sentences(compare(*names, environments=["book"]))
    assert said.endswith(
        "Held-out token entropy, nats, after the last stage: no difference seen: .000 (.000 to .000), p = 1.000."
    )


def test_what_cannot_be_compared_is_not_told_beside(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    """No entropy at the end has no logarithm; too few seeds are said once; forgetting has no other half."""
    none_left = compare(*opposed(ledger, fresh(), entropy=0.0))
    few = compare(*opposed(ledger, fresh(), entropy=1.5, num_seeds=3))
    forgetting = compare(*opposed(ledger, fresh(), entropy=1.5), metric="forgetting")
    for found in (none_left, few, forgetting):
        assert sentences.sentences(found)[0][1] == sentences.sentence(found.pairs[0])
    assert none_left.beside is None
    assert forgetting.beside is None


def test_an_end_that_is_not_quite_no_difference_does_not_look_like_it() -> None:
    near = Interval(0.00004, 0.2)
    assert sentences.changes(near, is_ratio=False) == "+.00004 to +.200"
    assert sentences.changes(Interval(0.9996, 1.2), is_ratio=True) == ".9996 to 1.20"
    assert sentences.changes(Interval(0.0, 0.2), is_ratio=False) == ".000 to +.200"
    assert sentences.change(0.001, is_ratio=True) == "x.001"


@pytest.mark.parametrize("num_seeds", [1, 2, 5])
def test_few_seeds_have_no_interval_and_no_verdict(
    ledger: Ledger, compare: Compare, fresh: Fresh, num_seeds: int
) -> None:
    pair = only(compare, *eight(ledger, ONE_FAR_OUT[-num_seeds:], fresh()))
    assert (pair.interval, pair.verdict) == (None, "not enough")
    assert json.loads(json.dumps(vars(pair), allow_nan=False, default=vars))["interval"] is None


# --- the test and its interval -----------------------------------------------------------------------------


def awkward() -> list[list[float]]:
    """Differences with ties, with zeros, rounded to a few values, and of very different sizes."""
    made = [
        np.round(rng().normal(0.4, 1, n) * size, digits).tolist()
        for n in (2, 3, 6, 7, 9)
        for digits in (0, 1, 8)
        for size in (1.0, 3.0)
    ]
    return [
        *made,
        [0.1, 0.2, 0.3, -0.6, 0.1, 0.2],
        [0.1 + 0.2, -0.3, 0.3, 0.3, 0.3, 0.3],
        [1e6, 1, 1, 1, 1, 1],
    ]


@pytest.mark.parametrize("d", awkward(), ids=str)
def test_p_is_scipys_and_the_interval_says_the_same(d: list[float]) -> None:
    reference = permutation_test(
        (d,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )  # fmt: skip
    for m in (1, 2, 7):
        found = s.sign_flip(d, rng(), 0.05 / m)
        assert found.p == pytest.approx(float(reference.pvalue))
        assert (found.interval is None) == (len(d) < s.pairs_needed(m))
        if found.interval is not None:
            assert found.interval.holds(0) == (s.bonferroni(found.p, m) >= 0.05)


@pytest.mark.parametrize("n", [7, 12])
def test_the_interval_is_what_the_test_does_not_reject(n: int) -> None:
    """Asked mean by mean, close to both sides of its ends."""
    (d,) = studies(n, 1)
    found = s.sign_flip(d, rng()).interval
    assert found is not None
    for mean in np.linspace(found.low - 0.5, found.high + 0.5, 41):
        assert found.holds(mean) == (s.sign_flip(d - mean, rng()).p >= 0.05)
    for end, outward in ((found.low, -1e-6), (found.high, 1e-6)):
        assert s.sign_flip(d - end, rng()).p >= 0.05
        assert s.sign_flip(d - end - outward, rng()).p < 0.05


def test_drawn_patterns_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    (d,) = studies(16, 1, 0.5)
    exact = s.sign_flip(d, rng())
    monkeypatch.setattr(s, "MOST_SIGNS", 15)
    drawn = s.sign_flip(d, rng())
    assert (exact.is_exact, drawn.is_exact) == (True, False)
    assert exact.interval is not None
    assert drawn.interval is not None
    assert drawn.p == pytest.approx(exact.p, abs=0.005)
    assert (drawn.interval.low, drawn.interval.high) == pytest.approx(
        (exact.interval.low, exact.interval.high), abs=0.02
    )


def test_an_interval_shrinks_with_seeds_and_grows_with_comparisons() -> None:
    (d,) = studies(12, 1)
    widths = []
    for m in (1, 2, 7, 20):
        found = s.sign_flip(d, rng(), 0.05 / m).interval
        assert found is not None
        widths.append(found.high - found.low)
    assert all(a < b for a, b in pairwise(widths))


# --- how often -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [6, 8, 10])
def test_intervals_hold_the_mean_as_often_as_they_say(n: int) -> None:
    found = [s.sign_flip(d, rng()).interval for d in studies(n, 2000)]
    assert np.mean([one is not None and one.holds(0) for one in found]) == pytest.approx(
        1 - s._allowed(0.05, 2 ** (n - 1)) / 2 ** (n - 1), abs=0.012
    )


def test_among_several_comparisons_with_one_baseline_a_false_claim_is_rare() -> None:
    m, n, count = 3, 8, 1000
    scores = rng().normal(size=(count, m + 1, n))
    claims = 0
    for baseline, *settings in scores:
        found = [s.sign_flip(ours - baseline, rng(), 0.05 / m).interval for ours in settings]
        claims += any(one is not None and not one.holds(0) for one in found)
    assert claims / count < 0.05 + 2 * np.sqrt(0.05 * 0.95 / count)


@pytest.mark.parametrize(("d_z", "m"), [(1.75, 1), (1.3, 1), (1.0, 1), (1.7, 3), (1.2, 3), (1.5, 7)])
def test_the_seeds_of_a_plan_find_the_effect_as_often_as_promised(d_z: float, m: int) -> None:
    n = s.seeds_for_power(d_z, alpha=0.05 / m)
    assert n is not None
    found = [s.sign_flip(d, rng(), 0.05 / m).interval for d in studies(n, 1000, d_z)]
    power = np.mean([one is not None and one.low > 0 for one in found])
    assert power == pytest.approx(s.sign_flip_power(d_z, n, 0.05 / m), abs=0.04)
    assert power > 0.77


def test_a_plan_needs_more_seeds_for_more_comparisons() -> None:
    assert [s.seeds_for_power(1.0, alpha=0.05 / m) for m in (1, 3, 7)] == [10, 14, 17]


# --- ratios ----------------------------------------------------------------------------------------------------


def spent(x: str, factor: float, num_seeds: int = 6) -> list[Made]:
    """Two settings whose entropy at the end differs by a factor, whatever it is in a seed."""
    return [
        Made(f"{x}{name}{seed}", seed, name, entropy=0.2 * 1.5**seed * (factor if name == "b" else 1.0))
        for seed in range(num_seeds)
        for name in ("a", "b")
    ]


def test_ratios_are_compared_as_logarithms(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    runs = spent(x, 1.08)
    written(ledger, *runs)
    found = compare(*(run.name for run in runs), metric="left")
    (pair,) = found.pairs
    assert found.is_ratio
    assert pair.differences == pytest.approx([1.08] * 6)
    assert pair.mean == pytest.approx(1.08)
    assert sentences.sentence(pair) == "b keeps more entropy than a: x1.08 (1.08 to 1.08), p = .031."
    assert found.settings[0].mean == pytest.approx(0.1 * 1.5**2.5), "geometric"
    assert found.settings[0].median == pytest.approx(0.1 * 1.5**2.5)
    assert "compared as its logarithm" in " ".join(sentences.method(found))
    turned = only(compare, *(run.name for run in runs), metric="left", baseline="b")
    assert turned.mean == pytest.approx(1 / 1.08), "the other way round it is the inverse"


def test_no_difference_of_ratios_holds_one(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    changed = [1.5, 0.8, 1.3, 0.7, 1.2, 1.1]
    runs = [
        Made(f"{x}{name}{seed}", seed, name, entropy=0.5 * (factor if name == "b" else 1.0))
        for seed, factor in enumerate(changed)
        for name in ("a", "b")
    ]
    written(ledger, *runs)
    pair = only(compare, *(run.name for run in runs), metric="left")
    assert pair.verdict == "no difference"
    assert pair.interval is not None
    assert (pair.interval.low, pair.interval.high) == pytest.approx((0.7, 1.5))
    assert sentences.sentence(pair).startswith("b against a: no difference seen: x1.06 (.70 to 1.50), p = ")


def test_a_ratio_of_nothing_is_refused_with_what_to_do(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo", entropy=0.0))
    with pytest.raises(ComparisonError, match=rf"left is 0 in {x}b: .*logarithms.*`--metric entropy`"):
        compare(f"{x}a", f"{x}b", metric="left")
    told = facts(compare(f"{x}a", f"{x}b", metric="entropy"))
    assert told["carry_over"]["outcomes"]["repo"]["entropy_left"] == {"mean": 0.0, "n": 1, "interval": None}
