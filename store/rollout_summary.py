"""How a run's episodes were played: what their log-probs are worth, how old the weights were, how fast it went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.ledger.queries import Reading
from store.metrics import metric

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


def of_run(read: Reading, name: str) -> Facts:
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
