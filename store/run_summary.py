"""What there is to say about a run, from its ledger alone: plain facts for `show`, `show --json` and the report."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from store import carryover, checkpoints, plasticity
from store.carryover import Coverage, Matrices
from store.errors import CannotFit
from store.home import Home
from store.kept import kept_beside, on_other_tasks, tasks_at
from store.ledger import Ledger
from store.ledger.queries import Reading
from store.ledger.queries.runs import matrices_of
from store.ledger.query_rows import CellRow, MetricRow, StageRow, TaskSetRow
from store.metrics import INTERIM, metric
from store.records import EVERYTHING
from store.run_status import status
from store.secrets import values_without_logins
from store.sentences import listed, what_is_missing

MATRICES = ("pass_1", "pass_4", "entropy_token")
PARTS = ("draw", "play", "score", "wait", "update", "other")  # of a step's time
# Of an objective, as the spec's section calls them; `shaper` and `controller` did while there could be one only.
OBJECTIVE_PARTS = (
    *("plans", "reward_maps", "estimator", "shaper", "shapers", "mismatch", "ratio", "terms"),
    *("aggregation", "controller", "controllers"),
)
NO_CONTROLLER = "none: nothing moves the force on entropy"

# Of the whole batch, in the order in which they are shown; with what they are called.
HONESTY = {
    "sampler_gap_mean": "gap of log-probs to the learner, nats",
    "sampler_gap_max": "that of the worst token",
    "tis_weight_mean": "importance weight",
    "tis_weight_max": "that of the worst token",
    "tis_capped_frac": "tokens whose weight was capped",
    "versions_behind": "versions behind the learner",
}
SPEED = {
    "tokens_per_s": "tokens a second, of the whole step",
    "tokens_per_s_play": "while playing",
    "tokens_per_s_update": "while updating",
    "rows_run_frac": "rows that the update had to run",
}
BY_ENVIRONMENT = {
    "truncated_frac": "cut off",
    "response_len": "tokens an answer",
    "num_turns": "turns",
    "tokens_per_s_play": "tokens a second",
}

Facts = dict[str, Any]
Matrix = dict[str, dict[str, float | None]]  # after stage i -> environment j -> value


def facts_with_digests(ledger: Ledger, home: Home, name: str) -> Facts:
    """Collect what there is to say about a run, and its digests, which read everything; a record with gaps has none."""
    folder = home.run_folder(name)
    found = facts(ledger, folder, name)
    hashes = digests(ledger.reading, name, folder) if found["missing"] is None else None
    return {**found, "digest": hashes and hashes.digest, "digest_all": hashes and hashes.digest_all}


@dataclass(frozen=True)
class Digests:
    """The hashes of a run, and the step of the checkpoint whose weights they cover."""

    step: int
    digest: str
    digest_all: str


def digests(read: Reading, name: str, folder: Path) -> Digests | None:
    """Hash a run with the weights of its newest whole checkpoint; None: there is none."""
    record, _ = checkpoints.newest_valid(folder, read.checkpoints(name))
    if record is None:
        return None
    weights = checkpoints.weights_sha256(folder / record.folder)
    return Digests(record.step, read.digest(name, weights), read.digest_all(name, weights))


def facts(ledger: Ledger, folder: Path, name: str) -> Facts:
    """Collect what there is to say about a run; quick enough to be asked at every boundary."""
    read = ledger.reading
    run, spec, twin = read.run(name), read.spec(name), read.baseline(name)
    objective = spec.get("objective") or {}
    cells = read.matrices(name, MATRICES)
    matrices = {metric: _matrix(of) for metric, of in cells.items()}
    begun = read.stages(name)
    seconds = read.sums(name, [f"seconds_{part}" for part in (*PARTS, "evaluate")])
    sets = read.task_sets(name)
    measured = matrices_of(cells["pass_1"], cells["entropy_token"], begun, read.journeys(name))
    return {
        "name": name,
        "status": status(run.status, folder),
        "folder": str(folder),
        "parent": {"name": run.parent, "after_stage": run.parent_stage} if run.parent else None,
        "study": {"name": run.study, "setting": run.setting} if run.study else None,
        "baseline_of": run.baseline_of,
        "baseline": None if twin is None else _beside(read, name, twin, spec, matrices["pass_1"]),
        "kept": None if twin is None else kept_beside(read, name, twin),
        "model": run.model,
        "objective": run.objective,
        "composition": dict(composed(objective, spec.get("environments", ()))),
        "scheduler": run.scheduler,
        "bandit": run.bandit,
        "seed": run.seed,
        "num_steps": run.num_steps,
        "warm_start": _warm_start(spec.get("warm_start") or {}),
        "planned_steps": _planned_steps(spec["curriculum"], [asdict(stage) for stage in begun]),
        "planned_stages": spec["curriculum"]["stages"],
        "num_boundaries": run.num_boundaries,
        "missing": what_is_missing(read.gaps(name)),
        "changed_tasks": changed_tasks(sets),
        "seconds": {
            **{part: seconds.get(f"seconds_{part}", 0.0) for part in PARTS},
            "evaluate": sum(boundary.seconds for boundary in read.boundaries(name))
            + seconds.get("seconds_evaluate", 0.0),
        },
        "environments": _first_and_last(matrices, cells["pass_1"], measured),
        "matrices": matrices,
        "carry_over": carryover.of_run(measured),
        "partly": {name: list(of) for name, of in carryover.partly(measured).items()},
        "switches": [
            {"stage": stage, "environment": name, **carryover.of_switch(measured, stage)}
            for stage, name in enumerate(measured.trained, start=1)
        ],
        "laws": [] if acts_on_entropy(objective) else entropy_laws(matrices, begun, read.evaluations(name), sets),
        "looking": what_looking_cost(read, name, spec, seconds),
        "plasticity": plasticity.as_facts(plasticity.read_plasticity(read, name, measured)),
        "stages": [asdict(stage) for stage in begun],
        "arms": [
            {**path._asdict(), "is_scheduler": path.bandit == EVERYTHING and run.scheduler is not None}
            for path in read.arm_paths(name)
        ],
        "allocation": [row._asdict() for row in read.allocation(name)],
        # what the objective reads of a score; earlier specs did not say, and it was the value
        "taught": [row._asdict() for row in read.taught(name, str(objective.get("reward", "value")))],
        "played": played(read, name),
        "unscorable": read.unscorable(name),
        "last_metrics": {
            number.metric: number.value for number in read.last_metrics(name) if number.environment is None
        },
        "events": [asdict(event) for event in read.events(name)],
    }


NAMING = ("type", "preset", "model")  # last parts of fields that name a method
METHODS = ("objective", "bandit", "scheduler")  # are told first of what a twin is made with


def composed(section: Mapping[str, Any], environments: Collection[str] = ()) -> list[tuple[str, str]]:
    """The parts of an objective as they act, without those that are off, as a term whose coefficient is 0 is.

    Behind them the objectives that single environments have, each in one line; alone where all of these have one.
    """
    found = []
    by = section.get("by") or {}
    for part in () if environments and by.keys() >= set(environments) else OBJECTIVE_PARTS:
        value = section.get(part)
        entries = [one for one in (value if isinstance(value, list) else [value] if value else []) if one]
        if part == "terms":
            entries = [term for term in entries if section.get(term) != 0]
        if entries or (part in section and part.startswith("controller")):
            found.append((part, ", ".join(map(_part_as_text, entries)) or NO_CONTROLLER))
    for name, own in by.items():
        found.append((f"by {name}", ", ".join([own["preset"], *(f"{part} {text}" for part, text in composed(own))])))
    return found


def _part_as_text(part: Any) -> str:
    """A part by its name, with the options that it holds itself."""
    if not isinstance(part, Mapping):
        return str(part)
    given = [f"{key} {scalar(value)}" for key, value in part.items() if key != "type" and value is not None]
    return f"{part.get('type')} ({', '.join(given)})" if given else str(part.get("type"))


def scalar(value: Any) -> str:
    """A value of the spec in words, without logins."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"[{', '.join(map(scalar, value))}]"
    return "{}" if value == {} else str(values_without_logins(value))


def leaves(data: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Name every leaf of nested maps by its dotted path; an empty map is a leaf."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def acts_on_entropy(objective: Mapping[str, Any]) -> bool:
    """Whether a part of the objective moves entropy on purpose, so that the entropy law has nothing to say."""
    if any(map(acts_on_entropy, (objective.get("by") or {}).values())):
        return True
    parts = dict(composed(objective))
    acting = {"plans", "shaper", "shapers", "terms"} & parts.keys()
    return bool(acting) or parts.get("controllers", parts.get("controller", NO_CONTROLLER)) != NO_CONTROLLER


Point = tuple[float | None, float | None]  # entropy, accuracy


def entropy_laws(
    matrices: Mapping[str, Matrix],
    stages: Sequence[StageRow],
    inside: Sequence[MetricRow],
    sets: Sequence[TaskSetRow] = (),
) -> list[Facts]:
    """What accuracy entropy bought: a law for every stage and its environment, of the evaluations in and around it.

    In flat mode all stages are one, for every environment. Where a law's conditions do not hold its numbers are None,
    and `why_not` says which; so they are where held-out tasks, of which `sets` tell, changed on the way. Where there
    are too few points to fit any there is no entry.
    """
    from store.entropy_law import fit  # loads numpy, which `ls` does without

    names = dict.fromkeys(name for row in matrices["entropy_token"].values() for name in row)
    whose: list[tuple[int | None, str, list[StageRow]]]
    whose = [(row.stage, row.environment, [row]) for row in stages if row.environment is not None]
    if stages and not whose:
        whose = [(None, name, list(stages)) for name in names]
    found = []
    for stage, name, own in whose:
        points = [(h, r) for h, r in _points(matrices, own, name, inside) if h is not None and r is not None]
        with suppress(CannotFit):
            law = fit([h for h, _ in points], [r for _, r in points])
            numbers = {**asdict(law), "ceiling": law.ceiling, "rise": law.rise(points[-1][0])}
            at = (tasks_at(sets, name, after) for after in range(own[0].stage - 1, own[-1].stage + 1))
            why_not = "its held-out tasks changed on the way" if len(set(filter(None, at))) > 1 else law.why_not
            if why_not is not None:
                numbers = {**dict.fromkeys(numbers), "num_points": law.num_points}
            found.append({"stage": stage, "environment": name, **numbers, "why_not": why_not})
    return found


def _points(
    matrices: Mapping[str, Matrix], stages: Sequence[StageRow], name: str, inside: Sequence[MetricRow]
) -> Iterator[Point]:
    """Evaluations of an environment from the boundary before these stages to that after them, in order."""

    def at(boundary: int) -> Point:
        entropy, accuracy = (matrices[metric].get(str(boundary), {}) for metric in ("entropy_token", "pass_1"))
        return entropy.get(name), accuracy.get(name)

    yield at(stages[0].stage - 1)
    for stage in stages:
        found: dict[int, dict[str, float | None]] = {}
        for row in inside:
            is_own = row.environment == name and row.category is None
            if is_own and row.step > stage.start_step and (stage.end_step is None or row.step <= stage.end_step):
                found.setdefault(row.step, {})[row.metric] = row.value
        for step in sorted(found):
            yield found[step].get(f"{INTERIM}entropy_token"), found[step].get(f"{INTERIM}pass_1")
        yield at(stage.stage)


def what_looking_cost(read: Reading, name: str, spec: Mapping[str, Any], seconds: Mapping[str, float]) -> Facts:
    """How many passes and seconds looking took, by part, beside the training's: passes as planned.

    A sample forward is a pass, forward and backward are 3; one that is played and trained on is 4.
    """
    training = {"passes": 4.0 * num_trained(read, name)}
    training["seconds"] = sum(seconds.get(f"seconds_{part}", 0.0) for part in PARTS)
    parts: dict[str, Facts] = {}
    for row in read.measurements(name):
        part = parts.setdefault(row.name, {"looks": 0, "passes": 0.0, "seconds": 0.0})
        part["looks"] += 1
        part["passes"] += row.passes
        part["seconds"] += row.seconds
    if inside := seconds.get("seconds_evaluate"):
        played: dict[tuple[int, str | None, str | None], float] = {}  # tasks: of some numbers only those scored count
        for one in read.evaluations(name):
            if one.category is not None:
                place = one.step, one.environment, one.category
                played[place] = max(one.n, played.get(place, 0))
        samples = spec["evaluate"]["samples"] + bool(spec["evaluate"].get("greedy"))
        passes = samples * sum(played.values())
        looks = len({step for step, _, _ in played})
        parts["inside stages"] = {"looks": looks, "passes": passes, "seconds": inside}
    planned = {section: (spec.get(section) or {}).get("share") for section in ("evaluate", "measure")}
    return {"training": training, "parts": parts, "shares": planned}


def num_trained(read: Reading, name: str) -> int:
    """Count the samples trained on, as played: environments may have groups of their own size, and a fork another."""
    return sum(step.num_samples for step in read.steps(name))


def _warm_start(section: Mapping[str, Any]) -> Facts | None:
    """Say how many batches of a warm start were on which environments; None: there was none."""
    named = section.get("environments") or ()
    own = named if isinstance(named, Mapping) else {name: {} for name in named}
    num_batches = sum(share.get("batches") or section["batches"] for share in own.values())
    return {"num_batches": num_batches, "environments": list(own)} if num_batches else None


def _planned_steps(curriculum: Mapping[str, Any], stages: Sequence[Facts]) -> int:
    """Steps of the whole run, at most: stages that are over count as they were."""
    last = stages[-1] if stages else {"stage": 0, "end_step": 0}
    done = last["start_step"] + last["num_steps"] if last["end_step"] is None else last["end_step"]
    return int(done + (curriculum["stages"] - last["stage"]) * curriculum["stage"]["steps"])


def _matrix(cells: list[CellRow]) -> Matrix:
    """Arrange the environments' own cells by stage; categories are left out."""
    matrix: Matrix = {}
    for cell in cells:
        if cell.category is None and cell.environment is not None:
            matrix.setdefault(str(cell.after_stage), {})[cell.environment] = cell.value
    return matrix


def changed_tasks(sets: Iterable[TaskSetRow]) -> dict[str, list[int]]:
    """Name the environments whose held-out tasks changed, and after which stages others were measured first."""
    first: dict[str, set[int]] = defaultdict(set)
    for one in sets:
        if one.purpose in ("own", "anchor"):
            first[one.environment].add(one.first)
    return {name: later for name, at in sorted(first.items()) if (later := sorted(at)[1:])}


def _first_and_last(matrices: Mapping[str, Matrix], cells: list[CellRow], measured: Matrices) -> Facts:
    """Compare every environment's start, where that is known, with the last boundary that measured it.

    There is no end where none did since the start: what is left of that is not known then. Accuracy is compared with
    its best before the end too, from the first own stage on.
    """
    since_best = carryover.since_best(measured)
    closed = {cell.environment for cell in cells if cell.split == "own"}
    stderr = {(c.after_stage, c.environment): c.stderr for c in cells if c.category is None}
    found: Facts = {}

    def ends(metric: str, coverage: Coverage, name: str) -> tuple[float | None, float | None]:
        rows = sorted(matrices[metric].items(), key=lambda row: int(row[0]))
        course = [row[name] for _, row in rows if name in row] or [None]
        start = coverage.start(name)
        is_unseen_since = len(course) == 1 and start is not None and start < coverage.boundaries[-1]
        return None if start is None else course[0], None if is_unseen_since else course[-1]

    for name in dict.fromkeys(cell.environment for cell in cells if cell.environment is not None):
        accuracy = ends("pass_1", measured.accuracy_coverage, name)
        entropy = ends("entropy_token", measured.entropy_coverage, name)
        boundaries = [int(i) for i, row in matrices["pass_1"].items() if name in row] or [0]
        first, last = (stderr.get((i, name)) for i in (min(boundaries), max(boundaries)))
        fall, fall_stderr = since_best.get(name, (None, None))
        found[name] = {
            "closed": name in closed,
            "accuracy_start": accuracy[0],
            "accuracy_end": accuracy[1],
            "accuracy_change": carryover.difference(*accuracy),
            "accuracy_change_stderr": None if first is None or last is None else math.hypot(first, last),
            "accuracy_stderr": None if accuracy[1] is None else last,
            "accuracy_since_best": fall,
            "accuracy_since_best_stderr": fall_stderr,
            "entropy_start": entropy[0],
            "entropy_end": entropy[1],
            "end_stage": max(boundaries),
        }
    return found


def _beside(read: Reading, name: str, twin: str, spec: Mapping[str, Any], accuracy: Matrix) -> Facts:
    """Compare a run with its twin, at the last boundary that both have measured.

    Environments that they measured on different held-out tasks are named there instead; and where they did so anywhere,
    the entropy that the twin carried is none to compare with.
    """
    other = _matrix(read.matrix(twin, "pass_1"))
    both = sorted(accuracy.keys() & other.keys(), key=int)
    ours, theirs = (accuracy[both[-1]], other[both[-1]]) if both else ({}, {})
    places = [(one, int(i)) for i in both for one in accuracy[i]]
    apart = on_other_tasks(read.task_sets(name), read.task_sets(twin), places)
    other_tasks = [one for one in ours if (one, int(both[-1])) in apart]
    bandit, settings = read.run(twin).bandit, spec.get("baseline")
    settings = settings if isinstance(settings, Mapping) else {"curriculum.bandit": bandit}
    return {
        "name": twin,
        "bandit": bandit,
        "settings": settings,
        "settings_in_words": settings_in_words(settings),
        "entropy_carried": None if apart else plasticity.carried(read, twin),
        "after_stage": int(both[-1]) if both else None,
        "accuracy": theirs,
        "accuracy_change": {
            one: None if one in other_tasks else carryover.difference(theirs.get(one), value)
            for one, value in ours.items()
        },
        "other_tasks": other_tasks,
    }


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Say what a twin is made with instead: the uniform bandit; objective grpo and replay 0."""
    given = [(key.split("."), scalar(value)) for key, value in leaves(settings)]
    named = [(words[:-1] if words[-1] in NAMING else words, value) for words, value in given]
    if [words[-1:] for words, _ in named] == [["bandit"]]:
        return f"the {named[0][1]} bandit"
    ends = [words[-1:] for words, _ in named]
    said = [f"{'.'.join(words) if ends.count(words[-1:]) > 1 else words[-1]} {value}" for words, value in named]
    order = sorted(said, key=lambda one: one.split()[0] not in METHODS)  # a ledger keeps maps by the alphabet
    return listed(order)


# --- how episodes were played: what their log-probs are worth, how old the weights were, how fast it went ---


def played(read: Reading, name: str) -> Facts:
    """Mean and largest value over all steps: {"batch": {metric: {mean, largest}}, "environments": {name: {...}}}."""
    facts: Facts = {"batch": {}, "environments": {}}
    for extent in read.extents(name, [*dict.fromkeys([*HONESTY, *SPEED, *BY_ENVIRONMENT])]):
        value = {"mean": extent.mean, "largest": extent.largest}
        if extent.environment is None:
            facts["batch"][extent.metric] = value
        elif extent.metric in BY_ENVIRONMENT:
            facts["environments"].setdefault(extent.environment, {})[extent.metric] = value
    return facts


def batch_rows(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, mean and largest of what is known of the whole batch, as text."""
    found = facts["batch"]
    return [
        (label, _text(name, found[name]["mean"]), _text(name, found[name]["largest"]))
        for name, label in {**HONESTY, **SPEED}.items()
        if name in found
    ]


def environment_columns(facts: Mapping[str, Any]) -> dict[str, str]:
    """Name the columns that at least one environment fills: turns, say, only where there are several."""
    of = facts["environments"].values()
    return {name: label for name, label in BY_ENVIRONMENT.items() if any(name in own for own in of)}


def environment_rows(facts: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Every environment's means, in the order of `environment_columns`."""
    columns = environment_columns(facts)
    return [
        (name, [_text(column, own[column]["mean"]) if column in own else "-" for column in columns])
        for name, own in facts["environments"].items()
    ]


def _text(name: str, value: float) -> str:
    return f"{value:.1%}" if metric(name).unit == "fraction" else compact(value)


def compact(value: float) -> str:
    """Write a number of any size in a few characters: 3e-07, .0042, .31, 12.4, 18,300."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
