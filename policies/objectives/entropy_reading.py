"""The entropy that a controller reads: a fraction of the entropy at the start, 1.0 being "as at the start", or nats.

The bandit changes the mix of tasks every step, and categories differ in natural entropy, so the plain mean moves
without any change in the policy: with .3 nat on `a` and .8 on `b`, going from equal shares to 90 % `a` takes it
from .55 to .35. A controller that reads it chases the bandit. So (objectives.md 12.2):

    H_k      running mean of category k, weighted by tokens; a token counts half after `half_life` visits of k
    H0_k     its entropy at the start: from the evaluation at step 0, else the first reading of k
    fraction the mean over the categories visited so far of H_k / H0_k, each weighing the same
    nats     the mean of H_k over the same categories, each weighing the same

In the fraction H0_k is taken as at least .05 nat: a ratio to next to nothing says nothing (plasticity.md 0.6). H_k has
no floor: a collapse must read as one. A category that was never visited does not count: its 1.0 would hide a fall
everywhere else. One not visited for long keeps its last value; `age` counts for how long. In the mode `recent` only the
categories of the last 20 steps count: what a controller does no longer reaches the others.

Before the correction the reading is the mean over the step's tokens, in nats or divided by the mean of H0_k under the
mix of the first step. It is logged beside the other; in the mode `raw`, which reproduces papers, controllers read it.

What is a token's entropy is the objective's `entropy`: the sampler's, or an estimate of the same from the tokens drawn
(`statistics.py`). Baselines and readings must come from the same sampling distribution: where a fork changes that, its
first readings are the start. Source: ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, Literal

from policies.objectives.errors import ObjectiveError, expect_keys

FLOOR = 0.05  # nats
RECENT = 20  # steps

Mode = Literal["corrected", "recent", "raw"]

# The names of a reading among the metrics of a step, by which controllers ask for it.
ENTROPY, ENTROPY_NATS, ENTROPY_RAW = "entropy_reading", "entropy_reading_nats", "entropy_reading_raw"

Step = Mapping[str, tuple[float, float]]  # "environment/category" -> (sum of token entropies in nats, tokens)
ByEnvironment = dict[str, list[float]]  # a number of each of its categories


@dataclass(frozen=True)
class EntropyReading:
    """The entropy of a step."""

    fraction: float  # of the entropy at the start
    nats: float
    raw: float  # the fraction before the correction for the mix
    # by ENTROPY and ENTROPY_NATS: the same of each environment, the mean of its categories; empty in the mode `raw`
    environments: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    played: frozenset[str] = frozenset()  # environments of the step

    def of(self, environment: str) -> EntropyReading | None:
        """The reading of one environment; None: the step did not play it. There is no mix to correct for."""
        if environment not in self.played:
            return None
        own = {name: {environment: values[environment]} for name, values in self.environments.items()}
        return EntropyReading(own[ENTROPY][environment], own[ENTROPY_NATS][environment], math.nan, own)

    def log(self) -> dict[str, float]:
        """As metrics of the step."""
        return {ENTROPY: self.fraction, ENTROPY_NATS: self.nats, ENTROPY_RAW: self.raw}


def logged(reading: EntropyReading | float | None) -> dict[str, float]:
    """A reading as metrics of the step, those that are finite. A plain number is the fraction."""
    numbers = reading.log() if isinstance(reading, EntropyReading) else {ENTROPY: reading}
    return {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}


@dataclass
class _Visits:
    """What is remembered of one category: decayed sums, and the number of steps since it was last visited."""

    entropy_sum: float = 0.0
    num_tokens: float = 0.0
    age: int = 0

    @property
    def mean(self) -> float:
        return self.entropy_sum / self.num_tokens


class MixCorrectedEntropy:
    """Turns each step's token entropies, by category, into what a controller reads.

    `set_baseline` before the first step and for categories added later; `observe` once a step. `source`: of which
    distribution the entropies are, and by which estimate; those of different ones do not compare.
    """

    def __init__(
        self,
        mode: Mode = "corrected",
        half_life: float = 3.0,
        modes: Mapping[str, Mode] | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        self.mode = mode
        self.modes = dict(modes or {})  # of environments with one of their own
        self.source = dict(source or {})
        self._keep = 0.5 ** (1 / half_life)
        self._baseline: dict[str, float] = {}
        self._visits: dict[str, _Visits] = {}
        self._pooled_baseline: float | None = None

    def set_baseline(self, baseline: Mapping[str, float]) -> None:
        """Give the entropy at the start, in nats by "environment/category", for these categories."""
        for key, entropy in baseline.items():
            if not (math.isfinite(entropy) and entropy >= 0):
                raise ObjectiveError(f"the entropy at the start of `{key}` is {entropy}; expected nats, 0 or more")
        self._baseline.update(baseline)

    def begin_anew(self) -> None:
        """Forget all there was: what is given or read next is the start."""
        self._baseline, self._visits, self._pooled_baseline = {}, {}, None

    def observe(self, step: Step) -> EntropyReading | None:
        """Take in a step's sums, those that are finite and of tokens, and return the reading; None without any."""
        measured = {key: (s, n) for key, (s, n) in step.items() if n > 0 and math.isfinite(s)}
        for visits in self._visits.values():
            visits.age += 1
        for key, (entropy_sum, num_tokens) in measured.items():
            self._baseline.setdefault(key, entropy_sum / num_tokens)
            before = self._visits.get(key, _Visits())
            self._visits[key] = _Visits(
                self._keep * before.entropy_sum + entropy_sum, self._keep * before.num_tokens + num_tokens
            )
        if not measured:
            return None
        nats, raw = self._uncorrected(measured)
        if self.mode == "raw":
            return EntropyReading(raw, nats, raw)
        fractions, absolute = self._counted()
        own = {ENTROPY: _means(fractions), ENTROPY_NATS: _means(absolute)}
        played = frozenset(map(_environment_of, measured))
        return EntropyReading(_mean_of_all(fractions), _mean_of_all(absolute), raw, own, played)

    def relative(self) -> dict[str, float]:
        """H_k / H0_k of each visited category."""
        return {key: _ratio(visits.mean, self._baseline[key]) for key, visits in self._visits.items()}

    def state(self) -> dict[str, Any]:
        """All that is needed to go on identically, as JSON."""
        return {
            "mode": self.mode,
            **({"modes": self.modes} if self.modes else {}),
            "source": self.source,
            "baseline": dict(self._baseline),
            "visits": {key: asdict(visits) for key, visits in self._visits.items()},
            "pooled_baseline": self._pooled_baseline,
        }

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Go on from a saved state, and name the environments that begin anew, as they were read in another way.

        `ObjectiveError` when it is no state of a reading.
        """
        own = {"modes", "source"} & state.keys()
        expect_keys(state, {"mode", "baseline", "visits", "pooled_baseline"} | own, "the entropy reading")
        for key, visits in state["visits"].items():
            expect_keys(visits, {"entropy_sum", "num_tokens", "age"}, f"the entropy reading of `{key}`")
        known = dict.fromkeys(map(_environment_of, state["baseline"]))  # what was visited has a start
        anew = [name for name in known if not self._reads_as(state, name)]
        self._baseline = {key: h0 for key, h0 in state["baseline"].items() if _environment_of(key) not in anew}
        self._visits = {key: _Visits(**own) for key, own in state["visits"].items() if key in self._baseline}
        self._pooled_baseline = state["pooled_baseline"] if self._baseline else None
        return anew

    def _reads_as(self, state: Mapping[str, Any], environment: str) -> bool:
        """Whether a saved state read an environment in the same way; earlier versions did not say from where."""
        before = state.get("modes", {}).get(environment, state["mode"])
        is_same_mode = before == self.modes.get(environment, self.mode)
        return is_same_mode and bool(state.get("source", self.source) == self.source)

    def _counted(self) -> tuple[ByEnvironment, ByEnvironment]:
        """H_k / H0_k and H_k of the categories that count, by environment: all are gone through in every step."""
        fractions: ByEnvironment = {}
        absolute: ByEnvironment = {}
        forgets = "recent" in (self.mode, *self.modes.values())
        for key, visits in self._visits.items():
            name = _environment_of(key)
            if forgets and visits.age >= RECENT and self.modes.get(name, self.mode) == "recent":
                continue
            if name not in absolute:
                fractions[name], absolute[name] = [], []
            nats = visits.mean
            fractions[name].append(_ratio(nats, self._baseline[key]))
            absolute[name].append(nats)
        return fractions, absolute

    def _uncorrected(self, measured: Step) -> tuple[float, float]:
        """The mean over the step's tokens in nats, and divided by that of the starts under the first mix."""
        num_tokens = math.fsum(n for _, n in measured.values())
        if self._pooled_baseline is None:
            at_start = math.fsum(n * self._baseline[key] for key, (_, n) in measured.items())
            self._pooled_baseline = at_start / num_tokens
        nats = math.fsum(s for s, _ in measured.values()) / num_tokens
        return nats, _ratio(nats, self._pooled_baseline)


def _environment_of(key: str) -> str:
    return key.partition("/")[0]


def _means(values: ByEnvironment) -> dict[str, float]:
    """The mean of every environment's categories, each weighing the same."""
    return {name: _mean(own) for name, own in values.items()}


def _mean_of_all(values: ByEnvironment) -> float:
    return _mean([*chain.from_iterable(values.values())])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)  # exact, so the order in which categories came does not matter


def _ratio(entropy: float, baseline: float) -> float:
    return entropy / max(baseline, FLOOR)
