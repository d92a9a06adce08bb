"""A training batch: played groups, their rows for the learner, and its file in a checkpoint if it was played ahead.

batch.json           slots, tasks by (environment, category, index), what was said, scores, what the plans made of it
tokens.safetensors   of all episodes one after the other: ids, mask, log-probs, entropies
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from environments import Environment, PassedOver, Score, make_task
from orchestrator.bandits.contracts import Pick
from orchestrator.played_group import THINK_END, Group, PlayedGroup, Sample, Slot
from policies.objectives.contracts import Trajectory
from policies.policy import Policy
from policies.samplers.contracts import Span

BATCH, TOKENS = "batch.json", "tokens.safetensors"
ARRAYS = ("ids", "mask", "logprobs", "entropies")
PLAIN = ("completion", "num_turns", "finish", "has_gradient")


@dataclass(frozen=True)
class TemperedRows:
    """Side rows of one task: played at another temperature, no group of the batch."""

    group: Group
    taught: tuple[int, ...]  # which of its scored samples are learned from
    advantage: float  # of each
    temperature: float


@dataclass(frozen=True)
class RolloutBatch:
    """The batch of one step, played and scored."""

    step: int
    groups: Sequence[PlayedGroup]  # all generated; a pick that was played again comes again, at the end
    dropped: frozenset[int] = frozenset()  # places of groups that a plan leaves out of the update
    sides: Sequence[TemperedRows] = ()
    num_rounds: int = 1  # of generation
    plans: tuple[str, ...] = ()  # that shaped it
    passed_over: Mapping[str, PassedOver] = field(default_factory=dict)  # by environment, while it was drawn
    # of the thread that played it; none: the step's
    seconds: Mapping[str, float] = field(default_factory=dict)

    def trajectories(self, reads_value: bool, policy: Policy) -> list[Trajectory]:
        """Give the learner what could be scored: the groups that were not dropped, then the side rows."""
        think_end = ThinkTag(policy).end
        rows = [
            trajectory
            for number, group in enumerate(self.groups)
            if number not in self.dropped
            for trajectory in group.trajectories(number, reads_value, think_end)
        ]
        for number, side in enumerate(self.sides, start=len(self.groups)):
            every = side.group.trajectories(number, reads_value, think_end)
            rows += [replace(every[k], advantage=side.advantage) for k in side.taught]
        return rows


class ThinkTag:
    """Finds the closing think tag in token ids, whether or not it is a token of the policy's vocabulary."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._token: int | None = policy.tokenizer.get_added_vocab().get(THINK_END)

    def end(self, sample: Sample) -> int | None:
        """Give the position behind the first closing tag that the policy wrote; None if it wrote none.

        A row without the tag costs a search of its text. Where the tag is several tokens, prefixes are decoded.
        """
        if self._token is not None:
            is_tag = sample.mask & (sample.ids == self._token)
            if is_tag.any():
                return int(is_tag.argmax()) + 1
        if THINK_END not in sample.completion:
            before = sample.messages if sample.num_turns > 1 else ()  # else it said nothing but its completion
            if not any(THINK_END in one["content"] for one in before if one["role"] == "assistant"):
                return None
        at = np.flatnonzero(sample.mask)
        ids = sample.ids[at].tolist()
        if not self._has_tag(ids):  # what was said is in the task's own messages
            return None
        last = bisect_left(range(1, len(ids)), True, key=lambda num: self._has_tag(ids[:num]))
        return int(at[last]) + 1

    def _has_tag(self, ids: list[int]) -> bool:
        return THINK_END in self._policy.decode(ids)


def save(batch: RolloutBatch, folder: Path) -> None:
    """Write a batch into an empty folder."""
    groups: list[Group] = [*batch.groups, *(side.group for side in batch.sides)]
    facts = [
        {
            "environment": group.task.environment,
            "category": group.task.category,
            "index": group.task.index,
            "samples": [
                {
                    **{name: getattr(sample, name) for name in PLAIN},
                    "length": len(sample.ids),
                    "spans": [asdict(span) for span in sample.spans],
                    "messages": [dict(message) for message in sample.messages],
                    "turn_starts": sample.turn_starts,
                    "score": asdict(sample.score),
                }
                for sample in group.samples
            ],
        }
        for group in groups
    ]
    num = len(batch.groups)
    saved = {
        "step": batch.step,
        "slots": [asdict(group.slot) for group in batch.groups],
        "groups": facts[:num],
        "dropped": sorted(batch.dropped),
        "sides": [{**vars(side), "group": own} for side, own in zip(batch.sides, facts[num:], strict=True)],
        "num_rounds": batch.num_rounds,
        "plans": batch.plans,
        "passed_over": {name: asdict(passed) for name, passed in batch.passed_over.items()},
    }
    (folder / BATCH).write_text(json.dumps(saved, sort_keys=True, indent=1), "utf-8")
    samples = [sample for group in groups for sample in group.samples]
    arrays = {name: np.concatenate([getattr(one, name) for one in samples]) for name in ARRAYS}
    save_file(arrays, folder / TOKENS)


def load(folder: Path, environments: Mapping[str, Environment]) -> RolloutBatch:
    """Read what `save` wrote. Tasks are made again; how long playing took is not kept."""
    saved, tokens = json.loads((folder / BATCH).read_text("utf-8")), load_file(folder / TOKENS)
    sides = saved.get("sides", [])  # it and what the plans did are not in batches of older runs
    facts = [*saved["groups"], *(side["group"] for side in sides)]
    lengths = [sample["length"] for group in facts for sample in group["samples"]]
    spans = pairwise([0, *np.cumsum(lengths).tolist()])  # where the tokens of each episode are
    groups = []
    for own in facts:
        task = make_task(environments[own["environment"]], own["category"], own["index"])
        samples = []
        for sample in own["samples"]:
            start, end = next(spans)
            samples.append(
                Sample(
                    **{name: tokens[name][start:end] for name in ARRAYS},
                    **{name: sample[name] for name in PLAIN},
                    spans=tuple(Span(**span) for span in sample["spans"]),
                    messages=tuple(sample["messages"]),
                    turn_starts=tuple(sample.get("turn_starts", ())),
                    score=Score(**sample["score"]),
                )
            )
        groups.append(Group(task, tuple(samples)))
    slots = [Slot(**{**slot, "pick": Pick(**slot["pick"])}) for slot in saved["slots"]]
    return RolloutBatch(
        step=saved["step"],
        groups=[PlayedGroup(one.task, one.samples, slot) for one, slot in zip(groups, slots, strict=False)],
        dropped=frozenset(saved.get("dropped", ())),
        sides=[
            TemperedRows(group, tuple(side["taught"]), side["advantage"], side["temperature"])
            for side, group in zip(sides, groups[len(slots) :], strict=True)
        ],
        num_rounds=saved.get("num_rounds", 1),
        plans=tuple(saved.get("plans", ())),
        passed_over={name: PassedOver(**one) for name, one in saved.get("passed_over", {}).items()},
    )
