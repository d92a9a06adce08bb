"""A comparison of two runs as sentences; the runs are called A and B."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from store.diff.run_diff import Diff, Difference, different
from store.sampling import PLAIN_SAMPLING
from store.sentences import listed, num, short

SHOWN = 60  # characters of a value
DIGITS = (4, 6, 9, 12, 17)  # significant; the first that tell two numbers apart


def in_words(diff: Diff) -> list[str]:
    """Say where two runs part, and how much of what comes after is different; and what a record lacks."""
    lost = [f"Of {run} {text}." for run, text in zip("AB", diff.missing, strict=True) if text]
    num_steps, num_boundaries = diff.num_compared_steps, diff.num_compared_boundaries
    sides = zip("AB", diff.lengths, strict=True)
    (shorter, length), (_, longer) = sorted(sides, key=lambda side: side[1].reached)
    if first := diff.first:
        same = f" (same {listed(first.same, len(first.same))})" if first.same else ""
        equal = first.step - 1 if first.when.startswith("step") else first.step
        before = f"{num(equal, 'step')} before that {'is' if equal == 1 else 'are'} equal."
        return [
            f"{first.when}: {_SENTENCES[first.facet](first)}{same}",
            before if equal else "There is no step before that.",
            f"Of {num(num_steps, 'step')} that both have, {diff.num_different_steps:,} differ; "
            f"of {num_boundaries} boundaries, {diff.num_different_boundaries}.",
            *_other_sampling(diff, first),
            *lost,
        ]
    if length.reached != longer.reached:
        far = f"Equal as far as both have come: {num(num_steps, 'step')}, {num_boundaries} boundaries."
        return [f"{far} Further than that {shorter} is not ({length.status}).", *lost]
    if lost:
        return ["Nothing recorded differs, which is not all that was done.", *lost]
    return [_of_digests(diff)]


def pair(a: float | None, b: float | None) -> str:
    """Write two numbers with as many digits as tell them apart, and by how much they differ."""
    if a is None or b is None:
        return f"{value(a)} and {value(b)}"
    texts = next(
        (both for digits in DIGITS if len(set(both := (f"{a:.{digits}g}", f"{b:.{digits}g}"))) == 2),
        (repr(a), repr(b)),
    )
    relative = abs(a - b) / max(abs(a), abs(b)) if a != b else 0.0
    return f"{texts[0]} and {texts[1]} (relative difference {relative:.1g})"


def value(what: Any) -> str:
    """Write a value of a spec or a row, shortened; null is not the word `none`."""
    if isinstance(what, float):
        return f"{what:.6g}"
    return short(what if isinstance(what, str) else json.dumps(what, ensure_ascii=False, default=str), SHOWN)


def _of_digests(diff: Diff) -> str:
    a, b = diff.digests
    if a is None or b is None:
        which = "neither has a" if a is b else f"{'A' if a is None else 'B'} has no"
        return f"Nothing recorded differs; weights cannot be compared: {which} whole checkpoint."
    if diff.is_equal:
        return f"Equal, bit for bit: digest {a.digest}, digest_all {a.digest_all}."
    if a.step != b.step:
        return f"Nothing recorded differs; the newest checkpoints are of other steps: {a.step} and {b.step}."
    if a.digest == b.digest:
        return (
            f"Trained the same, bit for bit (digest {a.digest}); what was measured or kept beside differs"
            f" (items, completions, evaluations inside stages, `measure`): digest_all {a.digest_all} and"
            f" {b.digest_all}."
        )
    return f"Nothing recorded differs, but the weights at step {a.step} do: digest {a.digest} and {b.digest}."


def _other_sampling(diff: Diff, first: Difference) -> list[str]:
    """Say it when the entropy of training that is told differs by how samples are drawn, without any training."""
    options = [field.name for field in diff.spec if field.name in {f"sampler.{option}" for option in PLAIN_SAMPLING}]
    told = {place[0] for place in (first.place, *first.others)} if first.facet == "metrics" else ()
    if "entropy_token" not in told or not options:
        return []
    return [f"Entropy in training is that of what tokens were drawn from, and the runs differ in {listed(options)}."]


def _more(first: Difference, what: str) -> str:
    return f"; and {num(len(first.others), f'more {what}')}" if first.others else ""


def _arm(entry: Mapping[str, Any]) -> str:
    """Name an arm with its environment; one of a bandit over everything has it in its name, one of replay is it."""
    arm = entry["arm"] if entry["level"] in ("flat", "replay") else f"{entry['environment']}/{entry['arm']}"
    return short(str(arm), SHOWN)


def _picks(first: Difference) -> str:
    a, b = first.a, first.b
    if a is None or b is None:
        return f"slot {first.place} is there in {'A' if b is None else 'B'} only{_more(first, 'slot')}"
    if _arm(a) != _arm(b):
        text = f"slot {first.place} picked {_arm(a)} in A and {_arm(b)} in B"
    else:
        key = next(key for key in a if a[key] != b[key])
        text = f"slot {first.place} ({_arm(a)}) had {key} {value(a[key])} in A and {value(b[key])} in B"
    return f"{text}; {num(len(first.others), 'more slot')} differ" if first.others else text


def _of_pick(name: str, verb: str) -> Callable[[Difference], str]:
    def say(first: Difference) -> str:
        numbers = pair(first.a[name], first.b[name])
        return f"slot {first.place}: {_arm(first.a)} {verb} {numbers}{_more(first, 'slot')}"

    return say


def _tasks(first: Difference) -> str:
    a, b = (
        "nothing"
        if e is None
        else f"task {e['task_index']} of {e['environment']}/{e['category']} ({e['task_key'][:8]})"
        for e in (first.a, first.b)
    )
    return f"slot {first.place} drew {a} in A and {b} in B{_more(first, 'slot')}"


def _samples(first: Difference) -> str:
    slot, sample = first.place
    a, b = first.a or {}, first.b or {}
    key = next(key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key))
    text = f"{_SAMPLE[key]} {value(a.get(key))} in A and {value(b.get(key))} in B"
    return f"slot {slot}, sample {sample}: {text}{_more(first, 'sample')}"


def _metrics(first: Difference) -> str:
    name = "/".join(str(word) for word in first.place if word is not None)
    (a, n_a), (b, n_b) = first.a or (None, None), first.b or (None, None)
    numbers = pair(a, b) if a != b else f"{value(a)} in both, over {value(n_a)} and {value(n_b)} observations"
    others = ["/".join(str(word) for word in place if word is not None) for place in first.others]
    return f"metric {name} {numbers}" + (f"; so do {listed(others)}" if others else "")


def _end(first: Difference) -> str:
    if first.place == "settings":
        (field, *others) = different(first.a or {}, first.b or {})
        text = f"measured with {field.name} {value(field.a)} in A and {value(field.b)} in B"
        return text + (f", and {num(len(others), 'more setting')} differ" if others else "")
    if first.place == "step":
        a, b = (f"ended after step {e}" if e is not None else "went on" for e in (first.a, first.b))
        return f"the stage {a} in A and {b} in B"
    words = {"stop_reason": "the stage ended by", "signal": "the scheduler was given"}[str(first.place)]
    is_number = isinstance(first.a, float) and isinstance(first.b, float)
    return f"{words} {pair(first.a, first.b) if is_number else f'{value(first.a)} in A and {value(first.b)} in B'}"


def _cells(first: Difference) -> str:
    metric, environment, category, split = first.place
    where = "/".join(str(word) for word in (environment, category) if word is not None)
    a, b = first.a, first.b
    if first.facet == "held-out tasks":
        return f"{where} ({split}) was measured on other tasks{_more(first, 'cell')}"
    if a[0] == b[0]:
        return f"{metric} of {where} ({split}) {value(a[0])} in both, but {value(a[1:])} and {value(b[1:])}"
    return f"{metric} of {where} ({split}) {pair(a[0], b[0])}{_more(first, 'cell')}"


def _network(first: Difference) -> str:
    metric, layer = first.place
    where = "the whole model" if layer < 0 else f"layer {layer}"
    return f"{metric} of {where} {pair(first.a['value'], first.b['value'])}{_more(first, 'number')}"


def _probes(first: Difference) -> str:
    kind, task, seed, metric, step = first.place
    where = f"{kind} probe on {task} (seed {seed}) after {num(step, 'step')}"
    return f"{where}: {metric} {pair(first.a['value'], first.b['value'])}{_more(first, 'point')}"


def _interventions(first: Difference) -> str:
    a, b = first.a, first.b
    if a is None or b is None:
        return f"{(a or b)['kind']} was done in {'A' if b is None else 'B'} only ({(a or b)['why']})"
    key = next(key for key in a if a[key] != b[key])
    if key == "kind":
        return f"{a[key]} was done in A and {b[key]} in B"
    return f"{a['kind']} was done with {key} {value(a[key])} in A and {value(b[key])} in B"


_SAMPLE = {
    "num_tokens": "tokens",
    "finishes": "finish",
    "versions": "version of the weights",
    "scores": "value",
    "correct": "correct",
    "reasons": "reason without a score",
}
_SENTENCES: Mapping[str, Callable[[Difference], str]] = {
    "picks": _picks,
    "probabilities": _of_pick("probability", "was picked with probability"),
    "tasks": _tasks,
    "replies": _samples,
    "scores": _samples,
    "signals": _of_pick("signal", "earned its bandit"),
    "metrics": _metrics,
    "evaluations": _metrics,
    "stage": lambda first: f"{first.place.replace('_', ' ')} {value(first.a)} in A and {value(first.b)} in B",
    "stage's end": _end,
    "held-out tasks": _cells,
    "measurements": _cells,
    "network": _network,
    "probes": _probes,
    "interventions": _interventions,
    "measurements after interventions": _cells,
}
