"""What is mutated: the examples, and the smallest spec with every method in turn, its options written out."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from orchestrator import registry
from orchestrator.spec import load_spec
from tests.orchestrator.specs import REPOSITORY

Raw = dict[str, Any]
PLACES = {  # where a method of a kind is named
    "bandits": ("curriculum", "bandit"),
    "schedulers": ("curriculum", "scheduler"),
    "selections": ("curriculum", "selection"),
    "teachers": ("curriculum", "teacher"),
    "stop_rules": ("curriculum", "stage", "stop"),
    "interventions": ("curriculum", "boundary", "interventions"),
    "samplers": ("sampler",),
}
SMALLEST: Raw = {
    "name": "fuzzed",
    "seed": 0,
    "policy": {"model": "tiny", "layers": 1, "hidden": 16, "mlp": 32, "heads": 2, "kv_heads": 1},
    "environments": {"book": {"type": "codebook", "categories": {"2": 2, "4": 4}, "keys": 6}},
    "curriculum": {"stages": 2, "stage": {"steps": 40}},
    "step": {"groups": 2, "group_size": 2},
    "evaluate": {"items": 1, "samples": 4},
    "learner": {"lr": 0.001, "betas": [0.9, 0.99], "weight_decay": 0.0, "warmup": 2, "clip_norm": 1.0},
    "sampler": {"max_tokens": 3},
    "scoring": {"isolation": "auto", "workers": 1, "timeout_s": 2.0, "memory_gib": 2.0},
    "checkpoint": {"every_steps": 20, "every_minutes": 10.0, "keep": 3},
    "ledger": {"url": None},
    "tracker": {"type": "none", "uri": None, "experiment": "evergreen"},
    "resources": {"threads": 1, "device": "cpu"},
}
GYM = {
    "type": "reasoning_gym",
    "dataset": "gcd",
    "categories": {"10": {"min_value": 1, "max_value": 10}, "30": {"min_value": 1, "max_value": 30}},
    "max_tokens": 3,
}
BOX = {
    "type": "reasoning_gym",
    "dataset": "spell_backward",
    "parameters": {"min_word_len + max_word_len": [3, 8]},
    "max_tokens": 9,
}


@cache
def specs() -> list[tuple[str, Raw]]:
    """All specs that are mutated, by name; small ones can also be run."""
    examples = REPOSITORY / "examples"
    found = [(path.stem, _read(path)) for path in sorted(examples.glob("*.yaml")) if not path.stem.startswith("study_")]
    found = [
        (name, {**raw, "resources": {**raw.get("resources", {}), "search_path": str(examples)}}) for name, raw in found
    ]
    return [*found, *(one for one in _with_methods() if _is_valid(one[1]))]


@cache
def studies() -> list[tuple[str, Raw]]:
    """Study files, and one with random settings."""
    found = [(path.stem, _read(path)) for path in sorted((REPOSITORY / "examples").glob("study_*.yaml"))]
    space = {
        "learner.lr": {"log_uniform": [1e-5, 1e-2]},
        "step.groups": {"integer": [2, 8]},
        "curriculum.bandit": {"choice": ["sec", "uniform"]},
    }
    random = {
        "name": "drawn",
        "spec": SMALLEST,
        "seeds": 2,
        "random": {"samples": 3, "seed": 1, "space": space},
    }
    grid = {
        "spec": SMALLEST,
        "seeds": [1, 2],
        "grid": {"curriculum.bandit": ["sec", "uniform"]},
        "compare": {"last": 3},
    }
    return [*found, ("random", random), ("grid", grid)]


@cache
def keys() -> list[str]:
    """Dotted fields of a resolved spec."""
    return list(_dotted(load_spec(SMALLEST).model_dump(mode="json", by_alias=True)))


def _with_methods() -> list[tuple[str, Raw]]:
    gym = SMALLEST | {
        "environments": {"gym": GYM},
        "warm_start": {"environments": ["gym"], "batches": 2, "batch_size": 4},
    }
    found = [("smallest", SMALLEST), ("gym", gym), ("box", SMALLEST | {"environments": {"box": BOX}})]
    for kind, place in PLACES.items():
        for method in registry.listing(kind):
            base = found[2][1] if kind == "teachers" else found[0][1]
            if kind == "selections":
                base = gym
            raw = json.loads(json.dumps(base))
            _put(raw, place, {"type": method.name, **_options(kind, method.name)})
            found.append((f"{kind}/{method.name}", raw))
    from policies.objectives.presets import PRESETS

    for preset in PRESETS:
        try:
            objective = load_spec(SMALLEST | {"objective": preset}).objective.model_dump(mode="json")
        except Exception:
            continue
        found.append((f"objectives/{preset}", SMALLEST | {"objective": objective}))
    return found


def _options(kind: str, name: str) -> Raw:
    fields = registry.config_class(kind, name).model_fields
    given = {
        field.alias or key: field.get_default(call_default_factory=True)
        for key, field in fields.items()
        if not field.is_required() and key != "type"
    }
    return json.loads(
        json.dumps(given, default=lambda value: list(value) if isinstance(value, tuple | set) else str(value))
    )


def _is_valid(raw: Raw) -> bool:
    try:
        load_spec(raw)
    except Exception:
        return False
    return True


def _put(raw: Raw, place: tuple[str, ...], value: Any) -> None:
    for key in place[:-1]:
        raw = raw.setdefault(key, {})
    raw[place[-1]] = value


def _read(path: Path) -> Raw:
    return dict(yaml.safe_load(path.read_text("utf-8")))


def _dotted(raw: Any, before: str = "") -> list[str]:
    if not isinstance(raw, dict):
        return [before] if before else []
    own = [before] if before else []
    return own + [
        one for key, value in raw.items() for one in _dotted(value, f"{before}.{key}" if before else str(key))
    ]
