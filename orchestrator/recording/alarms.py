"""Alarms: what a step's numbers warn of, in words, with what to do about it.

An alarm is raised when it begins, and again only after it has calmed down; which ones are on is part of a run's
position, so that a resumed run does not repeat them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from store.records import EventRecord, MetricRecord

# Mean |log-prob of the sampler - of the learner| at equal weights, nats: rounding stays far below in float32; the other
# two are common experience, not measured by us.
MOST_GAP = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.05}
MOST_CAPPED = 0.01  # share of tokens
MOST_CUT_OFF = 0.5  # share of an environment's samples
FEWEST_SAMPLES = 16  # before a share of samples means anything
MOST_SILENT = 10  # steps in a row in which no group of the stage's own environment has a signal

Silence = Mapping[str, Sequence[int]]  # see `Progress.silence`


def raise_alarms(
    on: list[str],
    metrics: Sequence[MetricRecord],
    dtype: str,
    silence: Silence | None = None,
    *,
    ends_dead_stages: bool = False,
) -> list[EventRecord]:
    """Compare a step's metrics with what is healthy; `on` names the alarms that are on, and is changed in place.

    `ends_dead_stages`: a stop rule looks after stages without signal.
    """
    now = dict(_alarms(metrics, dtype)) | dict(_silent(silence or {}, ends_dead_stages))
    news = [EventRecord("alarm", text) for name, text in now.items() if name not in on]
    on[:] = sorted(now)
    return news


def _alarms(metrics: Sequence[MetricRecord], dtype: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of every alarm that these numbers call for."""
    batch = {m.name: m.value for m in metrics if m.environment is None and m.value is not None}
    yield from _gap(batch, dtype)
    if (capped := batch.get("tis_capped_frac", 0.0)) > MOST_CAPPED:
        yield (
            "capped",
            f"{capped:.1%} of the tokens reach the cap of the importance weights: the policy that learns is far from "
            "the one that plays. Lower `learner.lr` or `learner.updates`, or set `sampler: {ahead: 0}`",
        )
    yield from _cut_off([m for m in metrics if m.environment is not None and m.category is None])


def _gap(batch: Mapping[str, float], dtype: str) -> Iterator[tuple[str, str]]:
    """With equal weights the two may differ by rounding; older weights, or another temperature, explain any gap."""
    gap, most = batch.get("sampler_gap_mean", 0.0), MOST_GAP[dtype]
    if batch.get("versions_behind") == 0 and not batch.get("tempered_rows") and gap > most:
        yield (
            "gap",
            f"the sampler's log-probs are {gap:.2g} nats a token off the learner's although their weights have the "
            f"same version ({most:g} is the most expected in {dtype}): stale weights, another chat template or "
            "temperature, or kernels of lower precision. The same spec on `sampler: transformers` tells",
        )


def _cut_off(metrics: Sequence[MetricRecord]) -> Iterator[tuple[str, str]]:
    for one in metrics:
        if one.name != "truncated_frac" or one.n < FEWEST_SAMPLES or one.value is None:
            continue
        if one.value > MOST_CUT_OFF:
            yield (
                f"cut off {one.environment}",
                f"{one.value:.0%} of the answers to {one.environment} were cut off by a budget: raise `max_tokens` (of "
                "the environment or the sampler), or say what they are worth with `sampler: {cut_off: ...}`",
            )


def _silent(silence: Silence, ends_dead_stages: bool) -> Iterator[tuple[str, str]]:
    """Steps that taught nothing, by the environment of their stages; why, and what helps against it."""
    for environment, (num_steps, correct, scored) in silence.items():
        if num_steps < MOST_SILENT:
            continue
        whose = environment or "any environment"
        text = f"no group of {whose} had a signal in the last {num_steps} steps that were its own: "
        if correct == scored:
            text += (
                f"all {scored:,} answers were correct, nothing is left to learn. Give it harder categories"
            )
        elif not correct:
            text += (
                f"none of {scored:,} answers was correct, so none was better than another. Give it easier categories, "
                "a warm start or a larger `step.group_size`; `evergreen check-env` tells whether tasks can be solved"
            )
        else:
            text += (
                f"all samples of a task did alike ({correct:,} of {scored:,} answers correct). If entropy is near 0, "
                "an objective that holds it, such as `repo_r`, keeps answers apart"
            )
        if environment:
            rule = "`curriculum: {stage: {stop: [dead_signal]}}`"
            text += (
                ". The stop rule `dead_signal` ends such stages"
                if ends_dead_stages
                else f". {rule} ends such stages"
            )
        yield f"silent {environment}", text
