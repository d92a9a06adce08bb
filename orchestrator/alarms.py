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


def raise_alarms(on: list[str], metrics: Sequence[MetricRecord], dtype: str) -> list[EventRecord]:
    """Compare a step's metrics with what is healthy; `on` names the alarms that are on, and is changed in place."""
    now = dict(_alarms(metrics, dtype))
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
