"""Dotted fields of a spec, as `--set`, the settings of a study and `baseline` write them."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import SpecError
from orchestrator.spec.echo import shown

SHORT_FORMS = {"policy": "model", "objective": "preset"}  # what a plain string stands for; elsewhere: type
METHOD_SECTIONS = {
    "bandit": "bandits",
    "scheduler": "schedulers",
    "sampler": "samplers",
    "stop": "stop_rules",
    "interventions": "interventions",
    "reward": "rewards",
    "parts": "rewards",  # of a combination of rewards
}
NAMING = ("type", *SHORT_FORMS.values())  # last parts of fields that name a method
TWIN, ITS_BANDIT = "baseline", "curriculum.bandit"  # what `baseline: uniform` is about


def path_of(key: str) -> tuple[str, ...]:
    """Take a dotted field apart; what follows `baseline` is one key there, a dotted field of the twin."""
    first, _, rest = key.partition(".")
    return (first, rest) if first == TWIN and rest else tuple(key.split("."))


def without_naming(key: str) -> str:
    """Leave out the last part where it only says that a method is named: `objective.preset` is the objective."""
    parent, _, last = key.rpartition(".")
    return parent if last in NAMING and parent else key


def set_field(raw: dict[str, Any], key: str, value: Any) -> None:
    """Give one dotted field a value; a short form on the way is opened into its map. Changes only `raw` itself."""
    *parents, last = path_of(key)
    place = raw
    for depth, parent in enumerate(parents):
        found = place.get(parent)
        if isinstance(found, str):
            section = "objective" if parents[:depth] == ["objective", "by"] else parent
            found = {ITS_BANDIT if parent == TWIN else SHORT_FORMS.get(section, "type"): found}
        if not isinstance(found, dict | None):
            raise SpecError(f"{shown(parent)} is not a section")
        place[parent] = dict(found or {})
        place = place[parent]
    place[last] = value
