"""A batch played ahead, on disk: part of a checkpoint, so that a resumed run goes on with the same episodes.

batch.json           slots, tasks by (environment, category, index), what was said, scores, what the plans made of it
tokens.safetensors   of all episodes one after the other: ids, mask, log-probs, entropies
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from environments import Environment, PassedOver, Score, make_task
from orchestrator.bandits.contracts import Pick
from orchestrator.choosing.choice import Slot
from orchestrator.rollout.data_plans import RolloutBatch, TemperedRows
from orchestrator.rollout.player import Group, Sample
from policies.samplers.contracts import Span

BATCH, TOKENS = "batch.json", "tokens.safetensors"
ARRAYS = ("ids", "mask", "logprobs", "entropies")


def save(played: RolloutBatch, folder: Path) -> None:
    """Write a batch into an empty folder."""
    batch = {
        "step": played.step,
        "slots": [asdict(slot) for slot in played.slots],
        "groups": [_group(group) for group in played.groups],
        "dropped": sorted(played.dropped),
        "sides": [{**vars(side), "group": _group(side.group)} for side in played.sides],
        "num_rounds": played.num_rounds,
        "plans": played.plans,
        "passed_over": {name: asdict(passed) for name, passed in played.passed_over.items()},
    }
    (folder / BATCH).write_text(json.dumps(batch, sort_keys=True, indent=1), "utf-8")
    groups = [*played.groups, *(side.group for side in played.sides)]
    samples = [sample for group in groups for sample in group.samples]
    rows = {name: np.concatenate([getattr(sample, name) for sample in samples]) for name in ARRAYS}
    save_file(rows, folder / TOKENS)


def load(folder: Path, environments: Mapping[str, Environment]) -> RolloutBatch:
    """Read what `save` wrote. Tasks are made again; how long playing took is not remembered."""
    batch = json.loads((folder / BATCH).read_text("utf-8"))
    sides = batch.get("sides", [])  # it and what the plans did are not in batches of older runs
    saved = [*batch["groups"], *(side["group"] for side in sides)]
    lengths = [sample["length"] for group in saved for sample in group["samples"]]
    rows = iter(_rows(load_file(folder / TOKENS), lengths))
    groups = [_read_group(group, environments, rows) for group in saved]
    num = len(batch["groups"])
    return RolloutBatch(
        step=batch["step"],
        slots=[Slot(**{**slot, "pick": Pick(**slot["pick"])}) for slot in batch["slots"]],
        groups=groups[:num],
        dropped=frozenset(batch.get("dropped", ())),
        sides=[
            TemperedRows(group, tuple(side["taught"]), side["advantage"], side["temperature"])
            for side, group in zip(sides, groups[num:], strict=True)
        ],
        num_rounds=batch.get("num_rounds", 1),
        plans=tuple(batch.get("plans", ())),
        passed_over={name: PassedOver(**one) for name, one in batch.get("passed_over", {}).items()},
    )


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
        "turn_starts": sample.turn_starts,
        "score": asdict(sample.score),
    }


def _read_group(
    facts: Mapping[str, Any], environments: Mapping[str, Environment], rows: Iterator[Mapping[str, Any]]
) -> Group:
    task = make_task(environments[facts["environment"]], facts["category"], facts["index"])
    return Group(task, tuple(_read_sample(sample, next(rows)) for sample in facts["samples"]))


def _read_sample(facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> Sample:
    plain = {name: facts[name] for name in ("completion", "num_turns", "finish", "has_gradient")}
    return Sample(
        **arrays,
        **plain,
        spans=tuple(Span(**span) for span in facts["spans"]),
        messages=tuple(facts["messages"]),
        turn_starts=tuple(facts.get("turn_starts", ())),
        score=Score(**facts["score"]),
    )


def _rows(tokens: Mapping[str, Any], lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Cut arrays of all episodes into those of each."""
    edges = [0, *np.cumsum(lengths).tolist()]
    return [{name: tokens[name][start:end] for name in ARRAYS} for start, end in pairwise(edges)]
