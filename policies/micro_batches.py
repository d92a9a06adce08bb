"""A step's batch through a model: cut into mini-batches, one an update, and those into micro-batches that fit.

Time and memory depend on the cuts, never the result. Rows are sorted by length, so that little is padding, and where it
saves work the prompts that they share are read once (`shared_prompts.py`).

Dimension letters: B rows, R rows of one part of a micro-batch, T tokens of the longest row, U prompts, N masked tokens,
F features.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.forward import (
    Reduction,
    Scored,
    evaluating,
    features_of,
    recomputing_layers,
    require_finite,
    score_features,
)
from policies.objectives.contracts import Batch, Totals, of_estimator
from policies.policy import Policy
from policies.ranks import Alone
from policies.shared_prompts import PromptPart, Sharing, can_share, shared_features

Ints = NDArray[np.int64]

SCORE = "score_micro"  # method of a sharded model, through which it is run


@dataclass(frozen=True)
class Costs:
    """What reading takes on a device, in tokens of rows that are read whole."""

    forward: int  # a forward and its backward beside their tokens: Python, and small matrices
    after_prompt: float  # a token that goes on from a prompt that was read apart


# Measured with the tiny policy, where 64 to 192 do alike.
ON_CPU = Costs(forward=96, after_prompt=1.0)
# On an H200: 1,000 to 7,000 by the model; 1.3 to 2.3, since attention from some tokens to more takes a slower kernel
# (docs/results/gpu.md).
ELSEWHERE = Costs(forward=2048, after_prompt=1.5)


@dataclass(frozen=True)
class SharedOpenings:
    """Where the rows of a step begin to be the policy's own. One entry a row, on the CPU."""

    prompt_B: Ints  # rows with equal tokens before the first masked one have the same number
    start_B: Ints  # how many those are
    rest_B: Ints  # tokens fed after them: up to the last masked one, which is not fed

    @classmethod
    def of(cls, batch: Batch) -> SharedOpenings:
        """Look where rows begin alike; one without a masked token is all prompt."""
        ids_BT, mask_BT, length_B = (t.cpu().numpy() for t in (batch.ids_BT, batch.mask_BT, batch.length_B))
        is_masked_B = mask_BT.any(-1)
        start_B = np.where(is_masked_B, mask_BT.argmax(-1), length_B)
        last_B = np.where(is_masked_B, mask_BT.shape[1] - 1 - mask_BT[:, ::-1].argmax(-1), start_B)
        numbers: dict[bytes, int] = {}
        prompts = [
            numbers.setdefault(ids_T[:start].tobytes(), len(numbers))
            for ids_T, start in zip(ids_BT, start_B, strict=True)
        ]
        return cls(np.array(prompts), start_B, last_B - start_B)


@dataclass(frozen=True)
class MicroBatch:
    """Rows for one backward."""

    rows: Tensor  # int64 [B], places in the step's batch
    num_tokens: int  # fed, padding included
    num_forwards: int
    sharing: Sharing | None = None  # None: rows are read whole, in one forward


def mini_batches(group_B: Tensor, num: int) -> list[Tensor]:
    """Cut rows into at most `num` parts: whole groups, dealt in turn in the order in which they appear.

    What stands together in a step is of one kind (a stage's own groups, replay of an environment, side groups at
    another temperature), so each part has its share of every kind.
    """
    groups = list(dict.fromkeys(group_B.tolist()))
    num = min(num, len(groups))
    return [torch.isin(group_B, torch.tensor(groups[part::num])).nonzero()[:, 0] for part in range(num)]


@dataclass(frozen=True)
class MicroBatcher:
    """Cuts rows into micro-batches of so many padded tokens, prompts apart from what follows where that costs less."""

    openings: SharedOpenings
    most_tokens: int
    costs: Costs = ON_CPU
    may_share: bool = False  # prompts may be read apart

    @classmethod
    def of(cls, batch: Batch, most_tokens: int, may_share: bool, device: torch.device) -> MicroBatcher:
        """Look at a batch to cut it for a device."""
        costs = ON_CPU if device.type == "cpu" else ELSEWHERE
        return cls(SharedOpenings.of(batch), most_tokens, costs, may_share)

    def cut(self, rows: Tensor) -> list[MicroBatch]:
        """Cut some rows of the step."""
        whole = list(self.whole(rows.numpy()))
        if not self.may_share:
            return whole
        ways = (whole, list(self.shared(rows.numpy())))
        return min(ways, key=lambda way: sum(map(self.cost, way)))

    def cost(self, micro: MicroBatch) -> float:
        """Reckon what a micro-batch takes, in tokens."""
        parts = () if micro.sharing is None else micro.sharing.parts
        after_prompts = sum(len(part.row_R) * part.num_columns for part in parts)
        more = (self.costs.after_prompt - 1) * after_prompts
        return micro.num_tokens + more + self.costs.forward * micro.num_forwards

    def whole(self, rows: Ints) -> Iterator[MicroBatch]:
        """Cut whole rows, longest first."""
        num_fed_B = self.openings.start_B + self.openings.rest_B
        rows = rows[np.argsort(-num_fed_B[rows], kind="stable")]
        while len(rows):
            longest = max(1, int(num_fed_B[rows[0]]))
            now, rows = np.split(rows, [max(1, self.most_tokens // longest)])
            yield MicroBatch(torch.from_numpy(now), num_tokens=len(now) * longest, num_forwards=1)

    def shared(self, rows: Ints) -> Iterator[MicroBatch]:
        """Cut prompts with all that follows them, longest first; a prompt of too many rows is read again."""
        prompt_B, rest_B = self.openings.prompt_B[rows], self.openings.rest_B[rows]
        longest_U = np.zeros(self.openings.prompt_B.max() + 1, np.int64)
        np.maximum.at(longest_U, prompt_B, rest_B)
        rows = rows[np.lexsort((-rest_B, prompt_B, -longest_U[prompt_B], -self.openings.start_B[rows]))]
        while len(rows):
            now, rows = np.split(rows, [self._num_fitting(rows)])
            sharing = self._sharing(now)
            num_tokens, num_forwards = self._num_tokens(now), 1 + len(sharing.parts)
            yield MicroBatch(torch.from_numpy(now), num_tokens, num_forwards, sharing)

    def _num_fitting(self, rows: Ints) -> int:
        """Count the first rows that fit: whole prompts, if the first of them does."""
        ends = 1 + np.flatnonzero(np.diff(self.openings.prompt_B[rows], append=-1))
        for candidates in (ends, np.arange(1, ends[0])):
            low, high = 0, len(candidates)  # the first `low` fit, those from `high` do not
            while low < high:
                middle = (low + high + 1) // 2
                fits = self._num_tokens(rows[: candidates[middle - 1]]) <= self.most_tokens
                low, high = (middle, high) if fits else (low, middle - 1)
            if low:
                return int(candidates[low - 1])
        return 1

    def _num_tokens(self, rows: Ints) -> int:
        """Count what rows feed when their prompts are read once."""
        num_prompts = 1 + np.count_nonzero(np.diff(self.openings.prompt_B[rows]))
        rest_R = -np.sort(-self.openings.rest_B[rows])
        num = sum((end - start) * int(rest_R[start]) for start, end in self._spans(rest_R))
        return int(num_prompts * self.openings.start_B[rows].max()) + num

    def _sharing(self, rows: Ints) -> Sharing:
        """Lay out one micro-batch; rows with the same prompt stand together."""
        start_B, rest_B = self.openings.start_B[rows], self.openings.rest_B[rows]
        is_first_B = np.diff(self.openings.prompt_B[rows], prepend=-1) != 0
        order = np.argsort(-rest_B, kind="stable")
        return Sharing(
            prompt_B=torch.from_numpy(np.cumsum(is_first_B) - 1),
            row_U=torch.from_numpy(np.flatnonzero(is_first_B)),
            start_B=torch.from_numpy(start_B),
            width=int(start_B.max()),
            is_even=bool((start_B == start_B[0]).all()),
            parts=tuple(
                PromptPart(torch.from_numpy(order[start:end]), int(rest_B[order[start]]))
                for start, end in self._spans(rest_B[order])
            ),
        )

    def _spans(self, rest_R: Ints, offset: int = 0) -> Iterator[tuple[int, int]]:
        """Cut sorted rows, longest first, wherever less padding pays for another forward; those of 0 are left out."""
        rest_R = rest_R[: np.count_nonzero(rest_R)]
        if len(rest_R) == 0:
            return
        saved_R = (len(rest_R) - np.arange(len(rest_R))) * (rest_R[0] - rest_R)
        at = int(saved_R.argmax())
        if saved_R[at] <= self.costs.forward:
            yield offset, offset + len(rest_R)
            return
        yield from self._spans(rest_R[:at], offset)
        yield from self._spans(rest_R[at:], offset + at)


def totals_of(batch: Batch, mean_lp: float | None, noted: Mapping[str, float]) -> Totals:
    """Count what one update holds, whatever it is cut into."""
    group_tokens: dict[int, int] = defaultdict(int)
    for group, num in zip(batch.group_B.tolist(), batch.mask_BT.sum(-1).tolist(), strict=True):
        if num:
            group_tokens[group] += num
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])  # of |advantage| and of tokens, by environment
    of_BT = of_estimator(batch)
    has_tokens_B, num_B = batch.mask_BT.any(-1).tolist(), of_BT.sum(-1).tolist()
    signal_B = batch.advantage_BT.masked_fill(~of_BT, 0).abs().double().sum(-1).tolist()
    for arm, signal, num, has_tokens in zip(batch.arm_B.tolist(), signal_B, num_B, has_tokens_B, strict=True):
        if has_tokens:
            own = sums[batch.arms[arm].split("/")[0]]
            own[0], own[1] = own[0] + signal, own[1] + num
    return Totals(
        signal=sum(total for total, _ in sums.values()) / max(sum(num_B), 1),
        signals={name: total / max(num, 1) for name, (total, num) in sums.items()},
        num_tokens=int(batch.mask_BT.sum()),
        num_sequences=int(batch.mask_BT.any(-1).sum()),
        mean_lp=mean_lp,
        group_tokens=dict(group_tokens),
        arms=batch.arms,
        noted=noted,
    )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move all tensors of a batch."""
    return batch.map(lambda value: value.to(device))


@dataclass
class ForwardPasses:
    """Passes of one policy's model over batches."""

    policy: Policy
    temperature: float  # logits are divided by it
    micro_tokens: int  # padded tokens in one forward
    recomputes: bool = False  # its layers, in the backward pass; they read no keys and values of before
    work: Alone = field(default_factory=Alone)  # what of a cut is run here

    def __post_init__(self) -> None:
        self.may_share = not self.recomputes and can_share(self.policy.model)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Have the model as passes need it: dropout off, layers recomputed if asked."""
        model = self.policy.model
        layers = recomputing_layers(model, self.policy.name) if self.recomputes else nullcontext()
        with evaluating(model), layers:
            yield

    def batcher(self, batch: Batch) -> MicroBatcher:
        """Look at a batch to cut it for the model's device."""
        return MicroBatcher.of(batch, self.micro_tokens, self.may_share, self.policy.device)

    @torch.no_grad()
    def score(self, batch: Batch, cut: Iterable[MicroBatch], reduction: Reduction | None = None) -> Scored:
        """Score micro-batches of a batch: numbers [B, T] of all rows, on the CPU, 0 where none was run."""
        model, reduction = self.policy.model, reduction or Reduction(self.temperature)
        # in the precision that the reduction gives
        dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
        lp_BT, entropy_BT, lp_proxy_BT = torch.zeros(3, *batch.mask_BT.shape, dtype=dtype)
        has_entropy, has_proxy = reduction.entropy != "none", reduction.kappa is not None
        whole = Scored(lp_BT, entropy_BT if has_entropy else None, lp_proxy_BT if has_proxy else None)
        for share in self.work.deal(list(cut)):
            micro = share.micro
            rows = to_device(batch.take(micro.rows), self.policy.device)
            scored = score_micro(model, rows, micro, reduction)
            if not share.counts:
                continue
            for into_BT, own_BT in zip(whole.tensors, scored.tensors, strict=True):
                into_BT[micro.rows, : own_BT.shape[1]] = own_BT.cpu()
        # FSDP keeps what no layer holds gathered until a backward pass: what moves the shards next would not reach it
        if (reshard := getattr(model, "reshard", None)) is not None:
            reshard()
        return self.work.union(whole)

    def finite_lp(self, batch: Batch, rows: Tensor, version: int, where: str) -> Tensor:
        """Score rows: log-probs [B, T], on the CPU. `NonFiniteLogits` tells `version` of the weights and `where`."""
        lp_BT = self.score(batch, self.batcher(batch).cut(rows)).lp_BT
        mask_BT = batch.mask_BT.cpu()
        require_finite([lp_BT[row][mask_BT[row]].numpy() for row in rows.tolist()], version, where)
        return lp_BT


def micro_features(model: Any, rows: Batch, micro: MicroBatch) -> tuple[Tensor, Tensor]:
    """Give the features [N, F] that predict masked tokens, with the places of those in the flattened rows."""
    if micro.sharing is None:
        return features_of(model, rows.ids_BT, rows.mask_BT)
    return shared_features(model, rows.ids_BT, rows.mask_BT, micro.sharing.to(rows.ids_BT.device))


def score_micro(model: Any, rows: Batch, micro: MicroBatch, reduction: Reduction) -> Scored:
    """Run one micro-batch through a model; `rows` are its rows, on the model's device."""
    run = getattr(model, SCORE, None)
    return Scored(*(score_whole(model, rows, micro, reduction) if run is None else run(rows, micro, reduction)))


def score_whole(model: Any, rows: Batch, micro: MicroBatch, reduction: Reduction) -> tuple[Tensor | None, ...]:
    """Do what `score_micro` does; a plain tuple, in which FSDP finds the tensors that a backward pass begins with."""
    features_NF, place_N = micro_features(model, rows, micro)
    scored = score_features(model, features_NF, place_N, rows.ids_BT, reduction)
    return scored.lp_BT, scored.entropy_BT, scored.lp_proxy_BT
