"""What a comparison says, in sentences. They compare what they print, and claim nothing that seeds cannot carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from store.comparing.comparison import Comparison, Pair
from store.comparing.statistics import ALPHA, LEVEL, MOST_SIGNS, NUM_PATTERNS, POWER, Interval
from store.words import listed, num, number, short, signed

DIGITS = 3  # of scores and differences: seeds differ in the second


def verdict(pair: Pair) -> str:
    """Say what the pair's seeds allow to say, without naming the settings."""
    return _VERDICTS[pair.verdict](pair)


def sentence(pair: Pair) -> str:
    """Say it with the settings' names."""
    ours, theirs = short(pair.setting), short(pair.baseline)
    if pair.is_claim:
        return f"{ours} is {pair.verdict} than {theirs}: {_seen(pair)}."
    return f"{ours} against {theirs}: {verdict(pair)}."


def sentences(comparison: Comparison) -> list[tuple[list[str], str]]:
    """Say every pair, claims first; those that lack as many seeds are said together. With whom each is about."""
    told: dict[tuple[str, str], list[Pair]] = {}
    for pair in sorted(comparison.pairs, key=lambda pair: not pair.is_claim):
        key = verdict(pair) if pair.verdict == "not enough" else pair.setting
        told.setdefault((pair.baseline, key), []).append(pair)
    return [([pair.setting for pair in pairs], _together(pairs)) for pairs in told.values()]


def _together(pairs: Sequence[Pair]) -> str:
    if len(pairs) == 1:
        return sentence(pairs[0])
    names = listed([short(pair.setting) for pair in pairs])
    return f"{names} against {short(pairs[0].baseline)}: {verdict(pairs[0])}."


def how_registered(comparison: Comparison) -> str:
    """Say whether this is what the study set out to compare."""
    if comparison.is_primary:
        return "primary: what the study registered"
    if comparison.registered is None:
        return "exploratory: nothing was registered beforehand"
    return f"exploratory: the study registered {_registered(comparison.registered)}"


def what_is_compared(comparison: Comparison) -> str:
    """Name the number, and what it is averaged over."""
    strata = comparison.strata
    over = {"environment": "environment", "stage": "stage", "run": ""}[comparison.stratum]
    return comparison.title + (f", {num(len(strata), over)}" if over else "")


def interval(of: Interval | None, is_change: bool = False) -> str:
    """Write an interval's ends."""
    if of is None:
        return "-"
    write = signed if is_change else number
    return f"{write(of.low, DIGITS)} to {write(of.high, DIGITS)}"


def p_value(p: float | None) -> str:
    """Write a p: three digits, or that it is below them."""
    if p is None:
        return "-"
    return "< .001" if p < 0.0005 else number(p, 3)


def left_out(comparison: Comparison) -> str | None:
    """Say which runs are not in it."""
    runs = [f"{one.run} ({one.why})" for one in comparison.left_out]
    return f"{num(len(runs), 'run')} left out: {listed(runs, 8)}." if runs else None


def how_resampled(of: Interval) -> str:
    """Say where a bootstrap interval comes from."""
    return f"all {of.num_draws:,} resamples" if of.is_exact else f"{of.num_draws:,} draws"


def how_computed(comparison: Comparison) -> list[str]:
    """Say where intervals and p come from, in short."""
    scores = next((s.iqm_interval for s in comparison.settings if s.iqm_interval), None)
    differences = next((p.bootstrap for p in comparison.pairs if p.bootstrap), None)
    parts = [(scores, "the IQM"), (differences, "differences")]
    drawn = [f"{how_resampled(of)} for {what}" for of, what in parts if of is not None]
    if not drawn:
        return [_tested(comparison)]
    return [f"Bootstrap: {', '.join(drawn)}; too narrow below 8 seeds.", _tested(comparison)]


def method(comparison: Comparison) -> list[str]:
    """Say how everything was computed, a line each."""
    several = len(comparison.strata) > 1
    return [
        f"A run is one observation. Its score is the mean over its {comparison.stratum}s."
        if several
        else "A run is one observation, with one score.",
        "Differences are between runs of the same seed, finished in both settings.",
        "IQM: mean without the lowest and the highest quarter of all scores"
        + (f", a score a seed and {comparison.stratum}." if several else "."),
        f"Intervals hold {LEVEL:.0%}: Student's t, and the percentile bootstrap, which resamples seeds"
        + (f" inside each {comparison.stratum}." if several else "."),
        *how_computed(comparison),
        "P(improvement): chance that a run of the setting beats one of the baseline, ties one half"
        + (f", mean over the {comparison.stratum}s." if several else "."),
        f"d_z: mean difference over its standard deviation. Seeds for {POWER:.0%} power: of a paired t test at "
        f"{number(ALPHA)}, uncorrected, if the true effect were the one seen.",
    ]


def _tested(comparison: Comparison) -> str:
    drawn = any(not pair.is_exact for pair in comparison.pairs)
    how = (
        f"sign-flip test, {NUM_PATTERNS:,} drawn patterns beyond {MOST_SIGNS} seeds"
        if drawn
        else "exact sign-flip test"
    )
    m = len(comparison.pairs)
    return f"p: {how}, two-sided" + (f"; corrected for {m} comparisons (Holm)." if m > 1 else ".")


def _not_enough(pair: Pair) -> str:
    missing = pair.seeds_needed - len(pair.seeds)
    return (
        f"not enough to tell: {len(pair.seeds)} of {num(pair.seeds_needed, 'paired seed')}; {missing} more would allow "
        f"p < {number(ALPHA)} ({pair.seeds_recommended} are recommended)"
    )


def _no_difference(pair: Pair) -> str:
    need = pair.seeds_for_power
    if pair.effect_size is None or not pair.mean:
        more = ""
    elif need is None:
        more = "; if real, an effect of this size would take more than 1,000 seeds to see"
    elif need <= len(pair.seeds):
        more = "; an effect of this size could have been seen with these seeds"
    else:
        more = f"; if real, an effect of this size would take {need} seeds to see with {POWER:.0%} power"
    return f"no difference seen: {_seen(pair)}{more}"


def _claim(pair: Pair) -> str:
    return f"{pair.verdict}: {_seen(pair)}"


def _seen(pair: Pair) -> str:
    return f"{signed(pair.mean, DIGITS)} ({interval(pair.t_interval, True)}), {_p(pair)}"


def _p(pair: Pair) -> str:
    corrected = f" after correction for {pair.num_comparisons}" if pair.num_comparisons > 1 else ""
    p = p_value(pair.p_corrected)
    return f"p {p}{corrected}" if p.startswith("<") else f"p = {p}{corrected}"


def _registered(plan: Mapping[str, Any]) -> str:
    last = f" over the last {num(plan['last'], 'step')} of each stage" if plan.get("last") else ""
    base = f" against {plan['baseline']}" if plan.get("baseline") else ""
    by = f" by {plan['by']}" if plan.get("by") else ""
    return f"{plan.get('metric')}{last if str(plan.get('metric')).startswith('train_') else ''}{by}{base}"


_VERDICTS = {
    "not enough": _not_enough,
    "no difference": _no_difference,
    **dict.fromkeys(("better", "worse", "higher", "lower"), _claim),
}
