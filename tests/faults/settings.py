"""Small runs in which every method of a kind takes its turn, so that whatever keeps a state is killed with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import registry
from orchestrator.runs.environments import build_environments, trainable
from orchestrator.spec import load_spec
from tests.integration.test_probes import LABELS, RL
from tests.orchestrator.specs import APART, Raw, small

# What a method cannot do without; a level is needed by those that climb or match a difficulty.
OPTIONS: dict[str, Raw] = {
    "adarft": {"difficulty": "meta.length"},
    "alp_gmm": {"fit_every": 10, "max_components": 2},
    "riac": {"region_size": 20},
    "plr": {"buffer": 12},
}
NOT_AHEAD = (
    "cispo",
    "disco",
    "drpo",
    "gspo",
    "gvm",
)  # objectives without an importance weight, or with a pilot: specs refuse it
SEVERAL = ("constrained", "hypervolume", "weighted")  # objectives that weigh the components of a score
REPLAYS: Sequence[Any] = (0.25, {"share": 0.25, "rule": "due"}, {"share": 0.25, "rule": "random"}, 0)
OF_ADAPTERS = ("merge_adapters", "reset_adapters")
INTERVENTIONS = ("reset_optimizer", "average", *OF_ADAPTERS, "base_fusion", "redo", "shrink_perturb")
GUARDS: Sequence[Raw] = (
    {"when": "response_len > 0", "steps": 3, "action": "lower", "most": 9},
    {"when": "grad_norm > 1e-9", "action": "roll_back", "steps": 2, "most": 9},
    {"when": "grad_norm > 1e-9", "action": "skip"},
    {"when": "repeated_frac > .9"},
)
EVERY_STEPS = (2, 1, 3)  # steps between periodic checkpoints


@dataclass(frozen=True)
class Setting:
    """A run to be broken: its number, what is special about it, and its spec."""

    number: int
    methods: dict[str, str]
    spec: Raw

    def __str__(self) -> str:
        return ", ".join(self.methods.values())


def names(kind: str) -> list[str]:
    """All methods of a kind, ours and those installed, but engines and environments that need what is not here."""
    return [method.name for method in registry.listing(kind)]


def setting(number: int, folder: Path) -> Setting:
    """Make the setting of this number; those that follow each other have another method of every kind."""
    turn = {kind: cycle[number % len(cycle)] for kind, cycle in _CYCLES.items()}
    if turn["objective"] in SEVERAL:  # of the methods that want environments of their own, it is this one's turn
        turn |= {"bandit": "sec"} if turn["bandit"] == "linucb" else {}
        turn |= {"selection": "plr"} if turn["selection"] == "adarft" else {}
    needs_own = turn["bandit"] == "linucb" or turn["objective"] in SEVERAL
    is_taught = number % 5 == 4 and not needs_own  # by a teacher, which takes the place of a selection
    chosen = "teacher" if is_taught else "selection"
    methods = {kind: turn[kind] for kind in ("bandit", "scheduler", chosen, "objective")}
    environments = _environments(methods, folder)
    options = OPTIONS | {"sequence": {"order": list(environments)[-2:]}}
    described = {kind: {"type": name, **options.get(name, {})} for kind, name in methods.items()}
    curriculum: Raw = {
        "stages": 3,
        **{kind: described[kind] for kind in ("scheduler", "bandit", chosen)},
        "stage": {"steps": 3, "replay": REPLAYS[number % len(REPLAYS)]},
    }
    if number % 4 == 1:
        curriculum |= {"stages": 2}
        curriculum["stage"] |= {"steps": 12, "stop": turn["stop"], "min_steps": 10}  # rules are asked every 10 steps
        methods["stop"] = turn["stop"]
    if number % 4 == 3:
        intervention = INTERVENTIONS[number // 4 % len(INTERVENTIONS)]
        curriculum["boundary"], methods["intervention"] = {"interventions": [intervention]}, intervention
    if number % 9 in (1, 6) and environments.get("noise", {}).get("character") == "noisy":
        path = folder / "away"  # answers of one category cannot be scored
        path.write_text("noise/hard")
        environments["noise"] = {"type": "tests.integration.patchy:create", "path": str(path)}
        curriculum["quarantine"] = {"after": 1, "steps": 4}
        methods["quarantine"] = "quarantine"
    if turn["bandit"] == "size":  # endless categories have none
        arms = trainable(build_environments(load_spec(small(environments=environments, warm_start=None)))[1])
        endless = sorted({category for own in arms.values() for category, arm in own.items() if arm.size is None})
        described["bandit"]["sizes"] = {category: 20 + 10 * i for i, category in enumerate(endless)}
    spec = small(
        f"case-{number}",
        seed=number,
        environments=environments,
        curriculum=curriculum,
        objective=turn["objective"],
        step={"groups": 4, "group_size": 6},
        checkpoint={"every_steps": EVERY_STEPS[number % len(EVERY_STEPS)]},
        scoring={"workers": 1} if number % 2 else {"isolation": "none"},
    )
    if "numbers" not in environments or environments.get("book", {}).get("type") != "codebook":
        spec["warm_start"] = None
    if number % 3 == 2 and turn["objective"] not in NOT_AHEAD:
        spec["sampler"] = {"max_tokens": 3, "ahead": 1}
        methods["sampler"] = "ahead"
    if number % 4 == 2:
        guard = GUARDS[number // 4 % len(GUARDS)]
        if "sampler" in methods and guard is GUARDS[1]:
            guard = GUARDS[0]
        spec["guards"], methods["guard"] = [guard], guard.get("action", "tell")
    if methods.get("intervention") in OF_ADAPTERS:
        spec["policy"] = {**spec["policy"], "adapter": 4}
    elif number % 13 == 8:
        spec["resources"], methods["ranks"] = {**spec["resources"], "ranks": 2}, "ranks"
    if number % 7 == 3:
        probe = {**RL, "environment": next(iter(environments))}
        spec["measure"] = {"share": 1, "of": [probe, LABELS, "samples"]}
        methods["measure"] = "probes"
    if number % 6 == 5:
        spec["checkpoint"]["boundaries"] = methods["boundaries"] = "weights"
    if number % 10 == 6:
        spec["tracker"] = methods["tracker"] = "mlflow"
    return Setting(number, methods, spec)


def _environments(methods: Mapping[str, str], folder: Path) -> Raw:
    """Three kinds of environment, or those that a method can work with."""
    usual: Raw = {**small()["environments"], "noise": APART}
    if methods.get("selection") == "adarft":  # a difficulty of every task
        rows = ((name, str(_rows(folder / f"{name}.jsonl"))) for name in ("book", "noise"))
        return {name: {"type": "rows", "train": path, "reward": "exact"} for name, path in rows}
    if methods["objective"] in SEVERAL:
        judged = {**usual["noise"], "character": "judged_by_several", "categories": ["easy", "hard"]}
        usual = {"book": judged, "noise": judged, "numbers": judged}
    gym = {"type": "reasoning_gym", "max_tokens": 3}
    if methods["bandit"] == "linucb":  # numbers that describe every category
        levels = {"small": {"max_terms": 2, "max_digits": 1}, "large": {"max_terms": 3, "max_digits": 2}}
        return {"numbers": usual["numbers"], "sums": {**gym, "dataset": "chain_sum", "categories": levels}}
    if "teacher" in methods:  # a box
        usual["numbers"] = {**gym, "dataset": "gcd", "parameters": {"max_value": [9, 40]}}
    return usual


_CYCLES = {
    "bandit": names("bandits"),
    "scheduler": names("schedulers"),
    "selection": names("selections"),
    "teacher": names("teachers"),
    "stop": names("stop_rules"),
    "objective": names("objectives"),
}


def _rows(path: Path) -> Path:
    if not path.exists():
        lines = ({"prompt": f"{i} + 1", "answer": str(i + 1), "meta": {"length": i % 9}} for i in range(90))
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path
