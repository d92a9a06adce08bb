"""The learner: turns a step's batch into optimiser updates. One loss for every objective,

    loss = -(W * lp).sum() - (K * H).sum()

where the objective fills W and K and the learner computes lp and H (objectives.md 2.1). Sums over micro-batches
add up, so what an update does depends neither on how it was cut, nor on padding, nor on the order of its rows.

No row is run for nothing: one whose advantage is 0 gets no coefficient from most objectives, and most groups have no
spread. Such rows are counted in every total and left out of every pass, so the gradient is the same without them.

Dimension letters: B rows, T tokens of the longest row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Protocol

import torch
from torch import Tensor

from policies.batches import (
    FORWARD_TOKENS_CPU,
    FORWARD_TOKENS_ELSEWHERE,
    Cutter,
    MicroBatch,
    Openings,
    mini_batches,
    to_device,
    totals_of,
)
from policies.config import LearnerConfig
from policies.errors import PolicyError
from policies.forward import EntropyMode, Scored, evaluating, score_rows
from policies.objectives.contracts import Batch, Coefficients, Need, Rows, Totals
from policies.optimizer import Optimizer
from policies.policy import Policy
from policies.recomputation import recomputing_layers
from policies.shared_prompts import can_share, score_shared


class Objective(Protocol):
    """What the learner asks of an objective."""

    @property
    def needs(self) -> frozenset[Need]:
        """What its parts read beside lp."""

    @property
    def updates(self) -> int:
        """Optimiser updates a step, unless the learner's options say otherwise."""

    @property
    def leaves_silent_rows_alone(self) -> bool:
        """Whether rows whose advantage is 0 get no coefficient, whatever their log-probs are."""

    def coefficients(self, rows: Rows, totals: Totals) -> Coefficients:
        """Fill W and K for some rows of an update."""

    def silent_sums(self, num_tokens: int, totals: Totals) -> dict[str, tuple[float, float]]:
        """What silent rows that were not run add to the metrics, where that is known."""


@dataclass(frozen=True)
class UpdateReport:
    """What the updates of one step did."""

    sums: Mapping[str, tuple[float, float]]  # the objective's metrics: (sum, count) over all micro-batches
    maxima: Mapping[str, float]  # the objective's: the largest of all micro-batches
    loss: float  # -(W * lp).sum() - (K * H).sum(), mean over the updates; the conventional value is a metric
    grad_norm: float  # mean over the updates, before clipping; not finite if one was skipped
    lr: float  # of the last update
    num_updates: int  # applied
    num_skipped: int  # refused, loss or gradient not being finite: weights and moments are untouched
    seconds: Mapping[str, float]  # by part: old, forward, backward, optimizer
    num_rows: int = 0  # of the batch
    num_rows_run: int = 0  # that went through the model; the others could not have moved anything
    num_tokens_fed: int = 0  # to the model, padding included; a token of two passes counts twice


@dataclass
class _Tally:
    """What the updates of one step gather."""

    sums: dict[str, tuple[float, float]] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    num_updates: int = 0
    num_tokens_fed: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, sums: Mapping[str, tuple[float, float]], maxima: Mapping[str, float]) -> None:
        """Merge the metrics of some rows."""
        for name, (total, count) in sums.items():
            before = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (before[0] + total, before[1] + count)
        for name, value in maxima.items():
            self.maxima[name] = max(self.maxima.get(name, value), value)

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[part] += perf_counter() - start


@dataclass(frozen=True)
class _Step:
    """One step's batch, with all that its updates share."""

    batch: Batch
    objective: Objective
    entropy: EntropyMode
    cutter: Cutter
    is_run_B: Tensor  # bool, the rows that go through the model
    tally: _Tally
    mean_lp: float | None  # mean log-prob at the start of the step; None: not all rows were run to tell
    lp_old_BT: Tensor | None = None  # None: one update a step, so the old log-probs are the current ones


class Learner:
    """Moves the weights of a policy; `policy.version` counts the steps that did.

    Takes resolved options (`LearnerConfig.resolved`) and the temperature that rollouts are drawn at. The model
    stays in eval mode: dropout would make its log-probs differ from the sampler's.
    """

    def __init__(self, policy: Policy, config: LearnerConfig, temperature: float = 1.0) -> None:
        if config.lr is None or config.betas is None or config.micro_tokens is None:
            raise PolicyError("some defaults depend on the policy: pass `config.resolved(policy_config)`")
        self.policy, self.config, self.temperature = policy, config, temperature
        self.lr, self.micro_tokens = config.lr, config.micro_tokens
        # layers that are recomputed read no keys and values of before
        self.may_share = can_share(policy.model) and not config.activation_checkpointing
        self.optimizer = Optimizer(policy.model, config.betas, config.weight_decay, config.clip_norm)

    def update(self, batch: Batch, objective: Objective, *, is_off_policy: bool = False) -> UpdateReport:
        """Do a step's optimiser updates; those that are not finite are skipped and counted.

        `is_off_policy`: older weights wrote the batch, so the sampler's log-probs do not stand for the current ones.
        """
        parts = mini_batches(batch.group_B, self.config.updates or objective.updates)
        step = self._begin(batch, objective)
        with evaluating(self.policy.model), self._recomputing():
            if len(parts) > 1 or (is_off_policy and "mean_lp" in objective.needs):
                step = self._score_old(step)
            for rows in parts:
                self._update_once(step, rows)
        if step.tally.num_updates:
            self.policy.version += 1
        return self._report(step)

    def reset(self) -> None:
        """Begin anew at a boundary: moments forgotten, warm-up again, weights as they are."""
        self.optimizer.reset()

    def save_optimizer(self, folder: Path) -> None:
        """Write everything but the weights that an exact resume needs."""
        self.optimizer.save(folder)

    def load_optimizer(self, folder: Path) -> None:
        """Go on from what `save_optimizer` wrote, after the weights were loaded."""
        self.optimizer.load(folder)

    def _begin(self, batch: Batch, objective: Objective) -> _Step:
        """Look at a step's batch: which of its rows can move anything, and what has to be known about them."""
        is_run_B = batch.mask_BT.any(-1)
        if objective.leaves_silent_rows_alone:
            is_run_B = is_run_B & (batch.advantage_B != 0)
        is_cpu = self.policy.device.type == "cpu"
        forward_tokens = FORWARD_TOKENS_CPU if is_cpu else FORWARD_TOKENS_ELSEWHERE
        return _Step(
            batch=batch,
            objective=objective,
            entropy=_entropy_mode(objective.needs),
            cutter=Cutter(Openings.of(batch), self.micro_tokens, forward_tokens, self.may_share),
            is_run_B=is_run_B,
            tally=_Tally(),
            mean_lp=_mean(batch.lp_roll_BT, batch.mask_BT),  # on-policy the sampler's are the current ones
        )

    def _update_once(self, step: _Step, rows: Tensor) -> None:
        """Do one optimiser update over some rows of the step."""
        totals = totals_of(step.batch.mask_BT[rows], step.mean_lp)
        is_run = step.is_run_B[rows]
        losses = [self._gather(step, micro, totals) for micro in self._cut(step, rows[is_run])]
        num_silent = int(step.batch.mask_BT[rows[~is_run]].sum())
        step.tally.add(step.objective.silent_sums(num_silent, totals), {})
        with step.tally.timing("backward"):
            loss = sum(torch.stack(losses).tolist()) if losses else 0.0
        step.tally.losses.append(loss)
        with step.tally.timing("optimizer"):
            self._apply(loss, step.tally)

    def _cut(self, step: _Step, rows: Tensor) -> list[MicroBatch]:
        """Cut rows into micro-batches, and count what will be fed."""
        cut = step.cutter.cut(rows)
        step.tally.num_tokens_fed += sum(micro.num_tokens for micro in cut)
        return cut

    def _gather(self, step: _Step, micro: MicroBatch, totals: Totals) -> Tensor:
        """Gather the gradient of one micro-batch; give its share of the loss."""
        rows = to_device(step.batch.take(micro.rows), self.policy.device)
        with step.tally.timing("forward"):
            scored = self._score(rows, micro, step.entropy)
            old_BT = scored.lp_BT.detach()
            if step.lp_old_BT is not None:
                old_BT = step.lp_old_BT[micro.rows, : rows.ids_BT.shape[1]].to(self.policy.device)
            coefficients = step.objective.coefficients(_seen(rows, scored, old_BT), totals)
        if coefficients.k_BT is not None and step.entropy != "grad":
            raise PolicyError("this objective fills K, and does not say that it needs `entropy_grad`")
        step.tally.add(coefficients.sums, coefficients.maxima)
        with step.tally.timing("backward"):
            return self._backward(scored, coefficients)

    def _score(self, rows: Batch, micro: MicroBatch, entropy: EntropyMode) -> Scored:
        """Run one micro-batch through the model."""
        seen = (self.policy.model, rows.ids_BT, rows.mask_BT)
        if micro.sharing is None:
            return score_rows(*seen, self.temperature, entropy)
        return score_shared(*seen, micro.sharing.to(self.policy.device), self.temperature, entropy)

    def _backward(self, scored: Scored, coefficients: Coefficients) -> Tensor:
        """Go back through one micro-batch."""
        loss = -(coefficients.w_BT * scored.lp_BT).sum()
        if coefficients.k_BT is not None and scored.entropy_BT is not None:
            loss = loss - (coefficients.k_BT * scored.entropy_BT).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.gather_gradients()
        return loss.detach()

    def _apply(self, loss: float, tally: _Tally) -> None:
        """Let the optimiser step, unless the loss already says that the gradient is worthless."""
        if not abs(loss) < float("inf"):
            self.optimizer.clear_gradients()
            tally.norms.append(float("nan"))
            return
        norm, was_applied = self.optimizer.step(self._rate(self.optimizer.num_updates))
        tally.norms.append(norm)
        tally.num_updates += was_applied

    def _rate(self, num_updates: int) -> float:
        """Learning rate of the update after `num_updates` others: a linear rise, then constant."""
        return self.lr * min(1.0, (num_updates + 1) / max(1, self.config.warmup))

    def _score_old(self, step: _Step) -> _Step:
        """Score rows with the weights at the start of the step, without gradient: all, if their mean is read."""
        is_scored_B, has_tokens_B = step.is_run_B, step.batch.mask_BT.any(-1)
        if "mean_lp" in step.objective.needs:
            is_scored_B = has_tokens_B
        lp_old_BT = torch.zeros_like(step.batch.lp_roll_BT)
        with torch.no_grad(), step.tally.timing("old"):
            for micro in self._cut(step, is_scored_B.nonzero()[:, 0]):
                rows = to_device(step.batch.take(micro.rows), self.policy.device)
                lp_BT = self._score(rows, micro, "none").lp_BT
                lp_old_BT[micro.rows, : lp_BT.shape[1]] = lp_BT.to(lp_old_BT)
        is_known = torch.equal(is_scored_B, has_tokens_B)
        mean_lp = _mean(lp_old_BT, step.batch.mask_BT) if is_known else None
        return replace(step, lp_old_BT=lp_old_BT, mean_lp=mean_lp)

    def _recomputing(self) -> AbstractContextManager[None]:
        if not self.config.activation_checkpointing:
            return nullcontext()
        return recomputing_layers(self.policy.model, self.policy.name)

    def _report(self, step: _Step) -> UpdateReport:
        tally, num = step.tally, len(step.tally.losses)
        return UpdateReport(
            sums=tally.sums,
            maxima=tally.maxima,
            loss=sum(tally.losses) / num,
            grad_norm=sum(tally.norms) / num,
            lr=self._rate(max(0, self.optimizer.num_updates - 1)),
            num_updates=tally.num_updates,
            num_skipped=num - tally.num_updates,
            seconds=dict(tally.seconds),
            num_rows=len(step.is_run_B),
            num_rows_run=int(step.is_run_B.sum()),
            num_tokens_fed=tally.num_tokens_fed,
        )


def _mean(lp_BT: Tensor, mask_BT: Tensor) -> float:
    return float(lp_BT[mask_BT].double().mean())


def _entropy_mode(needs: frozenset[Need]) -> EntropyMode:
    if "lp_ref" in needs:
        raise PolicyError(
            "this objective needs log-probs of a frozen reference policy, and there is none yet"
        )
    if "entropy_grad" in needs:
        return "grad"
    return "value" if "entropy" in needs else "none"


def _seen(rows: Batch, scored: Scored, lp_old_BT: Tensor) -> Rows:
    """Show the objective a micro-batch, gradients stopped."""
    return Rows(
        mask_BT=rows.mask_BT,
        advantage_BT=rows.advantage_B[:, None] * rows.mask_BT,
        lp_BT=scored.lp_BT.detach(),
        lp_old_BT=lp_old_BT,
        lp_roll_BT=rows.lp_roll_BT,
        entropy_BT=None if scored.entropy_BT is None else scored.entropy_BT.detach(),
        group_B=rows.group_B,
    )
