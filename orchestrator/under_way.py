"""A batch played ahead, on disk: part of a checkpoint, so that a resumed run goes on with the same episodes.

batch.json           slots, tasks by (environment, category, index), what was said, scores
tokens.safetensors   of all episodes one after the other: ids, mask, log-probs, entropies
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from environments import Environment, Score, make_task
from orchestrator.bandits.contracts import Pick
from orchestrator.choosing import Slot
from orchestrator.playing import Group, Sample
from orchestrator.rollouts import Played
from policies.samplers.contracts import Span

BATCH, TOKENS = "batch.json", "tokens.safetensors"
ARRAYS = ("ids", "mask", "logprobs", "entropies")


def save(played: Played, folder: Path) -> None:
    """Write a batch into an empty folder."""
    batch = {
        "step": played.step,
        "slots": [asdict(slot) for slot in played.slots],
        "groups": [_group(group) for group in played.groups],
    }
    (folder / BATCH).write_text(json.dumps(batch, sort_keys=True, indent=1), "utf-8")
    samples = [sample for group in played.groups for sample in group.samples]
    rows = {name: np.concatenate([getattr(sample, name) for sample in samples]) for name in ARRAYS}
    save_file(rows, folder / TOKENS)


def load(folder: Path, environments: Mapping[str, Environment]) -> Played:
    """Read what `save` wrote. Tasks are made again; how long playing took is not remembered."""
    batch = json.loads((folder / BATCH).read_text("utf-8"))
    lengths = [sample["length"] for group in batch["groups"] for sample in group["samples"]]
    rows = iter(_rows(load_file(folder / TOKENS), lengths))
    groups = [
        Group(
            make_task(environments[group["environment"]], group["category"], group["index"]),
            tuple(_read_sample(sample, next(rows)) for sample in group["samples"]),
        )
        for group in batch["groups"]
    ]
    slots = [Slot(**{**slot, "pick": Pick(**slot["pick"])}) for slot in batch["slots"]]
    return Played(batch["step"], slots, groups, {})


def _group(group: Group) -> dict[str, Any]:
    task = group.task
    samples = [_sample(sample) for sample in group.samples]
    return {
        "environment": task.environment,
        "category": task.category,
        "index": task.index,
        "samples": samples,
    }


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "length": len(sample.ids),
        "spans": [asdict(span) for span in sample.spans],
        "messages": [dict(message) for message in sample.messages],
        "completion": sample.completion,
        "num_turns": sample.num_turns,
        "finish": sample.finish,
        "has_gradient": sample.has_gradient,
        "score": asdict(sample.score),
    }


def _read_sample(facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> Sample:
    plain = {name: facts[name] for name in ("completion", "num_turns", "finish", "has_gradient")}
    return Sample(
        **arrays,
        **plain,
        spans=tuple(Span(**span) for span in facts["spans"]),
        messages=tuple(facts["messages"]),
        score=Score(**facts["score"]),
    )


def _rows(tokens: Mapping[str, Any], lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Cut arrays of all episodes into those of each."""
    edges = [0, *np.cumsum(lengths).tolist()]
    return [{name: tokens[name][start:end] for name in ARRAYS} for start, end in pairwise(edges)]
