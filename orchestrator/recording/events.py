"""What was decided and what went wrong, in words, for the ledger and for whoever watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from environments import Environment, PassedOver
from orchestrator.played_group import Group, unscorable
from orchestrator.progress import Progress
from orchestrator.rollout.prompt_limits import PromptLimits
from policies.learner import UpdateReport
from store.records import DECISION, EventRecord

REASONS, PLACES = 3, 5  # named in an event


def of_data(environments: Mapping[str, Environment], remarks: Sequence[str]) -> list[EventRecord]:
    """Say what of the environments' data is not used, and what cannot be measured."""
    events = []
    for name, environment in environments.items():
        if environment.num_left_out:
            text = f"rows of {name} that cannot be used and are left out: {environment.num_left_out:,}"
            why = "; ".join(map(str, environment.flaws[:REASONS])) or f"the first: {environment.left_out[0]}"
            events.append(EventRecord("left out", f"{text}; {why}; `evergreen validate` lists them"))
        events += [EventRecord("left out", f"{name}: {text}") for text in environment.remarks]
    return events + [EventRecord("warning", text) for text in remarks]


def of_prompts(told: list[str], prompts: PromptLimits) -> list[EventRecord]:
    """Say what is known beforehand to be too long to be read; `told` names environments told of, changed in place."""
    events = []
    for name, known in prompts.too_long.items():
        if name not in told:
            told.append(name)
            num = "one task" if known.num_tasks == 1 else f"{known.num_tasks:,} tasks"
            places = ", ".join(f"{place} ({num_tokens})" for place, num_tokens in known.first[:PLACES])
            more = "" if known.num_tasks <= PLACES else ", ..."
            text = f"{num} of {name} left out, with prompts longer than {known.limit} tokens: {places}{more}"
            events.append(EventRecord("left out", text))
    return events + of_passed_over(told, prompts.take_passed_over())


def of_passed_over(told: list[str], passed_over: Mapping[str, PassedOver]) -> list[EventRecord]:
    """Say, once for an environment, that tasks with long prompts are left out as they are met."""
    new = {name: passed for name, passed in passed_over.items() if name not in told}
    told += new
    return [EventRecord("left out", f"{name}: {passed.text}") for name, passed in new.items()]


def end_of_stage(at: Progress) -> list[EventRecord]:
    """Say that a stop rule ended the stage, if one did."""
    if at.stop_reason is None:
        return []
    steps = f"{at.stage_step} of at most {at.steps_per_stage} steps"
    return [EventRecord(DECISION, f"stage {at.stage}: {at.environment} ends after {steps}: {at.stop_reason}")]


def of_step(groups: Sequence[Group], report: UpdateReport | None) -> list[EventRecord]:
    """What went wrong in a step: samples without a score, updates left out."""
    events = unscorable(groups)
    if report is None:
        is_scored = any(group.scored for group in groups)  # then a plan left all of them out
        why = "all groups of this step lack spread" if is_scored else "no sample of this step could be scored"
        events.append(EventRecord("skipped update", f"{why}: no update"))
    elif report.num_skipped:
        text = f"{report.num_skipped} updates were not finite and skipped"
        events.append(EventRecord("skipped update", text))
    return events
