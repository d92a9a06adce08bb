"""The learner: turns a step's batch into optimiser updates. One loss for every objective,

    loss = -(W * lp).sum() - (K * H).sum()

where the objective fills W and K and the learner computes lp and H (objectives.md 2.1). Sums over micro-batches
add up, so what an update does depends neither on how it was cut, nor on padding, nor on the order of its rows.

Dimension letters: B rows, T tokens of the longest row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Protocol

import torch
from torch import Tensor

from policies.batches import micro_batches, mini_batches, to_device, totals_of
from policies.config import LearnerConfig
from policies.errors import PolicyError
from policies.forward import EntropyMode, Scored, evaluating, score_rows
from policies.objectives.contracts import Batch, Coefficients, Need, Rows, Totals
from policies.optimizer import Optimizer
from policies.policy import Policy
from policies.recomputation import recomputing_layers


class Objective(Protocol):
    """What the learner asks of an objective."""

    @property
    def needs(self) -> frozenset[Need]:
        """What its parts read beside lp."""

    @property
    def updates(self) -> int:
        """Optimiser updates a step, unless the learner's options say otherwise."""

    def coefficients(self, rows: Rows, totals: Totals) -> Coefficients:
        """Fill W and K for some rows of an update."""


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


@dataclass
class _Tally:
    """What the updates of one step gather."""

    sums: dict[str, tuple[float, float]] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    num_updates: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, coefficients: Coefficients) -> None:
        """Merge the metrics of a micro-batch."""
        for name, (total, count) in coefficients.sums.items():
            before = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (before[0] + total, before[1] + count)
        for name, value in coefficients.maxima.items():
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
    lp_old_BT: Tensor | None  # None: one update a step, so the old log-probs are the current ones
    tally: _Tally

    @property
    def mean_lp(self) -> float:
        """Mean log-prob at the start of the step; on-policy the sampler's are the same numbers."""
        lp_BT = self.batch.lp_roll_BT if self.lp_old_BT is None else self.lp_old_BT
        return float(lp_BT[self.batch.mask_BT].double().mean())


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
        self.optimizer = Optimizer(policy.model, config.betas, config.weight_decay, config.clip_norm)

    def update(self, batch: Batch, objective: Objective) -> UpdateReport:
        """Do a step's optimiser updates; those that are not finite are skipped and counted."""
        entropy = _entropy_mode(objective.needs)
        parts = mini_batches(batch.group_B, self.config.updates or objective.updates)
        tally = _Tally()
        with evaluating(self.policy.model), self._recomputing():
            lp_old_BT = self._score_old(batch, tally) if len(parts) > 1 else None
            step = _Step(batch, objective, entropy, lp_old_BT, tally)
            for rows in parts:
                self._update_once(step, rows)
        if tally.num_updates:
            self.policy.version += 1
        return self._report(tally)

    def reset(self) -> None:
        """Begin anew at a boundary: moments forgotten, warm-up again, weights as they are."""
        self.optimizer.reset()

    def save_optimizer(self, folder: Path) -> None:
        """Write everything but the weights that an exact resume needs."""
        self.optimizer.save(folder)

    def load_optimizer(self, folder: Path) -> None:
        """Go on from what `save_optimizer` wrote, after the weights were loaded."""
        self.optimizer.load(folder)

    def _update_once(self, step: _Step, rows: Tensor) -> None:
        """Do one optimiser update over some rows of the step."""
        totals = totals_of(step.batch.mask_BT[rows], step.mean_lp)
        loss = sum(
            self._gather(step, micro, totals) for micro in micro_batches(step.batch, rows, self.micro_tokens)
        )
        step.tally.losses.append(loss)
        with step.tally.timing("optimizer"):
            self._apply(loss, step.tally)

    def _gather(self, step: _Step, micro: Tensor, totals: Totals) -> float:
        """Gather the gradient of one micro-batch; give its share of the loss."""
        rows = to_device(step.batch.take(micro), self.policy.device)
        with step.tally.timing("forward"):
            scored = score_rows(self.policy.model, rows.ids_BT, rows.mask_BT, self.temperature, step.entropy)
            old_BT = scored.lp_BT.detach()
            if step.lp_old_BT is not None:
                old_BT = step.lp_old_BT[micro, : rows.ids_BT.shape[1]].to(self.policy.device)
            coefficients = step.objective.coefficients(_seen(rows, scored, old_BT), totals)
        if coefficients.k_BT is not None and step.entropy != "grad":
            raise PolicyError("this objective fills K, and does not say that it needs `entropy_grad`")
        step.tally.add(coefficients)
        with step.tally.timing("backward"):
            return self._backward(scored, coefficients)

    def _backward(self, scored: Scored, coefficients: Coefficients) -> float:
        """Go back through one micro-batch, unless all its coefficients are zero: most groups have no spread."""
        loss, pushes = -(coefficients.w_BT * scored.lp_BT).sum(), coefficients.w_BT.any()
        if coefficients.k_BT is not None and scored.entropy_BT is not None:
            loss = loss - (coefficients.k_BT * scored.entropy_BT).sum()
            pushes = pushes | coefficients.k_BT.any()
        if pushes:
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.gather_gradients()
        return float(loss.detach())

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

    def _score_old(self, batch: Batch, tally: _Tally) -> Tensor:
        """Score all rows with the weights at the start of the step, without gradient."""
        lp_old_BT = torch.zeros(batch.mask_BT.shape)
        with torch.no_grad(), tally.timing("old"):
            for micro in micro_batches(batch, torch.arange(len(batch.length_B)), self.micro_tokens):
                rows = to_device(batch.take(micro), self.policy.device)
                lp_BT = score_rows(self.policy.model, rows.ids_BT, rows.mask_BT, self.temperature).lp_BT
                lp_old_BT[micro, : lp_BT.shape[1]] = lp_BT.cpu()
        return lp_old_BT

    def _recomputing(self) -> AbstractContextManager[None]:
        if not self.config.activation_checkpointing:
            return nullcontext()
        return recomputing_layers(self.policy.model, self.policy.name)

    def _report(self, tally: _Tally) -> UpdateReport:
        num = len(tally.losses)
        return UpdateReport(
            sums=tally.sums,
            maxima=tally.maxima,
            loss=sum(tally.losses) / num,
            grad_norm=sum(tally.norms) / num,
            lr=self._rate(max(0, self.optimizer.num_updates - 1)),
            num_updates=tally.num_updates,
            num_skipped=num - tally.num_updates,
            seconds=dict(tally.seconds),
        )


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
