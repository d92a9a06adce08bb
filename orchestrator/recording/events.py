"""What was decided, what went wrong and what a step's numbers warn of, in words, for the ledger and for callbacks.

An alarm is raised when it begins, and again only after it has calmed down; which ones are on is part of a run's
position, so that a resumed run does not repeat them. Each is a function that yields its name and its text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from environments import Environment, PassedOver
from environments.pools import TOO_LONG
from orchestrator.played_group import Group, unscorable
from orchestrator.progress import Progress
from orchestrator.rollout.task_supply import PromptLimits
from orchestrator.spec import Spec
from orchestrator.tallies import MOST_CUT_OFF
from policies.learner import UpdateReport
from policies.model_facts import END_REMEDY
from store.kept import tasks_at
from store.ledger.query_rows import CellRow, EventRow, TaskSetRow
from store.records import DECISION, CellRecord, EventRecord, HoldoutRecord, MetricRecord
from store.sentences import COLLAPSED, listed

REASONS, PLACES = 3, 5  # named in an event
REASONS_IN_DATA = "rows_by_reason"  # of an event of rows left out: what a changed file is compared with
# Mean |log-prob of the sampler - of the learner| at equal weights, nats: rounding stays far below in float32; the other
# two are common experience, not measured by us.
MOST_GAP = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.05}
MOST_CAPPED = 0.01  # share of tokens
CALM_CUT_OFF = 0.25  # where the alarm of `MOST_CUT_OFF` is over: the shares of single steps go up and down
FEWEST_SAMPLES = 16  # before a share of samples means anything
RISEN, ABOVE = 1.5, 0.5  # entropy is far above its start: so many times, and nats a token
LEARNT = 0.05  # of accuracy: what is learnt may take more entropy
MOST_SILENT = 10  # steps in a row in which no group of the stage's own environment has a signal

Alarms = Iterator[tuple[str, str]]  # name and text
Silence = Mapping[str, Sequence[int]]  # see `Progress.silence`


def of_data(environments: Mapping[str, Environment], remarks: Sequence[str]) -> list[EventRecord]:
    """Say what of the environments' data is not used, and what cannot be measured."""
    events = []
    for name, environment in environments.items():
        if environment.num_left_out:
            events.append(_left_out(name, environment, {}))
        events += [EventRecord("left out", f"{name}: {text}") for text in environment.remarks]
        events += [EventRecord("warning", f"{name}: {text}") for text in environment.warnings]
    return events + [EventRecord("warning", text) for text in remarks]


def of_changed_data(
    environments: Mapping[str, Environment], remarks: Sequence[str], told: Iterable[EventRow]
) -> list[EventRecord]:
    """Say the same of environments whose data has changed, as far as it is news after what was `told`."""
    before: dict[str, Mapping[str, int]] = {}
    texts = set()
    for event in told:
        texts.add(event.text)
        if REASONS_IN_DATA in event.data:
            before[event.data["environment"]] = event.data[REASONS_IN_DATA]
    rows = [
        _left_out(name, environment, before.get(name, {}))
        for name, environment in environments.items()
        if before.get(name, {}) != _by_reason(environment)
    ]
    others = [event for event in of_data(environments, remarks) if REASONS_IN_DATA not in event.data]
    return [*rows, *(event for event in others if event.text not in texts)]


def of_joined(categories: Mapping[str, Sequence[str]]) -> list[EventRecord]:
    """Say which environments, by name, have categories to train on that the checkpoint does not know."""
    since = "they may be picked from here on: categories are read when a run begins, is resumed or forked"
    return [
        EventRecord(
            "not bitwise", f"{name} has categories that were not there at this checkpoint, {listed(new)}; {since}"
        )
        for name, new in categories.items()
    ]


def of_changed_tasks(before: Sequence[TaskSetRow], now: Iterable[HoldoutRecord]) -> list[EventRecord]:
    """Say of which environments other tasks are held out than those that were measured last."""
    last: dict[tuple[str, str], int] = defaultdict(int)
    for one in before:
        last[one.environment, one.purpose] = max(last[one.environment, one.purpose], one.last)
    measured, held_out = defaultdict[tuple[str, str], set[Any]](set), _held_out(now)
    for one in before:
        if one.last == last[one.environment, one.purpose]:
            measured[one.environment, one.purpose].add((one.category, one.sha256))
    changed = {of[0]: last[of] for of, tasks in measured.items() if of in held_out and held_out[of] != tasks}
    return [
        EventRecord(
            "warning",
            f"the held-out tasks of {name} are not those that were measured "
            f"{f'after stage {after}' if after else 'before training'}: numbers up to there and later ones are not of "
            "the same tasks, and their changes tell of the tasks as well as of the policy",
        )
        for name, after in sorted(changed.items())
    ]


def _held_out(now: Iterable[HoldoutRecord]) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Arrange tasks by environment and purpose: categories with their hashes, but those that are measured nowhere."""
    found = defaultdict[tuple[str, str], set[tuple[str, str]]](set)
    for record in now:
        if record.num_items:
            found[record.environment, record.purpose].add((record.category, record.sha256))
    return found


def _left_out(name: str, environment: Environment, before: Mapping[str, int]) -> EventRecord:
    """Say which rows are left out and why, first where there are more or fewer than `before`."""
    reasons = _by_reason(environment)
    flaws = sorted(environment.flaws, key=lambda flaw: before.get(flaw.kind, 0) == flaw.num_rows)[:REASONS]
    why = [f"{flaw}{_instead(flaw.num_rows, before.get(flaw.kind, 0) if before else None)}" for flaw in flaws]
    text = f"rows of {name} that cannot be used and are left out: {environment.num_left_out:,}"
    text += _instead(environment.num_left_out, sum(before.values()) if before else None)
    if environment.num_left_out:
        others = len(environment.flaws) - len(flaws)
        more = [f"and {others} more {'reason' if others == 1 else 'reasons'}"] if others else []
        said = "; ".join([*why, *more]) or f"the first: {environment.left_out[0]}"
        text += f"; {said}; `evergreen validate` lists them"
    return EventRecord("left out", text, {"environment": name, REASONS_IN_DATA: reasons})


def _by_reason(environment: Environment) -> dict[str, int]:
    """Count the rows left out by reason; all as one where the environment says no reasons."""
    num = environment.num_left_out
    return {flaw.kind: flaw.num_rows for flaw in environment.flaws} or ({"": num} if num else {})


def _instead(now: int, before: int | None) -> str:
    return "" if before is None or now == before else f", {before:,} before"


def of_prompts(known: list[str], prompts: PromptLimits) -> list[EventRecord]:
    """Say which prompts are too long or cannot be read; `known` names what was reported before, changed in place."""
    events = []
    for name, found in ((name, one) for name, kinds in prompts.unread.items() for one in kinds.values()):
        is_long = found.limit is not None
        reported = name if is_long else f"{name}: {found.kind}"
        if reported not in known:
            known.append(reported)
            num = "one task" if found.num_tasks == 1 else f"{found.num_tasks:,} tasks"
            why = f", with prompts longer than {found.limit} tokens" if is_long else f", {found.kind}"
            places = ", ".join(f"{place} ({detail})" if detail else place for place, detail in found.first[:PLACES])
            more = "" if found.num_tasks <= PLACES else ", ..."
            events.append(EventRecord("left out", f"{num} of {name} left out{why}: {places}{more}"))
    return events + of_passed_over(known, prompts.take_passed_over())


def of_passed_over(known: list[str], passed_over: Mapping[str, PassedOver]) -> list[EventRecord]:
    """Say, once for an environment, that long or unreadable prompts are left out as they are met."""
    events = []
    for name, passed in passed_over.items():
        reported = name if passed.what == TOO_LONG else f"{name}: {passed.what}"
        if reported not in known:
            known.append(reported)
            events.append(EventRecord("left out", f"{name}: {passed.text}"))
    return events


def of_length(spec: Spec, before: int) -> str:
    """Say that a run goes on with another number of stages, and what that does to its learning rate."""
    text, schedule = f"{spec.curriculum.stages} stages in all instead of {before}", spec.learner.schedule
    if schedule.type == "constant" or schedule.over == "stage":
        return text
    return f"{text}; from here on the learning rate ({schedule.type}) is that of its place in the run as now planned"


def of_code(part: str, is_environment: bool) -> str:
    """Say that the file of an own part, or of an environment that kept its version, is not what it was at the start."""
    more = "; if tasks or scores changed their meaning, raise its `version`" if is_environment else ""
    return (
        f"the code of {part} is not what it was when the run began (its file): the run goes on, but perhaps not bit for"
        f" bit{more}"
    )


def end_of_stage(at: Progress) -> list[EventRecord]:
    """Say that a stop rule ended the stage, if one did."""
    if at.stop_reason is None:
        return []
    steps = f"{at.stage_step} of at most {at.steps_per_stage} steps"
    return [EventRecord(DECISION, f"stage {at.stage}: {at.environment} ends after {steps}: {at.stop_reason}")]


def on_same_tasks(before: Iterable[CellRow], sets: Sequence[TaskSetRow], now: Iterable[HoldoutRecord]) -> list[CellRow]:
    """Choose what was measured on the tasks that are held out now: of others it is not the same course."""
    held_out = {name: tasks for (name, purpose), tasks in _held_out(now).items() if purpose in ("anchor", "own")}
    return [
        cell
        for cell in before
        if cell.environment
        and tasks_at(sets, cell.environment, cell.after_stage) == held_out.get(cell.environment, set())
    ]


def of_entropy(before: Sequence[CellRecord], found: Sequence[CellRecord]) -> list[EventRecord]:
    """Raise the alarm where held-out entropy has risen far above its first value and accuracy has not: noise.

    `before`: entropy and accuracy at the boundaries before this one, in their order. Once, until it has come down.
    """
    course: dict[tuple[str, str], list[float]] = defaultdict(list)
    for cell in (*before, *found):
        if cell.category is None and cell.split in ("anchor", "own") and cell.value is not None:
            course[cell.environment, cell.metric].append(cell.value)
    events = []
    for environment in dict.fromkeys(cell.environment for cell in found):
        entropy, accuracy = course[environment, "entropy_token"], course[environment, "pass_1"]
        is_far = [one > max(RISEN * entropy[0], entropy[0] + ABOVE) for one in entropy]
        if is_far[-1:] == [True] and not is_far[-2] and accuracy and accuracy[-1] < accuracy[0] + LEARNT:
            risen = f"from {entropy[0]:.2f} to {entropy[-1]:.2f} nats a token"
            text = (
                f"the entropy of {environment} rose {risen} and its accuracy did not ({accuracy[0]:.2f} to "
                f"{accuracy[-1]:.2f}): answers become noise. Where none is better than another nothing opposes an "
                "objective that raises entropy: give it tasks that are solved now and then (easier categories, a "
                "longer warm start), replay less (`curriculum.stage.replay`), or fork from a boundary before with "
                "another `objective`, a smaller `learner.lr` or a longer `learner.warmup`: Adam makes whole steps of "
                "small pushes"
            )
            events.append(EventRecord("alarm", text))
    return events


def of_step(groups: Sequence[Group], report: UpdateReport | None, left_out: str | None = None) -> list[EventRecord]:
    """What went wrong in a step: samples without a score, updates left out; `left_out`: by a guard, which says why."""
    events = unscorable(groups)
    if left_out:
        return events
    if report is None:
        is_scored = any(group.scored for group in groups)  # then a plan left all of them out
        why = "all groups of this step lack spread" if is_scored else "no sample of this step could be scored"
        events.append(EventRecord("skipped update", f"{why}: no update"))
    elif num := report.num_skipped - report.num_refused:
        text = f"{num} updates were not finite and skipped"
        events.append(EventRecord("skipped update", text))
    return events


def raise_alarms(
    on: list[str],
    metrics: Sequence[MetricRecord],
    dtype: str,
    silence: Silence | None = None,
    *,
    environment: str | None = None,
    ends_dead_stages: bool = False,
    can_end: bool = True,
) -> list[EventRecord]:
    """Compare a step's metrics with what is healthy; `on` names the alarms that are on, and is changed in place.

    `dtype`: of the weights. `environment`: the stage's; None: all are trained on. `ends_dead_stages`: a stop rule
    looks after stages without signal. `can_end`: the policy has a token that ends an answer.
    """
    pooled = {m.name: m.value for m in metrics if m.environment is None and m.value is not None}
    now = dict(
        chain(
            log_probs_differ(pooled, dtype),
            weights_are_capped(pooled),
            answers_are_cut_off(metrics, environment, on, can_end),
            ((name, "") for name in on if environment and name == f"silent {environment}"),  # once a stage
            signals_are_missing(silence or {}, ends_dead_stages, entropy_by_environment(metrics)),
        )
    )
    news = [EventRecord("alarm", text) for name, text in now.items() if name not in on]
    on[:] = sorted(now)
    return news


def log_probs_differ(pooled: Mapping[str, float], dtype: str) -> Alarms:
    """With equal weights the two may differ by rounding; older weights, or another temperature, explain any gap."""
    gap, most = pooled.get("sampler_gap_mean", 0.0), MOST_GAP[dtype]
    if pooled.get("versions_behind") == 0 and not pooled.get("tempered_rows") and gap > most:
        yield (
            "gap",
            f"the sampler's log-probs are {gap:.2g} nats a token off the learner's although their weights have the "
            f"same version ({most:g} is the most expected in {dtype}): stale weights, another chat template or "
            "temperature, or kernels of lower precision. The same spec on `sampler: transformers` tells",
        )


def weights_are_capped(pooled: Mapping[str, float]) -> Alarms:
    """Importance weights that reach their cap: the policies of sampler and learner are far apart."""
    if (capped := pooled.get("tis_capped_frac", 0.0)) > MOST_CAPPED:
        yield (
            "capped",
            f"{capped:.1%} of the tokens reach the cap of the importance weights: the policy that learns is far from "
            "the one that plays. Lower `learner.lr` or `learner.updates`, or set `sampler: {ahead: 0}`",
        )


def answers_are_cut_off(
    metrics: Sequence[MetricRecord], stage_environment: str | None, on: Sequence[str], can_end: bool
) -> Alarms:
    """Most answers to the environment of the stage reach a budget; while nothing is known of it an alarm stays on."""
    shares = {
        f"cut off {one.environment}": (one.environment, one.value)
        for one in metrics
        if one.name == "truncated_frac" and one.environment is not None and one.category is None
        if one.value is not None and one.n >= FEWEST_SAMPLES and stage_environment in (None, one.environment)
    }
    yield from ((name, "") for name in on if name.startswith("cut off ") and name not in shares)
    remedy = (
        "raise `max_tokens`, or `turn_tokens` or `max_turns` where they are the limit (of the environment, its "
        "`episodes` or the sampler), or say what such answers are worth with `cut_off`, there too"
    )
    if not can_end:
        remedy = f"the policy has no token that ends an answer. {END_REMEDY}"
    for name, (environment, share) in shares.items():
        if share > (CALM_CUT_OFF if name in on else MOST_CUT_OFF):
            yield name, f"{share:.0%} of the answers to {environment} were cut off by a budget: {remedy}"


def entropy_by_environment(metrics: Sequence[MetricRecord]) -> dict[str, float]:
    """Give the entropies of a step's answers, nats a token; "": of all of them."""
    of_all = (one for one in metrics if one.name == "entropy_token" and one.category is None)
    return {one.environment or "": one.value for one in of_all if one.value is not None}


def signals_are_missing(silence: Silence, ends_dead_stages: bool, entropy: Mapping[str, float]) -> Alarms:
    """Steps that taught nothing, by the environment of their stages; why, and what helps against it."""
    for environment, (num_steps, correct, scored) in silence.items():
        if num_steps < MOST_SILENT:
            continue
        whose = environment or "any environment"
        text = f"no group of {whose} had a signal in the last {num_steps} steps that were its own: "
        if correct == scored:
            text += f"all {scored:,} answers were correct, nothing is left to learn. Give it harder categories"
        elif entropy.get(environment, COLLAPSED) < COLLAPSED:
            text += (
                f"its entropy is {entropy[environment]:.2g} nats a token, so that all samples of a task are alike "
                f"({correct:,} of {scored:,} answers correct). An objective that holds entropy, such as "
                "`repo_adaptive`, keeps answers apart; `evergreen fork` goes on with it from a boundary before"
            )
        elif not correct:
            text += (
                f"none of {scored:,} answers was correct, so none was better than another. Give it easier categories, "
                "a warm start or a larger `step.group_size`; `evergreen check-env` tells whether tasks can be solved"
            )
        else:
            text += (
                f"all samples of a task did alike ({correct:,} of {scored:,} answers correct). A larger "
                "`step.group_size` finds differences; an objective that holds entropy, such as `repo_adaptive`, keeps "
                "answers apart"
            )
        if environment and ends_dead_stages:
            text += ". The stop rule `dead_signal` ends such stages"
        elif environment:
            text += ". `curriculum: {stage: {stop: [dead_signal]}}` ends such stages"
        yield f"silent {environment}", text
