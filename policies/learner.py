"""The learner: turns a step's batch into optimiser updates. One loss for every objective,

    loss = -(W * lp).sum() - (K * H).sum()

where the objective fills W and K and the learner computes lp and H (objectives.md 2.1). Sums over micro-batches
add up, so what an update does depends neither on how it was cut, nor on padding, nor on the order of its rows.

No row is run for nothing: one whose advantage is 0 gets no coefficient from most objectives, and most groups have no
spread. Such rows are counted in every total and left out of every pass, so the gradient is the same without them.

What an objective asks about the start of the step (`needs`) comes out of one pass without gradient, over all rows if
it looks at the whole step. Until weights move the current numbers are those of the start, to the last bit: in the first
update every ratio is exactly 1, and where it is the only one, what is asked of single tokens needs no pass of its own.

Dimension letters: B rows, T tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from policies.activation_checkpointing import recomputing_layers
from policies.batch_forward import cutter_of, score_batch, score_micro
from policies.config import LearnerConfig
from policies.divergence import require_finite
from policies.errors import PolicyError
from policies.forward import Reduction, Scored, evaluating
from policies.micro_batches import MicroBatch, MicroBatcher, mini_batches, to_device, totals_of
from policies.objectives.contracts import Batch, Coefficients, Totals
from policies.objectives.diagnostics import covariances
from policies.optimizer import Optimizer
from policies.policy import Policy
from policies.reference import Reference
from policies.shared_prompts import can_share
from policies.step import Step, StepObjective, StepTally, mean_of, reduction_of, seen_by


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
    seconds: Mapping[str, float]  # by part: old (the survey too), forward, backward, optimizer
    num_rows: int = 0  # of the batch
    num_rows_run: int = 0  # that went through the model; the others could not have moved anything
    num_tokens_fed: int = 0  # to the model, padding included; a token of two passes counts twice
    surprisal: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of the survey, by arm
    covariance: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # by arm, "" for all


class Learner:
    """Moves the weights of a policy; `policy.version` counts the steps that did.

    Takes resolved options (`LearnerConfig.resolved`) and the temperature that rollouts are drawn at. The model
    stays in eval mode: dropout would make its log-probs differ from the sampler's.

    `keeps_reference`: an objective will ask for log-probs under the weights as they are now (`lp_ref`).
    """

    def __init__(
        self, policy: Policy, config: LearnerConfig, temperature: float = 1.0, keeps_reference: bool = False
    ) -> None:
        if config.lr is None or config.betas is None or config.micro_tokens is None:
            raise PolicyError("some defaults depend on the policy: pass `config.resolved(policy_config)`")
        self.policy, self.config, self.temperature = policy, config, temperature
        self.lr, self.micro_tokens = config.lr, config.micro_tokens
        # layers that are recomputed read no keys and values of before
        self.may_share = can_share(policy.model) and not config.activation_checkpointing
        self.optimizer = Optimizer(policy.model, config.betas, config.weight_decay, config.clip_norm)
        self.reference = Reference(policy, temperature, config.micro_tokens) if keeps_reference else None

    def update(self, batch: Batch, objective: StepObjective, *, is_off_policy: bool = False) -> UpdateReport:
        """Do a step's optimiser updates; those that are not finite are skipped and counted.

        `is_off_policy`: older weights wrote the batch, so the sampler's log-probs do not stand for the current ones.

        Raises:
            NonFiniteLogits: the policy has diverged, so that no later update could be finite either.
        """
        step = self._begin(batch, objective, is_off_policy)
        with self.passing():
            if step.looks_back:
                step = self._score_old(step)
            if "step" in objective.needs:
                step = self._survey(step)
            for rows in step.parts:
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

    def reference_lp(self, batch: Batch) -> Tensor:
        """Give the log-probs [B, T] of a batch under the reference policy, on the CPU."""
        if self.reference is None:
            raise PolicyError(
                "this objective compares with a frozen reference policy, and the learner keeps none: make it with "
                "`keeps_reference`"
            )
        return self.reference.lp(batch)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Have the model as it has to be for passes: dropout off, layers recomputed if the options say so."""
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.policy.model))
            if self.config.activation_checkpointing:
                stack.enter_context(recomputing_layers(self.policy.model, self.policy.name))
            yield

    def cutter_of(self, batch: Batch) -> MicroBatcher:
        """Look at a batch to cut it as updates do."""
        return cutter_of(batch, self.micro_tokens, self.may_share, self.policy.device)

    def _begin(self, batch: Batch, objective: StepObjective, is_off_policy: bool) -> Step:
        """Look at a step's batch: which of its rows can move anything, and what has to be known about them."""
        batch, needs = to_device(batch, torch.device("cpu")), objective.needs
        if "lp_ref" in needs and batch.lp_ref_BT is None:
            raise PolicyError(
                "this objective compares with a frozen reference policy, and the batch brings no log-probs of one: "
                "prepare it with the learner's `reference_lp`"
            )
        is_run_B = batch.mask_BT.any(-1)
        if objective.leaves_silent_rows_alone:
            is_run_B = is_run_B & batch.has_advantage
        parts = mini_batches(batch.group_B, self.config.updates or objective.updates)
        looks_back = len(parts) > 1 or "step" in needs or (is_off_policy and "mean_lp" in needs)
        return Step(
            batch=batch,
            objective=objective,
            parts=parts,
            looks_back=looks_back,
            reduction=reduction_of(objective, self.temperature, asks_start=not looks_back),
            cutter=self.cutter_of(batch),
            is_run_B=is_run_B,
            tally=StepTally(),
            mean_lp=mean_of(batch.lp_roll_BT, batch.mask_BT),  # on-policy the sampler's are the current ones
        )

    def _update_once(self, step: Step, rows: Tensor) -> None:
        """Do one optimiser update over some rows of the step."""
        totals = totals_of(step.batch.take(rows), step.mean_lp, step.noted.numbers)
        totals = replace(totals, drift=self._drift(step, rows))
        is_run = step.is_run_B[rows]
        losses = [self._gather(step, micro, totals) for micro in self._cut(step, rows[is_run])]
        num_silent = int(step.batch.mask_BT[rows[~is_run]].sum())
        step.tally.add(step.objective.silent_sums(num_silent, totals), {})
        with step.tally.timing("backward"):
            loss = sum(torch.stack(losses).tolist()) if losses else 0.0
        step.tally.losses.append(loss)
        with step.tally.timing("optimizer"):
            self._apply(loss, step.tally)
        if not isfinite(loss):
            self._require_finite(step, rows[is_run])

    def _drift(self, step: Step, rows: Tensor) -> float | None:
        """How far earlier updates of the step went on these rows: the mean of lp_old - lp over their tokens."""
        if "drift" not in step.objective.needs:
            return None
        if step.old is None or not step.tally.num_updates:
            return 0.0
        mask_BT = step.batch.mask_BT[rows]
        with step.tally.timing("old"):
            cut = self._cut(step, rows[mask_BT.any(-1)])
            now = score_batch(
                self.policy.model, self.policy.device, step.batch, cut, Reduction(self.temperature)
            )
        return mean_of((step.old.lp_BT - now.lp_BT)[rows], mask_BT) if mask_BT.any() else 0.0

    def _cut(self, step: Step, rows: Tensor) -> list[MicroBatch]:
        """Cut rows into micro-batches, and count what will be fed."""
        cut = step.cutter.cut(rows)
        step.tally.num_tokens_fed += sum(micro.num_tokens for micro in cut)
        return cut

    def _gather(self, step: Step, micro: MicroBatch, totals: Totals) -> Tensor:
        """Gather the gradient of one micro-batch; give its share of the loss."""
        rows = to_device(step.batch.take(micro.rows), self.policy.device)
        with step.tally.timing("forward"):
            scored = score_micro(self.policy.model, rows, micro, step.reduction)
            now = scored.map(Tensor.detach)
            noted = {
                key: value[micro.rows, : rows.ids_BT.shape[1]] for key, value in step.noted.tokens.items()
            }
            seen = seen_by(rows, now, step.at_start(micro.rows, now), noted)
            coefficients = step.objective.coefficients(seen, totals)
        if coefficients.k_BT is not None and step.reduction.entropy != "grad":
            raise PolicyError("this objective fills K, and does not say that it needs `entropy_grad`")
        step.tally.add(coefficients.sums, coefficients.maxima)
        with step.tally.timing("backward"):
            return self._backward(scored, coefficients)

    def _backward(self, scored: Scored, coefficients: Coefficients) -> Tensor:
        """Go back through one micro-batch."""
        loss = -(coefficients.w_BT * scored.lp_BT).sum()
        if coefficients.k_BT is not None and scored.entropy_BT is not None:
            loss = loss - (coefficients.k_BT * scored.entropy_BT).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.gather_gradients()
        return loss.detach()

    def _apply(self, loss: float, tally: StepTally) -> None:
        """Let the optimiser step, unless the loss already says that the gradient is worthless."""
        if not isfinite(loss):
            self.optimizer.clear_gradients()
            tally.norms.append(float("nan"))
            return
        norm, was_applied = self.optimizer.step(self._rate(self.optimizer.num_updates))
        tally.norms.append(norm)
        tally.num_updates += was_applied

    def _require_finite(self, step: Step, rows: Tensor) -> None:
        """Tell a policy that has diverged from a loss that overflowed: run the rows again, and look at their logits."""
        model, device = self.policy.model, self.policy.device
        now = score_batch(model, device, step.batch, step.cutter.cut(rows), Reduction(self.temperature))
        logprobs = [now.lp_BT[row][step.batch.mask_BT[row]].numpy() for row in rows.tolist()]
        version = self.policy.version + (
            step.tally.num_updates > 0
        )  # an earlier update of this step moved them
        require_finite(logprobs, version, "of the update")

    def _rate(self, num_updates: int) -> float:
        """Learning rate of the update after `num_updates` others: a linear rise, then constant."""
        return self.lr * min(1.0, (num_updates + 1) / max(1, self.config.warmup))

    def _score_old(self, step: Step) -> Step:
        """Score rows with the weights at the start of the step, without gradient: all, if all of them are looked at."""
        has_tokens_B = step.batch.mask_BT.any(-1)
        is_scored_B = has_tokens_B if step.objective.needs & {"mean_lp", "step", "drift"} else step.is_run_B
        reduction = reduction_of(step.objective, self.temperature, asks_now=False)
        with step.tally.timing("old"):
            cut = self._cut(step, is_scored_B.nonzero()[:, 0])
            old = score_batch(self.policy.model, self.policy.device, step.batch, cut, reduction)
        is_known = torch.equal(is_scored_B, has_tokens_B)
        return replace(step, old=old, mean_lp=mean_of(old.lp_BT, step.batch.mask_BT) if is_known else None)

    def _survey(self, step: Step) -> Step:
        """Let the objective look at the whole step, on the CPU."""
        assert step.old is not None, "the step looks back"
        with step.tally.timing("old"):
            totals = totals_of(step.batch, step.mean_lp, {})
            noted = step.objective.survey(seen_by(step.batch, step.old, step.old, {}), totals)
        return replace(step, noted=noted)

    def _report(self, step: Step) -> UpdateReport:
        tally, num = step.tally, len(step.tally.losses)
        return UpdateReport(
            sums=tally.sums | {name: (value, 1.0) for name, value in step.noted.log.items()},
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
            surprisal=step.noted.surprisal,
            covariance=covariances(step.batch),
        )
