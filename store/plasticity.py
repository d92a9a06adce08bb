"""A run's plasticity as facts, from its ledger: what it can still learn, what it keeps and loses.

Plain dataclasses and numbers: `show`, `show --json`, the report and `compare` take them from here. Definitions follow
`plasticity.md` 3.1 (probes), 1.6 (entropy carried) and 5.3 (what a stage did to the others).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import NormalDist, fmean
from typing import Any

from store import carryover
from store.carryover import NUM_ERRORS, Matrices
from store.kept import tasks_at
from store.ledger.queries import Reading
from store.ledger.query_rows import NetworkRow, TaskSetRow, by_key
from store.probes import AT_END, ProbeCurve, ProbeResult, probes_of
from store.turnover import Turnover

INTERVENED = "intervened"  # the split of what was measured once more after an intervention
FIXED = "entropy_fixed"
DORMANT = "dormant_0.025"
DRIFTS = ("kl_base", "kl_prev")
ANSWERS = ("entropy_answer", "distinct", "support_found_base", "support_kept_base")  # what samples say, of much more
LARGEST_K = (16, 8, 4)  # of pass@k, where the spec names none
COMPARED = ("pass_1", "entropy_token", FIXED, "kl_prev")  # before and after an intervention
ALPHA = 0.05  # chance that a run without any transfer has one that counts as carried
FEWEST_STAGES = 3  # whose ratios have an interval that says something
WHOLE_MODEL = -1
IN_SHORT = {DORMANT: "dormant units", "erank": "effective rank, last layer"}
KL = "KL to the base, nats"

Facts = dict[str, Any]
Ends = tuple[float, float]  # of a 95 % interval
Table = Mapping[str, Mapping[str, float | None]]  # after stage i -> environment j -> value


# --- probes: can it still learn? ---


@dataclass(frozen=True)
class SeedCurve:
    """What one copy scored along its steps; of a loss less is better."""

    after_stage: int
    kind: str
    task: str
    seed: int
    sha256: str  # of the protocol
    metric: str
    chance: float | None  # of a loss, what knowing nothing costs; None: a score
    points: Sequence[tuple[int, float]]  # by step, those that are defined


@dataclass(frozen=True)
class ComparedProbe:
    """What a kind of probe found at a boundary, against the base, of the mean of the seeds that both have."""

    kind: str
    task: str
    metric: str
    after_stage: int
    num_seeds: int
    num_diverged: int  # copies that are not among them
    level: float | None  # None: not looked at before the first step
    base_level: float | None  # None: the base has no such probe
    is_at_end: bool  # whether gains are those at the end, as of random labels, and not of the whole curve
    gain: float | None  # None: nothing was trained, or every copy diverged
    base_gain: float | None
    gain_ratio: float | None  # of the two; None: the base, or one that gains next to nothing
    interval: Ends | None  # of the ratio, over the seeds; None: fewer than two
    area_ratio: float | None


def curves_of(results: Iterable[ProbeResult]) -> list[SeedCurve]:
    """Give the curve of every copy."""
    return [
        SeedCurve(
            one.after_stage,
            one.kind,
            one.task,
            seed,
            one.sha256,
            one.metric,
            curve.chance,
            list(zip(curve.steps, curve.values, strict=True)),
        )
        for one in results
        for seed, curve in sorted(one.seeds.items())
    ]


def compared_probes(results: Iterable[ProbeResult]) -> list[ComparedProbe]:
    """Sum up every kind and task at every boundary; intervals are over single seeds."""
    found = []
    for one in results:
        pairs = [
            (own, base)
            for seed, base in sorted(one.base_seeds.items())
            if (own := one.seeds.get(seed)) and own.steps == base.steps == one.curve.steps
        ]
        is_trained, against = len(one.curve.steps) > 1, one.against_base if one.after_stage else None
        ratio = one.headline if against is not None and is_trained else None
        found.append(
            ComparedProbe(
                one.kind,
                one.task,
                one.metric,
                one.after_stage,
                one.num_seeds,
                one.num_diverged,
                one.level,
                one.base_level,
                one.kind in AT_END,
                one.curve.told_gain(one.kind) if is_trained and one.gain is not None else None,
                one.base.told_gain(one.kind) if one.base and one.base.has_start and len(one.base.steps) > 1 else None,
                ratio,
                _over_seeds(one.kind, pairs) if ratio is not None else None,
                against.auc_ratio if against is not None and is_trained else None,
            )
        )
    return found


def _over_seeds(kind: str, pairs: Sequence[tuple[ProbeCurve, ProbeCurve]]) -> Ends | None:
    """The interval of a ratio over pairs of a seed's curve and the base's; None: fewer than two."""
    if len(pairs) < 2:
        return None
    from store.intervals import ratio_interval  # loads numpy and scipy, which most runs do without

    gains, bases = ([one.told_gain(kind) for one in side] for side in zip(*pairs, strict=True))
    ends = ratio_interval(gains, bases)
    return ends.low, ends.high


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


# --- what stages did to the other environments ---


@dataclass(frozen=True)
class Transfer:
    """Mean change of accuracy on an environment over a stage on another, or on itself."""

    trained: str
    changed: str
    num_visits: int  # stages behind it
    change: float
    margin: float | None  # two standard errors over the tasks; None: not known
    bound: float | None = None  # what chance over the tasks makes of all the run's changes on other environments

    @property
    def is_carried(self) -> bool:
        """Whether the change is more than chance over the tasks makes anywhere among so many."""
        return self.bound is not None and abs(self.change) > self.bound


def transfers(found: Matrices, sets: Iterable[TaskSetRow] = ()) -> list[Transfer]:
    """What a stage on i changed on j, averaged over the visits to i; nothing in flat mode.

    Left out are visits after which j was measured on other held-out tasks than before, of which `sets` tell.

    A change is carried beyond the two-sided normal quantile at `ALPHA` / m, of the m changes on other environments.
    """
    names = list(dict.fromkeys(name for _, name in found.accuracy))
    own = by_key(sets, lambda one: one.environment)

    def is_alike(name: str, i: int) -> bool:
        before, after = (tasks_at(own.get(name, ()), name, at) for at in (i - 1, i))
        return before == after

    made = []
    for trained in dict.fromkeys(found.trained):
        visits = [i for i, name in enumerate(found.trained, start=1) if name == trained]
        for changed in names:
            changes = {i: found.change(changed, i - 1, i) for i in visits if is_alike(changed, i)}
            known = [(i, change) for i, change in changes.items() if change is not None]
            if known:
                ends = [found.errors.get((at, changed)) for i, _ in known for at in (i - 1, i)]
                errors = _known(ends)
                margin = NUM_ERRORS * math.hypot(*errors) / len(known) if len(errors) == len(ends) else None
                made.append(Transfer(trained, changed, len(known), fmean(c for _, c in known), margin))
    num = sum(one.margin is not None and one.trained != one.changed for one in made)
    widening = NormalDist().inv_cdf(1 - ALPHA / 2 / max(num, 1)) / NUM_ERRORS
    return [one if one.margin is None else replace(one, bound=widening * one.margin) for one in made]


# --- interventions ---


@dataclass(frozen=True)
class Intervention:
    """A change of the policy between two stages, with what was measured before and after it."""

    after_stage: int
    kind: str
    params: Mapping[str, Any]
    why: str
    before: Mapping[str, float]  # by metric: mean over the environments measured both times
    after: Mapping[str, float]


@dataclass(frozen=True)
class PlasticityFacts:
    """Everything there is to say; what was not measured is empty."""

    trainability: Sequence[ComparedProbe] = ()
    curves: Sequence[SeedCurve] = ()
    network: Mapping[str, Mapping[int, Mapping[int, float | None]]] = field(default_factory=dict)  # by layer and stage
    entropy_fixed: Table = field(default_factory=dict)
    drift: Mapping[str, Table] = field(default_factory=dict)
    answers: Mapping[str, Table] = field(default_factory=dict)  # `ANSWERS`, and pass@k of the largest k
    entropy_carried: Facts | None = None
    turnover: Sequence[Turnover] = ()
    transfer: Sequence[Transfer] = ()
    interventions: Sequence[Intervention] = ()

    @property
    def is_measured(self) -> bool:
        """Whether anything beside the evaluation's own matrices is there."""
        return bool(
            self.curves or self.network or self.entropy_fixed or self.drift or self.answers or self.interventions
        )


def read_plasticity(read: Reading, name: str, found: Matrices) -> PlasticityFacts:
    """Ask the ledger; a handful of queries, none of them by task."""
    results = probes_of(read, name).results
    pass_k = _pass_k(read.spec(name))
    tables = _tables(read, name, (FIXED, *DRIFTS, *ANSWERS, *pass_k))
    fixed = tables[FIXED]
    answers = {}
    if tables["entropy_answer"]:
        largest = next((metric for metric in pass_k if tables[metric]), None)
        shown = ANSWERS if largest is None else (*ANSWERS, largest)
        answers = {metric: tables[metric] for metric in shown if tables[metric]}
    return PlasticityFacts(
        compared_probes(results),
        curves_of(results),
        _layers(read.network(name)),
        fixed,
        {metric: tables[metric] for metric in DRIFTS if tables[metric]},
        answers,
        entropy_carried(found, fixed),
        read.turnover(name),
        transfers(found, read.task_sets(name)),
        _interventions(read, name),
    )


def as_facts(found: PlasticityFacts) -> Facts:
    """The same as plain data, with what the objects know of themselves."""
    plain = asdict(found)
    for one, row in zip(found.transfer, plain["transfer"], strict=True):
        row["is_carried"] = one.is_carried
    for flow, row in zip(found.turnover, plain["turnover"], strict=True):
        row |= {"is_gain": flow.is_gain, "is_loss": flow.is_loss}
    return {**plain, "is_measured": found.is_measured}


@dataclass(frozen=True)
class Summary:
    """A number at the first boundary that has it and at the last, for a few lines.

    Of several environments it is their mean, of those that both boundaries have.
    """

    what: str
    first: float | None  # None: unknown, or one boundary has it
    last: float | None
    last_stage: int  # that the last boundary comes after
    first_stage: int | None = 0  # that the first boundary comes after; None: one boundary has it
    ratio: float | None = None  # last over first
    interval: Ends | None = None  # of the ratio, over the seeds of a probe
    probe: Facts | None = None


def first_and_last(found: Facts) -> list[Summary]:
    """Sum up what was measured, a row each: every probe with its start, what its name says of the rest."""
    rows = []
    for (kind, task), own in by_key(found["trainability"], lambda row: (row["kind"], row["task"])).items():
        last, probe = own[-1], {"kind": kind, "task": task}
        if at := last["after_stage"]:
            what = "loss" if last["metric"].endswith("loss") else "score"
            rows.append(Summary(f"{what} at its start", last["base_level"], last["level"], at, probe=probe))
            if last["gain"] is not None or last["num_diverged"]:
                ends = (last["base_gain"], last["gain"], at, 0, last["gain_ratio"], last["interval"])
                what = "gain at the end" if last["is_at_end"] else "gain"
                what += f", {last['num_diverged']} diverged" if last["num_diverged"] else ""
                rows.append(Summary(what, *ends, probe=probe))
    for name, title in IN_SHORT.items():
        layers = found["network"].get(name)
        if layers:
            layer = WHOLE_MODEL if WHOLE_MODEL in layers else max(layers)
            rows.append(_ends(title, layers[layer]))
    for table, title in (
        (found["entropy_fixed"], "entropy on frozen answers, nats"),
        (found["drift"].get("kl_base"), KL),
        (found["answers"].get("entropy_answer"), "entropy of the answers to a task, nats"),
    ):
        values = _of_the_same(table or {})
        if values:
            rows.append(_ends(title, values))
    return rows


def _of_the_same(table: Table) -> dict[int, float]:
    """Means at the first and the last boundary, over the environments that both have; of none, at the last alone."""
    known = {int(i): {name: v for name, v in row.items() if v is not None} for i, row in table.items()}
    known = {i: row for i, row in known.items() if row}
    if not known:
        return {}
    first, last = known[min(known)], known[max(known)]
    if not (both := first.keys() & last.keys()):
        return {max(known): fmean(last.values())}
    return {i: fmean(known[i][name] for name in sorted(both)) for i in (min(known), max(known))}


def _ends(what: str, values: Mapping[int, float | None]) -> Summary:
    """Sum up what was measured after these stages."""
    first, last = min(values), max(values)
    if first == last:
        return Summary(what, None, values[last], last, None)
    return Summary(what, values[first], values[last], last, first)


def lost_share(turnover: Iterable[Turnover]) -> float | None:
    """Of the tasks solved at a boundary, the share that the next look found lost; None: none was ever solved."""
    rows = list(turnover)
    solved = sum(row.solved_before for row in rows)
    return sum(row.lost for row in rows) / solved if solved else None


def entropy_carried(found: Matrices, fixed: Table) -> Facts | None:
    """How much of its entropy at the start an environment still has on arrival, over the stages after the first.

    On fixed texts where enough arrivals have them, else on what the policy wrote: the network may have been read at few
    boundaries. The interval is over the stages.
    """
    frozen, written = _carried_on_frozen(found, fixed), carryover.carried(found)
    num_frozen, num_written = (len(_known(shares)) for shares in (frozen, written))
    is_frozen = num_frozen > 0 and num_frozen >= min(FEWEST_STAGES, num_written)
    shares = frozen if is_frozen else written
    known = _known(shares)
    mean = carryover.geometric_mean(shares)
    if mean is None:
        return None
    interval = None
    if len(known) >= FEWEST_STAGES and all(known):  # 0 has no logarithm
        from store.intervals import t_interval

        ends = t_interval([math.log(share) for share in known])
        interval = (math.exp(ends.low), math.exp(ends.high))
    return {
        "metric": FIXED if is_frozen else "entropy_token",
        "mean": mean,
        "interval": interval,
        "num_stages": len(known),
    }


def fixed_carried(read: Reading, name: str, found: Matrices) -> float | None:
    """The same mean on frozen answers; None where they were not read, or no stage after the first is measured."""
    return carryover.geometric_mean(_carried_on_frozen(found, _tables(read, name, [FIXED])[FIXED]))


def _carried_on_frozen(found: Matrices, fixed: Table) -> list[float | None]:
    rows = {(int(i), name): value for i, row in fixed.items() for name, value in row.items()}
    return carryover.carried(Matrices(found.accuracy, rows, {}, found.stages))


def carried(read: Reading, name: str) -> Facts | None:
    """The entropy that a run carried, alone."""
    return entropy_carried(read.carry_over(name), _tables(read, name, [FIXED])[FIXED])


def dormant_share(read: Reading, name: str) -> float | None:
    """The share of dormant units of the whole model where it was measured last."""
    whole = _layers(read.network(name, DORMANT)).get(DORMANT, {}).get(WHOLE_MODEL, {})
    return whole[max(whole)] if whole else None


def _tables(read: Reading, name: str, metrics: Sequence[str]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Metrics after stage i on environment j, on environments as wholes."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for metric, cells in read.matrices(name, metrics, by_category=False).items():
        table = found.setdefault(metric, {})
        for cell in cells:
            if cell.environment is not None:
                table.setdefault(str(cell.after_stage), {})[cell.environment] = cell.value
    return found


def _pass_k(spec: Mapping[str, Any]) -> list[str]:
    """Name pass@k of the measurement `samples`, the largest k first."""
    entries = (spec.get("measure") or {}).get("of") or []
    given = next((one.get("k") for one in entries if isinstance(one, Mapping) and one.get("type") == "samples"), None)
    return [f"pass_{k}" for k in sorted(given or LARGEST_K, reverse=True)]


def _layers(rows: Sequence[NetworkRow]) -> dict[str, dict[int, dict[int, float | None]]]:
    found: dict[str, dict[int, dict[int, float | None]]] = {}
    for row in rows:
        found.setdefault(row.metric, {}).setdefault(row.layer, {})[row.after_stage] = row.value
    return found


def _interventions(read: Reading, name: str) -> list[Intervention]:
    made = read.interventions(name)
    if not made:
        return []
    before, after = (_values(read, name, split) for split in (None, INTERVENED))
    both = by_key(before.keys() & after.keys(), lambda key: key[:2])  # by stage and metric

    def means(values: Mapping[tuple[int, str, str], float], at: int) -> dict[str, float]:
        return {one: fmean(values[key] for key in both[at, one]) for one in COMPARED if (at, one) in both}

    return [
        Intervention(
            one.after_stage,
            one.kind,
            one.params,
            one.why,
            means(before, one.after_stage),
            means(after, one.after_stage),
        )
        for one in made
    ]


def _values(read: Reading, name: str, split: str | None) -> dict[tuple[int, str, str], float]:
    """What was measured on environments as wholes, by stage, metric and environment."""
    return {
        (cell.after_stage, one, cell.environment): cell.value
        for one, cells in read.matrices(name, COMPARED, split, by_category=False).items()
        for cell in cells
        if cell.environment is not None and cell.value is not None
    }
