"""How good the rule of `evergreen compare` is, on made-up studies: what decision 21 rests on.

    python -m benchmarks.comparison_rule

Coverage and width of its intervals beside Student's; claims that Holm's correction would make and Bonferroni's does
not; the power that a plan promises by Student's law, and that sign flips have; how often all intervals of a comparison
hold, and what looking after every seed claims where there is nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import brentq

from store.comparison import statistics as s
from store.intervals import Interval, t_interval

STUDIES = 6000
LAWS: dict[str, Callable[[np.random.Generator, int], s.Floats]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy tails (t, 3 degrees)": lambda rng, n: rng.standard_t(3, size=n),
    "skewed (exponential)": lambda rng, n: rng.exponential(size=n) - 1,
}


def coverage(law: str, n: int) -> str:
    """Share of intervals that hold the mean, and their median width: sign flips, then Student."""
    rng = np.random.default_rng(0)
    made = [LAWS[law](rng, n) for _ in range(STUDIES)]
    both: list[list[Interval | None]] = [[s.sign_flip(d, rng).interval for d in made], [t_interval(d) for d in made]]
    told = []
    for intervals in both:
        known = [one for one in intervals if one is not None]
        held = np.mean([one.holds(0.0) for one in known])
        told.append(f"{held:.3f}, {np.median([one.high - one.low for one in known]):.2f}")
    return f"| {law} | {n} | {told[0]} | {told[1]} |"


def corrections(num_comparisons: int, n: int, d_z: float) -> str:
    """Share of the true differences that each correction finds, and of the studies where it finds any."""
    rng, m = np.random.default_rng(0), num_comparisons
    found: dict[str, list[list[bool]]] = {"Holm": [], "Bonferroni": []}
    for _ in range(STUDIES // 2):
        scores = rng.normal(size=(m + 1, n))  # the settings share their baseline
        ps = [s.sign_flip((ours - scores[0]) / math.sqrt(2) + d_z, rng).p for ours in scores[1:]]
        found["Holm"].append([p < s.ALPHA for p in holm(ps)])
        found["Bonferroni"].append([s.bonferroni(p, m) < s.ALPHA for p in ps])
    told = [f"{name} {np.mean(hits):.3f} ({np.any(hits, axis=1).mean():.3f})" for name, hits in found.items()]
    return f"{m} comparisons, {n} seeds, d_z {d_z}: {', '.join(told)}"


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's correction, which `compare` does not use."""
    corrected, floor = dict.fromkeys(range(len(ps)), 0.0), 0.0
    for rank, i in enumerate(sorted(corrected, key=lambda i: ps[i])):
        floor = max(floor, min(1.0, ps[i] * (len(ps) - rank)))
        corrected[i] = floor
    return list(corrected.values())


def promised(num_comparisons: int, n: int) -> str:
    """Power of sign flips for the effect of which Student's law, at the p that can be reached, promises 80 %."""
    rng, alpha = np.random.default_rng(0), s.ALPHA / num_comparisons
    reached = (math.ceil(alpha * 2 ** (n - 1)) - 1) / 2 ** (n - 1)
    d_z = float(brentq(lambda effect: s.paired_power(effect, n, reached) - s.POWER, 0.1, 10))
    tests = [s.sign_flip(rng.normal(d_z, 1, n), rng, alpha).interval for _ in range(STUDIES)]
    power = np.mean([one is not None and not one.holds(0.0) for one in tests])
    told = f"by Student .80, as planned {s.sign_flip_power(d_z, n, alpha):.2f}, found {power:.2f}"
    return f"{num_comparisons} comparisons, {n} seeds, d_z {d_z:.2f}: {told}"


def together(law: str, num_comparisons: int, n: int) -> str:
    """Share of comparisons in which all intervals, corrected for their number, hold their means."""
    rng, m = np.random.default_rng(0), num_comparisons
    held = []
    for _ in range(STUDIES // m):
        intervals = [s.sign_flip(LAWS[law](rng, n), rng, s.ALPHA / m).interval for _ in range(m)]
        held.append(all(one is not None and one.holds(0.0) for one in intervals))
    return f"{law}, {m} comparisons, {n} seeds: all intervals hold in {np.mean(held):.3f}"


def looking_often(first: int, last: int) -> str:
    """Share of studies without a difference in which one is claimed by who looks after each of these seeds."""
    rng = np.random.default_rng(0)
    made = [rng.normal(size=last) for _ in range(STUDIES)]
    claimed = [any(s.sign_flip(d[:n], rng).p < s.ALPHA for n in range(first, last + 1)) for d in made]
    return f"a look after each of {first} to {last} seeds, no difference: one is claimed in {np.mean(claimed):.3f}"


if __name__ == "__main__":
    print("| differences | seeds | sign flips | Student's t |\n|---|---|---|---|")
    print(*(coverage(law, n) for law in LAWS for n in (6, 8, 10)), "", sep="\n")
    print(*(corrections(*of) for of in ((3, 8, 0.0), (3, 8, 1.5), (7, 10, 1.5))), "", sep="\n")
    print(*(promised(*of) for of in ((1, 6), (1, 8), (1, 11), (3, 7), (3, 9), (7, 9), (7, 12))), "", sep="\n")
    print(*(together(law, *of) for law in LAWS for of in ((1, 6), (1, 8), (3, 8))), looking_often(6, 12), sep="\n")
