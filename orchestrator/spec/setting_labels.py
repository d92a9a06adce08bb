"""Short names of settings, made of what they change: `repo`, `lr=0.0003 temperature=0.1`; and names of their runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.spec.dotted_fields import METHOD_SECTIONS, NAMING, SHORT_FORMS, without_naming
from store.run_summary import leaves
from store.secrets import url_without_logins

UNCHANGED = "base"  # the setting that changes nothing
METHODS = (*NAMING, *SHORT_FORMS, *METHOD_SECTIONS)
LONGEST = 60  # characters of a label in a run's name
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?e[-+]?\d+", re.IGNORECASE)  # YAML reads 1e-4 as a text


def label_of(given: Mapping[str, Any], among: Collection[str]) -> str:
    """Name a setting by its values; `among`: the fields that the study's settings change, opened by `leaves`."""
    methods = {without_naming(key) for key in among if _names_a_method(key)}
    words = []
    for key, value in dict(leaves(given)).items():
        is_clear = len(methods) == 1 or without_naming(key) == "objective"  # `uniform` may be a bandit or a scheduler
        is_enough = _names_a_method(key) and is_clear and isinstance(value, str)
        words.append(text_of(value) if is_enough else f"{_shortest(without_naming(key), among)}={text_of(value)}")
    return " ".join(words) or UNCHANGED


def text_of(value: Any) -> str:
    """Write a value of a spec for a person, equal values alike."""
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, str) and NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, list):
        return "+".join(map(text_of, value))
    return url_without_logins(str(value)) if isinstance(value, str | int) else json.dumps(value, separators=(",", ":"))


def slug(label: str, longest: int = LONGEST) -> str:
    """Write a label as part of a run's name; a long one is cut and ends in a hash of it."""
    text = re.sub(r"[^a-z0-9_.-]+", "-", label.lower()).strip("-")
    if text and len(text) <= longest:
        return text
    return f"{text[: longest - 8]}-{hashlib.sha256(label.encode()).hexdigest()[:7]}".lstrip("-")


def _names_a_method(key: str) -> bool:
    return key.rpartition(".")[2] in METHODS


def _shortest(name: str, among: Collection[str]) -> str:
    """Shorten a dotted name to the end that no other has."""
    parts = name.split(".")
    others = [other.split(".") for other in map(without_naming, among) if other != name]
    for length in range(1, len(parts)):
        if not any(other[-length:] == parts[-length:] for other in others):
            return ".".join(parts[-length:])
    return name
