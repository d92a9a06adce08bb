"""Which runs are of one setting: those whose specs agree but for the seed, or in the fields that are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from store.errors import ComparisonError

# What may differ between runs of one setting: it has no part in what is learnt, or is what is averaged over.
LEFT_OUT = frozenset({"name", "seed", "resources", "tracker", "ledger", "checkpoint", "baseline"})
SHORT = {  # what people call fields; in labels their value says enough
    "objective": "objective.preset",
    "bandit": "curriculum.bandit.type",
    "scheduler": "curriculum.scheduler.type",
    "model": "policy.model",
}
NAMES_A_KIND = ("type", "preset", "model")  # the field that names what a section is

Flat = dict[str, Any]  # dotted field -> plain value
Values = tuple[str, ...]  # of some fields, as text


def flat(spec: Mapping[str, Any]) -> Flat:
    """Write a spec as dotted fields, without what may differ."""
    return dict(_leaves({key: value for key, value in spec.items() if key not in LEFT_OUT}, ""))


def differing(specs: Iterable[Flat]) -> list[str]:
    """The fields in which specs differ, those with a short name first, the others in the order of the specs."""
    listed = list(specs)
    fields = dict.fromkeys([*SHORT.values(), *(field for spec in listed for field in spec)])
    return [field for field in fields if len({_text(spec.get(field)) for spec in listed}) > 1]


def telling(specs: Mapping[str, Flat]) -> list[str]:
    """Few fields that tell apart whatever differs: a preset's name, rather than all that it changes."""
    fields, chosen = differing(specs.values()), list[str]()
    for field in fields:
        if _num_groups(specs, [*chosen, field]) > _num_groups(specs, chosen):
            chosen.append(field)
    return chosen


def asked_for(by: Sequence[str], specs: Mapping[str, Flat]) -> list[str]:
    """Find the fields that a person names, by their dotted or short names or by their section's."""
    known = list(dict.fromkeys(field for spec in specs.values() for field in spec))
    return [_field(name, known) for name in by]


def grouped(specs: Mapping[str, Flat], fields: Sequence[str]) -> dict[str, list[str]]:
    """Put runs of equal values together, by label, in the order in which they come."""
    groups: dict[Values, list[str]] = {}
    for run, spec in specs.items():
        groups.setdefault(_values(spec, fields), []).append(run)
    return {_label(specs[runs[0]], fields): runs for runs in groups.values()}


def _leaves(value: Any, place: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
    else:
        yield place, value


def _field(name: str, known: Sequence[str]) -> str:
    candidates = [SHORT.get(name, name), *(f"{name}.{kind}" for kind in NAMES_A_KIND)]
    found = next((candidate for candidate in candidates if candidate in known), None)
    if found is None:
        near = get_close_matches(name, [*SHORT, *known], 3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ComparisonError(f"The runs' specs have no field {name!r}.{hint}")
    return found


def _num_groups(specs: Mapping[str, Flat], fields: Sequence[str]) -> int:
    return len({_values(spec, fields) for spec in specs.values()})


def _values(spec: Flat, fields: Sequence[str]) -> Values:
    return tuple(_text(spec.get(field)) for field in fields)


def _label(spec: Flat, fields: Sequence[str]) -> str:
    """Write a setting's values: the field's last word says which, the whole field where that would not."""
    ends = [field.rsplit(".", 1)[-1] for field in fields]
    parts = []
    for field, end in zip(fields, ends, strict=True):
        value = _text(spec.get(field))
        said = end if ends.count(end) == 1 else field
        parts.append(value if field in SHORT.values() else f"{said}={value}")
    return " ".join(parts)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
