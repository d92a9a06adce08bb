"""What a comparison says, in sentences. They compare what they print, and claim nothing that seeds cannot carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from store.comparison.matrices import MeanMatrix
from store.comparison.result import Comparison
from store.comparison.scores import Pair
from store.comparison.statistics import ALPHA, MOST_SIGNS, NUM_PATTERNS, POWER
from store.intervals import Interval
from store.ledger.query_rows import by_key
from store.sampling import PLAIN_SAMPLING, sampling_in_words
from store.sentences import listed, num, number, signed

DIGITS = 3  # of scores and differences: seeds differ in the second
RATIO_DIGITS = 2  # of quotients
MOST_DIGITS = 9  # for what is nearly no difference
FEWEST_PAIRS = 4  # of which the size of an effect says something


def verdict(pair: Pair) -> str:
    """Say what the pair's seeds allow to say, without naming the settings."""
    if pair.is_claim:
        return f"{pair.verdict}: {_seen(pair)}"
    if pair.verdict == "not enough":
        missing = pair.seeds_needed - len(pair.seeds)
        return (
            f"not enough to tell: {len(pair.seeds)} of {num(pair.seeds_needed, 'paired seed')}; {missing} more would "
            f"allow p < {number(ALPHA)} ({pair.seeds_recommended} are recommended)"
        )
    need = pair.seeds_for_power
    if not pair.effect_size:
        more = ""
    elif need is None:
        more = "; if real, an effect of this size would take more than 1,000 seeds to see"
    elif need <= len(pair.seeds):
        more = "; an effect of this size could have been seen with these seeds"
    else:
        more = f"; if real, an effect of this size would take {need} seeds to see with {POWER:.0%} power"
    return f"no difference seen: {_seen(pair)}{more}"


def sentence(pair: Pair, names: Mapping[str, str] | None = None) -> str:
    """Say it with the settings' names; None: their labels."""
    ours, theirs = (names[label] if names else label for label in (pair.setting, pair.baseline))
    if pair.is_claim:
        verb = "keeps" if pair.verdict.endswith("entropy") else "is"
        return f"{ours} {verb} {pair.verdict} than {theirs}: {_seen(pair)}."
    return f"{ours} against {theirs}: {verdict(pair)}."


def whose_tasks(comparison: Comparison) -> str:
    """Name the held-out tasks of all but the scores, where the scores are of others."""
    if comparison.pool == comparison.carry_over.pool:
        return ""
    return "on the held-out tasks of the boundaries, not on those set aside for the end"


def beside(comparison: Comparison, pair: Pair) -> str | None:
    """Say of the same pair how entropy went beside accuracy, or accuracy beside entropy; None: nothing can be told."""
    also = comparison.beside
    found = [one for one in also.pairs if (one.setting, one.baseline) == (pair.setting, pair.baseline)] if also else []
    if also is None or not found or found[0].verdict == "not enough":
        return None
    if not found[0].is_claim:
        return f"{also.title[0].upper()}{also.title[1:]}: no difference seen: {_seen(found[0])}."
    does = "It keeps" if found[0].verdict.endswith("entropy") else f"Its {also.title} is"
    when = {"left": " at the end", "entropy": " at the end, in nats"}.get(also.metric, "")
    return f"{does} {found[0].verdict}{when}: {_seen(found[0])}."


def _seen(pair: Pair) -> str:
    corrected = f" after correction for {pair.num_comparisons}" if pair.num_comparisons > 1 else ""
    p = p_value(pair.p_corrected)
    test = f"p {p}{corrected}" if p.startswith("<") else f"p = {p}{corrected}"
    return f"{change(pair.mean, pair.is_ratio)} ({changes(pair.interval, pair.is_ratio)}), {test}"


def sentences(comparison: Comparison) -> list[tuple[list[str], str]]:
    """Say every pair, claims first; those that lack as many seeds are found together. With whom each is about."""

    def together(pair: Pair) -> tuple[str, str]:
        return pair.baseline, verdict(pair) if pair.verdict == "not enough" else pair.setting

    found = []
    for pairs in by_key(sorted(comparison.pairs, key=lambda pair: not pair.is_claim), together).values():
        labels, names = [pair.setting for pair in pairs], comparison.names
        who = f"{listed([names[label] for label in labels])} against {names[pairs[0].baseline]}"
        if len(pairs) == 1:
            said = sentence(pairs[0], names), beside(comparison, pairs[0])
            found.append((labels, " ".join(filter(None, said))))
        else:
            found.append((labels, f"{who}: {verdict(pairs[0])}."))
    return found


def how_registered(comparison: Comparison) -> str:
    """Say whether this is what the study set out to compare."""
    if comparison.is_primary:
        return "primary: what the study registered"
    plan = comparison.registered
    if plan is None:
        return "exploratory: nothing was registered beforehand"
    is_of_stages = str(plan.get("metric")).startswith("train_") and plan.get("last")
    last = f" over the last {num(plan['last'], 'step')} of each stage" if is_of_stages else ""
    by = f" by {plan['by']}" if plan.get("by") else ""
    base = f" against {plan['baseline']}" if plan.get("baseline") else ""
    where = f" on {listed(plan['environments'])}" if plan.get("environments") else ""
    return f"exploratory: the study registered {plan.get('metric')}{where}{last}{by}{base}"


def what_is_compared(comparison: Comparison) -> str:
    """Name the number, and what it is averaged over."""
    strata = comparison.strata
    over = {"environment": "environment", "stage": "stage", "run": "", "probe": "probe"}[comparison.stratum]
    return comparison.title + (f", {num(len(strata), over)}" if over else "")


def chance(comparison: Comparison) -> str:
    """Name the chance that a setting is better, which of entropy is no more than that it has more."""
    return "P(improvement)" if comparison.direction else "P(more entropy)"


def effects(pair: Pair) -> list[str]:
    """Write how large an effect is: the chance of an improvement, d_z and the seeds to see it; of few pairs dashes."""
    if len(pair.seeds) < FEWEST_PAIRS:
        return ["-"] * 3
    seeds = "-" if pair.seeds_for_power is None else f"{pair.seeds_for_power:,}"
    return [number(pair.improvement), number(pair.effect_size), seeds]


def why_no_effects(comparison: Comparison) -> str | None:
    """Say why effects are dashes; None: none are."""
    few = [pair for pair in comparison.pairs if len(pair.seeds) < FEWEST_PAIRS]
    return f"fewer than {FEWEST_PAIRS} pairs" if few else None


def interval(of: Interval | None) -> str:
    """Write the ends of an interval of scores."""
    return "-" if of is None else f"{number(of.low, DIGITS)} to {number(of.high, DIGITS)}"


def change(value: float | None, is_ratio: bool) -> str:
    """Write a difference with its sign, or a quotient: +.163, x1.08."""
    if value is None:
        return "-"
    return f"x{_change(value, True)}" if is_ratio else _change(value, False)


def changes(of: Interval | None, is_ratio: bool) -> str:
    """Write the ends of an interval of differences, or of quotients."""
    return "-" if of is None else f"{_change(of.low, is_ratio)} to {_change(of.high, is_ratio)}"


def _change(value: float, is_ratio: bool) -> str:
    """An end that is not quite no difference never looks like it: it gets more digits."""
    write, digits, none = (number, RATIO_DIGITS, 1.0) if is_ratio else (signed, DIGITS, 0.0)
    nothings = {f"{nothing:.{MOST_DIGITS}f}" for nothing in (0.0, none)}
    if f"{abs(value):.{MOST_DIGITS}f}" not in nothings:
        while float(f"{value:.{digits}f}") in (0.0, none):
            digits += 1
    return write(value, digits)


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
    """Say where intervals and p come from, in short, and name the one rule that decides."""
    scores = next((s.iqm_interval for s in comparison.settings if s.iqm_interval), None)
    how = how_resampled(scores) if scores else ""
    drawn = [f"95 % of the IQM: bootstrap, {how}; too narrow below 8 seeds."] if scores else []
    how = "exact sign-flip test"
    if any(not pair.is_exact for pair in comparison.pairs):
        how = f"sign-flip test, {NUM_PATTERNS:,} drawn patterns beyond {MOST_SIGNS} seeds"
    m, (what, none) = comparison.num_comparisons, ("quotients", 1) if comparison.is_ratio else ("differences", 0)
    together = f", corrected for {m} comparisons (Bonferroni), so that all {m} hold together" if m > 1 else ""
    test = (
        f"p and 95 %: {how}, two-sided{together}; the interval holds the {what} that it does not reject, and a "
        f"setting is called different when that leaves out {none}."
    )
    return [*drawn, test]


def method(comparison: Comparison) -> list[str]:
    """Say how everything was computed, a line each."""
    several, m = len(comparison.strata) > 1, comparison.num_comparisons
    does = "beats" if comparison.direction else "keeps more entropy than"
    level = number(ALPHA) + (f" / {m}" if m > 1 else "")
    ratios = "The score is a ratio, compared as its logarithm: means are geometric, and x1.08 is 1.08 times as much."
    return [
        f"A run is one observation. Its score is the mean over its {comparison.stratum}s."
        if several
        else "A run is one observation, with one score.",
        *([ratios] if comparison.is_ratio else []),
        f"{'Quotients' if comparison.is_ratio else 'Differences'} are between runs of the same seed, finished in both "
        "settings.",
        "IQM: mean without the lowest and the highest quarter of all scores"
        + (f", a score a seed and {comparison.stratum}." if several else "."),
        "Its interval is the percentile bootstrap, which resamples seeds"
        + (f" inside each {comparison.stratum}" if several else "")
        + "; it describes, and decides nothing.",
        *how_computed(comparison),
        f"{chance(comparison)}: chance that a run of the setting {does} one of the baseline, ties one half"
        + (f", mean over the {comparison.stratum}s." if several else "."),
        f"d_z: mean difference over its standard deviation. Seeds for {POWER:.0%} power: of this test at "
        f"{level}, if the true effect were the one seen.",
    ]


def parting(matrix: MeanMatrix, names: Mapping[str, str]) -> str | None:
    """Say from where on a matrix cannot be averaged by stage; `names` of settings by label."""
    if matrix.parts_at is None:
        return None
    who = names[matrix.setting] + (f" and {names[matrix.baseline]}" if matrix.baseline else "")
    return (
        f"The runs of {who} do not train the same environments from stage {matrix.parts_at} on: "
        "only the boundaries before it and the end are averaged."
    )


def what_entropy_is_of(sampled: Mapping[str, Sequence[str]]) -> str:
    """Say what the chart of entropy shows: `sampled` are the ways, in words, in which every setting drew samples."""
    ways = {way for own in sampled.values() for way in own}
    if ways <= {sampling_in_words([PLAIN_SAMPLING])}:
        return "Points in the chart of entropy: held-out tasks, at boundaries."
    points = "points: that of the policies themselves, at temperature 1, on held-out tasks at boundaries."
    if len(ways) == 1:
        return f"Lines in the chart of entropy: that of what samples were drawn from, at {ways.pop()}; {points}"
    each = [f"{name} at {' or '.join(own)}" for name, own in sampled.items()]
    return (
        f"Lines in the chart of entropy: that of what samples were drawn from, {listed(each, 8)}, so that they differ "
        f"without any training; {points}"
    )
