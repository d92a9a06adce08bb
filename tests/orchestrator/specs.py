"""Specs so small that a whole run takes well under a second, for the tests of all packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = [path for path in sorted((REPOSITORY / "examples").glob("*.yaml")) if not path.stem.startswith("study_")]
FAKE = "tests.environments.fakes:create"

Raw = dict[str, Any]

APART: Raw = {"type": FAKE, "character": "noisy"}  # `noise`, scored in another process, which takes a second to start


def small(name: str = "small", **sections: Any) -> Raw:
    """A curriculum in which everything moves: three kinds of environment, nine steps, two updates a step.

    `numbers` never ends and is scored in the trainer; `book` is closed and soon begins again; the scores of `noise`
    always differ, so that advantages, bandits and controllers have work. All is scored in the trainer.
    """
    spec: Raw = {
        "name": name,
        "seed": 3,  # the scheduler then picks all three environments
        "policy": {"model": "tiny", "layers": 1, "hidden": 16, "mlp": 32, "heads": 2, "kv_heads": 1},
        "warm_start": {
            "environments": ["book", "numbers"],
            "batches": 12,
            "batch_size": 16,
            "lr": 0.03,
            "warmup": 2,
        },
        "environments": {
            "numbers": {
                "type": "reasoning_gym",
                "dataset": "gcd",
                "categories": {
                    "10": {"min_value": 1, "max_value": 10},
                    "30": {"min_value": 1, "max_value": 30},
                },
                "max_tokens": 3,
            },
            "book": {"type": "codebook", "categories": {"2": 2, "4": 4}, "keys": 6},
            "noise": {**APART, "in_process": True},
        },
        "curriculum": {
            "stages": 3,
            "scheduler": "uniform",
            "stage": {"steps": 3, "replay": 0.25},
        },
        "step": {"groups": 4, "group_size": 4},
        "learner": {"lr": 0.003, "warmup": 2, "updates": 2},
        "sampler": {"max_tokens": 3},
        "evaluate": {"items": 2, "samples": 4},
        "checkpoint": {"every_steps": 2},
        "scoring": {"workers": 1},
        "tracker": "none",  # a process of its own, with tests of its own
        "resources": {"search_path": str(REPOSITORY)},
    }
    return {**spec, **sections}


def flat(name: str = "flat", **sections: Any) -> Raw:
    """The same with one bandit over all arms."""
    curriculum = {"mode": "flat", "stages": 3, "stage": {"steps": 3}}
    return small(name, **{"curriculum": curriculum, **sections})


def alone(name: str = "alone", steps: int = 3, stages: int = 2, **environment: Any) -> Raw:
    """One environment, by default the fake that can be learnt, with nothing around it: the cheapest run there is."""
    return small(
        name,
        warm_start=None,
        environments={"one": {"type": FAKE, "in_process": True, "categories": ["easy"], **environment}},
        curriculum={"stages": stages, "stage": {"steps": steps}},
        step={"groups": 2, "group_size": 2},
        evaluate={"items": 1, "samples": 4},
    )


def written(folder: Path, spec: Raw) -> Path:
    """Write a spec as a user would have."""
    path = folder / f"{spec.get('name', 'spec')}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path
