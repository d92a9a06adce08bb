"""How a quantity at a boundary compares with before: pure functions on matrices.

A matrix maps (after stage i, environment j) to a value; stage 0 is the base. `trained` lists the environment of
each stage, in order. Definitions follow `plasticity.md` 1.6 for ratios and 5.3 for differences, which
reduce to GEM's (1706.08840) when every environment has one stage. Environments may come back or never have a stage.
A missing value makes a difference None, and a mean of differences too; ratios that are None are left out of
geometric means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

LEAST_GAIN = 0.05  # of accuracy: less has not been learnt
NUM_ERRORS = 2  # standard errors of a difference: what is within them may be chance

Matrix = Mapping[tuple[int, str], float | None]


def ratio(value: float | None, base: float | None, floor: float) -> float | None:
    """Return value / base, or None when the base is below the floor: a ratio to nothing says nothing."""
    return None if value is None or base is None or base < floor else value / base


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """Average ratios; those that are None are left out."""
    known = [r for r in ratios if r is not None]
    if not known:
        return None
    return math.exp(fmean(map(math.log, known))) if min(known) > 0 else 0.0


def retained(matrix: Matrix, trained: Sequence[str], floor: float) -> list[float | None]:
    """Each stage's share of its environment's value that was left after it; 1 = nothing spent."""
    return [
        ratio(matrix.get((i, name)), matrix.get((i - 1, name)), floor)
        for i, name in enumerate(trained, start=1)
    ]


def carried(matrix: Matrix, trained: Sequence[str], floor: float) -> list[float | None]:
    """From stage 2 on: what earlier stages left of the environment about to be trained, against the base."""
    return [
        ratio(matrix.get((i - 1, name)), matrix.get((0, name)), floor)
        for i, name in enumerate(trained[1:], start=2)
    ]


def unseen(matrix: Matrix, trained: Sequence[str], after_stage: int, floor: float) -> float | None:
    """Geometric mean, over environments without a stage so far, of their value against the base."""
    others = [name for name in _environments(matrix) if name not in trained[:after_stage]]
    return geometric_mean(ratio(matrix.get((after_stage, e)), matrix.get((0, e)), floor) for e in others)


def collateral(matrix: Matrix, trained: Sequence[str], stage: int, floor: float) -> float | None:
    """What a stage did to the other environments: geometric mean of after against before."""
    others = [name for name in _environments(matrix) if name != trained[stage - 1]]
    return geometric_mean(ratio(matrix.get((stage, e)), matrix.get((stage - 1, e)), floor) for e in others)


def half_life(num_steps: int, start: float, end: float) -> float | None:
    """Steps to halve, had the value fallen exponentially; None if it did not fall."""
    return num_steps * math.log(2) / math.log(start / end) if 0 < end < start else None


def average(matrix: Matrix, trained: Sequence[str]) -> float | None:
    """ACC: mean over the trained environments at the end."""
    return _mean(matrix.get((len(trained), name)) for name in dict.fromkeys(trained))


def backward_transfer(matrix: Matrix, trained: Sequence[str]) -> float | None:
    """BWT: mean change since an environment's last stage, over those with later stages; below 0: forgetting."""
    end, last = len(trained), _last(trained)
    return _mean(_minus(matrix, (end, name), (i, name)) for name, i in last.items() if i < end)


def forward_transfer(matrix: Matrix, trained: Sequence[str]) -> float | None:
    """FWT: mean gain over the base on arrival at an environment's first stage, over those that came later."""
    first = _first(trained)
    return _mean(_minus(matrix, (i - 1, name), (0, name)) for name, i in first.items() if i > 1)


def forgetting(matrix: Matrix, trained: Sequence[str]) -> float | None:
    """F: mean fall from the best value since the first stage (1801.10112); below 0: best at the end."""
    return _mean(
        None if best is None else _minus(matrix, (best, name), (len(trained), name))
        for name, best in _bests(matrix, trained).items()
    )


def relative_forgetting(matrix: Matrix, trained: Sequence[str], errors: Matrix) -> float | None:
    """F as a share of what had been learnt: mean of (best - end) / (best - start).

    Over the environments of F where best - start is at least `LEAST_GAIN` and `NUM_ERRORS` standard errors; the
    others had learnt nothing that could be forgotten. None where that is all of them, or a value is missing.

    Args:
        matrix: accuracies; an environment starts at the first boundary that measured it.
        errors: standard errors of the same cells; one that is not known counts as 0.
    """
    shares, end = [], len(trained)
    for name, best in _bests(matrix, trained).items():
        if best is None:
            return None
        start = min(i for i, other in matrix if other == name)
        fall, gain = (_minus(matrix, (best, name), (i, name)) for i in (end, start))
        if fall is None or gain is None:
            return None
        noise = math.hypot(*(errors.get((i, name)) or 0.0 for i in (best, start)))
        if gain >= max(LEAST_GAIN, NUM_ERRORS * noise):
            shares.append(fall / gain)
    return fmean(shares) if shares else None


def left(matrix: Matrix, floor: float) -> dict[str, float | None]:
    """By environment: its last value against its first."""
    found = {}
    for name in _environments(matrix):
        rows = sorted(i for i, other in matrix if other == name)
        found[name] = ratio(matrix[rows[-1], name], matrix[rows[0], name], floor)
    return found


def zero_shot_gain(matrix: Matrix, trained: Sequence[str]) -> float | None:
    """Mean gain over the base at the end, over environments that never had a stage."""
    others = [name for name in _environments(matrix) if name not in trained]
    return _mean(_minus(matrix, (len(trained), name), (0, name)) for name in others)


def gains(matrix: Matrix, trained: Sequence[str]) -> list[float | None]:
    """Each stage's change on its own environment."""
    return [_minus(matrix, (i, name), (i - 1, name)) for i, name in enumerate(trained, start=1)]


def interference(matrix: Matrix, trained: Sequence[str]) -> list[float | None]:
    """Each stage's mean change on the other environments."""
    return [
        _mean(_minus(matrix, (i, e), (i - 1, e)) for e in _environments(matrix) if e != name)
        for i, name in enumerate(trained, start=1)
    ]


def _environments(matrix: Matrix) -> list[str]:
    return list(dict.fromkeys(name for _, name in matrix))


def _first(trained: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in reversed(list(enumerate(trained, start=1)))}


def _last(trained: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(trained, start=1)}


def _bests(matrix: Matrix, trained: Sequence[str]) -> dict[str, int | None]:
    """When each environment that others were trained after was best, from its first stage to before the end.

    None: a value is missing there.
    """
    bests: dict[str, int | None] = {}
    for name, first in _first(trained).items():
        seen = [(matrix.get((i, name)), i) for i in range(first, len(trained))]
        known = [(value, -i) for value, i in seen if value is not None]
        if seen:
            bests[name] = -max(known)[1] if len(known) == len(seen) else None
    return bests


def _minus(matrix: Matrix, later: tuple[int, str], earlier: tuple[int, str]) -> float | None:
    a, b = matrix.get(later), matrix.get(earlier)
    return None if a is None or b is None else a - b


def _mean(values: Iterable[float | None]) -> float | None:
    listed = list(values)
    known = [value for value in listed if value is not None]
    return fmean(known) if listed and len(known) == len(listed) else None
