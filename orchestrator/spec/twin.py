"""A run's twin: the same spec with the settings of `baseline`, run afterwards from the same warm start and seed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.errors import SpecError
from orchestrator.registry import search_in
from orchestrator.spec.dotted_fields import ITS_BANDIT, NAMING, TWIN, path_of, set_field, without_naming
from orchestrator.spec.model import LONGEST_NAME, Spec
from policies.objectives.config import SHORT

FIXED = {  # what a twin shares with its run, and why
    "name": "it is named after the run and what it changes",
    "seed": "both draw from the same streams",
    "policy": "both begin with the same weights",
    "warm_start": "both begin after the same warm start",
    "environments": "both learn the same tasks",
    TWIN: "there would be no end",
    "evaluate": "both are measured alike",
    "measure": "both are measured alike",
    "scoring": "the answers of both are scored alike",
    "checkpoint": "it has no part in what is learnt",
    "ledger": "one ledger holds both",
    "tracker": "both are tracked in one place",
    "resources": "both run in one place",
    "sampler.max_tokens": "held-out answers of both may be as long",
    "curriculum.stages": "both have as many, and `resume --stages` lengthens both",
}
SIGNAL = ("signal", "signal_reward")  # how a bandit reads groups: kept, unless the settings say otherwise
LEAST_LABEL = 10  # characters of a twin's name, however long that of its run is

Problem = tuple[str, str]  # a setting, and what is wrong with it


def settings_of(spec: Spec) -> dict[str, Any]:
    """Give what the twin changes, by dotted field; nothing where there is no twin."""
    return {ITS_BANDIT: spec.baseline} if isinstance(spec.baseline, str) else dict(spec.baseline or {})


def twin_of(spec: Spec) -> Spec:
    """Make the spec of a run's twin. It was checked with the run's own."""
    raw, problems = sections_of(spec)
    if problems:
        raise SpecError("\n".join(f"{TWIN}.{key}: {why}" for key, why in problems))
    search_in(spec.resources.search_path)
    return Spec.model_validate(raw, context={"search_path": spec.resources.search_path})


def with_twin(spec: Spec) -> list[Spec]:
    """List the specs of a run and of its twin, if it has one."""
    return [spec] if spec.baseline is None else [spec, twin_of(spec)]


def sections_of(spec: Spec) -> tuple[dict[str, Any], list[Problem]]:
    """Write the twin's spec, still to be checked, and list the settings that no twin can have.

    A section that no setting is about is the run's own, checked already.
    """
    settings, dump = settings_of(spec), spec.model_dump(mode="json", by_alias=True)
    problems = list(_refusals(settings, dump))
    touched = {path_of(key)[0] for key in settings}
    raw = {key: dump[key] if key in touched else getattr(spec, key) for key in dump}
    raw |= {"name": _name(spec, settings), TWIN: None}
    refused = {key for key, _ in problems}
    for key in sorted(settings, key=lambda one: without_naming(one).count(".")):  # what a field is of comes before it
        if key in refused:
            continue
        field, value = without_naming(key), copy.deepcopy(settings[key])
        if field == ITS_BANDIT and isinstance(value, str | Mapping):
            run_s = {one: dump["curriculum"]["bandit"][one] for one in SIGNAL if one in dump["curriculum"]["bandit"]}
            value = {**run_s, **({"type": value} if isinstance(value, str) else value)}
        try:
            set_field(raw, field, value)
        except SpecError as error:
            problems.append((key, str(error)))
    return raw, problems


def _name(spec: Spec, settings: Mapping[str, Any]) -> str:
    """Name the twin after its run and the label of its settings."""
    from orchestrator.spec.setting_labels import LONGEST, label_of, slug  # loads sqlalchemy
    from store.run_summary import leaves

    label = label_of(settings, dict(leaves(settings)))
    room = max(LEAST_LABEL, LONGEST_NAME - len(spec.name) - 1)
    return f"{spec.name}-{slug(label, min(LONGEST, room))}"


def _refusals(settings: Mapping[str, Any], dump: Mapping[str, Any]) -> Iterator[Problem]:
    for key, value in settings.items():
        fixed = next((one for one in FIXED if key == one or key.startswith(f"{one}.")), None)
        there: Any = dump
        for part in key.split("."):
            there = there.get(part) if isinstance(there, Mapping) else None
        is_section = isinstance(there, Mapping) and not there.keys() & {*NAMING}
        if fixed is not None:
            yield key, f"a twin cannot have its own, because {FIXED[fixed]}: leave it out"
        elif (words := key.split("."))[0] == "objective" and words[1:2] and words[1] in SHORT:
            whole = f"`objective: {{preset: NAME, {words[1]}: ...}}`"
            yield key, f"the run's own are written out as a list: give the whole objective, {whole}"
        elif isinstance(value, Mapping) and is_section:
            of = f"like `{key}.{next(iter(value))}`" if value else "by dotted keys"
            yield key, f"a map would stand for the whole section: name the fields, {of}"
