"""The learner: turns a step's trajectories into optimiser updates. One loss for every objective,

    loss = -(W * lp).sum() - (K * H).sum()

where the objective fills W and K and the learner computes lp and H (objectives.md 2.1). Sums over micro-batches
add up, so what an update does depends neither on how it was cut, nor on padding, nor on the order of its rows.

Rows whose advantage is 0 get no coefficient from most objectives: they are counted in every total and left out of
every pass. What an objective asks about the start of the step (`needs`) comes out of one pass without gradient. Until
weights move the current numbers are those of the start, to the last bit: in the first update every ratio is exactly 1,
and where it is the only one, what is asked of single tokens needs no pass of its own.

Dimension letters: B rows, T tokens of the longest row.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from math import isfinite, nan
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from policies.config import LearnerConfig
from policies.errors import PolicyError
from policies.forward import EntropyMode, Reduction, Scored, why_layers_are_kept
from policies.gradients import weigh_components
from policies.hardware import deterministic_kernels, free_cached_memory
from policies.learning_rate import Span, fall, rise
from policies.micro_batches import (
    ForwardPasses,
    MicroBatch,
    MicroBatcher,
    mini_batches,
    score_micro,
    to_device,
    totals_of,
)
from policies.objectives.by_environment import AnyObjective
from policies.objectives.contracts import Batch, ShapedRows, SurveyResult, Totals, Trajectory, is_off_policy
from policies.objectives.diagnostics import covariances
from policies.optimizer import Optimizer
from policies.policy import Policy
from policies.ranks import CPU, Alone, Ranks, Share, full_tensor
from policies.reference import Reference

SQUARED = "_weight_squared"  # of a mismatch weight, mean of w^2: only for the share of effective samples


Refuses = Callable[[str, float], bool]  # whether an update of this "loss" or "grad_norm" is left out


def nothing(name: str, value: float) -> bool:
    """Refuse no update."""
    return False


@dataclass
class StepTally:
    """What the updates of one step gather."""

    sums: dict[str, tuple[float, float]] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    num_updates: int = 0
    num_refused: int = 0  # of those that were not applied, although they were finite
    lr: float | None = None  # of the last update that was applied
    num_tokens_fed: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, sums: Mapping[str, tuple[float, float]], maxima: Mapping[str, float]) -> None:
        """Merge the metrics of some rows."""
        for name, (total, count) in sums.items():
            before = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (before[0] + total, before[1] + count)
        for name, value in maxima.items():
            self.maxima[name] = max(self.maxima.get(name, value), value)

    def merge(self, work: Alone) -> None:
        """Add what other ranks gathered."""
        own = {"sums": self.sums, "maxima": self.maxima}
        self.sums, self.maxima = {}, {}
        for one in work.merge(own):
            self.add({name: (total, count) for name, (total, count) in one["sums"].items()}, one["maxima"])

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add up how long a part takes."""
        start = perf_counter()
        yield
        self.seconds[part] += perf_counter() - start


# Over the policy's tokens: of all rows (None), and of each environment's where it has an objective of its own.
Means = Mapping[str | None, float]


@dataclass(frozen=True)
class Step:
    """One step's batch, with all that its updates share."""

    batch: Batch  # on the CPU, as are `old` and `noted`
    objective: AnyObjective
    parts: list[Tensor]  # the rows of each update
    falls: list[float]  # share of the learning rate that its schedule leaves, for each
    reduction: Reduction  # of the updates' passes
    batcher: MicroBatcher
    is_run_B: Tensor  # bool, the rows that go through the model
    tally: StepTally
    mean_lp: Means  # log-prob at the start of the step; empty: not all rows were run to tell
    old: Scored | None = None  # at the step's start; None: the updates' own passes tell all that is asked
    noted: SurveyResult = field(default_factory=SurveyResult)

    def cut(self, rows: Tensor) -> list[MicroBatch]:
        """Cut rows into micro-batches, and count what will be fed."""
        cut = self.batcher.cut(rows)
        self.tally.num_tokens_fed += sum(micro.num_tokens for micro in cut)
        return cut

    def at_start(self, rows: Tensor, now: Scored) -> Scored:
        """These rows at the start of the step, by what they are now: the same, to the last bit, until weights move.

        Otherwise the first update would see rounding errors for ratios, and penalties that read a sign would act.
        """
        if self.old is None:
            return now
        device, width = now.lp_BT.device, now.lp_BT.shape[1]
        then = self.old.map(lambda whole_BT: whole_BT[rows, :width].to(device))
        if self.tally.num_updates:
            return then
        entropy_BT = then.entropy_BT if now.entropy_BT is None else now.entropy_BT
        return Scored(now.lp_BT, entropy_BT, then.lp_proxy_BT)


def reduction_of(
    objective: AnyObjective, temperature: float, asks_now: bool = True, asks_start: bool = True
) -> Reduction:
    """What a pass makes of the logits: for those who ask about now, about the start of the step, or about both."""
    needs = objective.needs
    entropy: EntropyMode = "none"
    if asks_now and "entropy_grad" in needs:
        entropy = "grad"
    elif (asks_now and "entropy" in needs) or (asks_start and "old_entropy" in needs):
        entropy = "value"
    kappa = objective.kappa if asks_start and "old_filter" in needs else None
    return Reduction(temperature, entropy, objective.nucleus, kappa)


def seen_by(rows: Batch, now: Scored, old: Scored, noted: Mapping[str, Tensor]) -> ShapedRows:
    """Show the objective some rows of a step, gradients stopped; `PolicyError` for rounded log-probs."""
    same = ("mask_BT", "advantage_BT", "lp_roll_BT", "group_B", "lp_ref_BT", "arm_B", "turn_BT", "is_given_B")
    seen = ShapedRows(
        **{name: getattr(rows, name) for name in same},
        lp_BT=now.lp_BT,
        lp_old_BT=old.lp_BT,
        entropy_BT=now.entropy_BT,
        entropy_old_BT=old.entropy_BT,
        lp_proxy_BT=old.lp_proxy_BT,
        noted={key: value_BT.to(rows.ids_BT.device) for key, value_BT in noted.items()},
    )
    for name in ("lp", "lp_old", "lp_roll", "lp_ref"):
        lp_BT: Tensor | None = getattr(seen, f"{name}_BT")
        if lp_BT is not None and torch.finfo(lp_BT.dtype).bits < 32:
            raise PolicyError(
                f"{name} is {str(lp_BT.dtype).removeprefix('torch.')}: log-probs below float32 "
                "bias every ratio upward (arXiv 2603.11682). Upcast the logits before they are reduced; to cast "
                "afterwards repairs nothing"
            )
    return seen


def mean_of(lp_BT: Tensor, mask_BT: Tensor) -> float:
    """Mean over the policy's tokens."""
    return float(lp_BT[mask_BT].double().mean())


def means_of(objective: AnyObjective, batch: Batch, value_BT: Tensor) -> Means:
    """Mean over the policy's tokens of all rows, and of those of each objective."""
    found: dict[str | None, float] = {None: mean_of(value_BT, batch.mask_BT)}
    for name, is_own_B in objective.split(batch).items():
        found[name] = mean_of(value_BT[is_own_B], batch.mask_BT[is_own_B])
    return found


def totals_by_objective(
    objective: AnyObjective, batch: Batch, mean_lp: Means, noted: Mapping[str, float], drift: Means
) -> Totals:
    """Count what one update holds, and what of it is each objective's; what surveys noted begins with its name."""
    own = {}
    for name, is_own_B in objective.split(batch).items():
        numbers = {k.removeprefix(f"{name}/"): v for k, v in noted.items() if k.startswith(f"{name}/")}
        counted = totals_of(batch.take(is_own_B.nonzero()[:, 0]), mean_lp.get(name), numbers)
        own[name] = replace(counted, drift=drift.get(name))
    whole = totals_of(batch, mean_lp.get(None), noted)
    return replace(whole, drift=drift.get(None), own=own)


def rows_of_updates(objective: AnyObjective, batch: Batch, num: int | None) -> list[Tensor]:
    """The rows of each update: `num` of them, or as many as an objective is made for, its rows in the first ones."""
    split = objective.split(batch)
    if not split:
        return mini_batches(batch.group_B, num or objective.updates)
    own = []
    for name, is_own_B in split.items():
        rows = is_own_B.nonzero()[:, 0]
        own.append([rows[part] for part in mini_batches(batch.group_B[rows], num or objective.of(name).updates)])
    most = max(map(len, own))
    return [torch.cat([one[place] for one in own if place < len(one)]).sort().values for place in range(most)]


@dataclass(frozen=True)
class UpdateReport:
    """What the updates of one step did."""

    sums: Mapping[str, tuple[float, float]]  # the objective's metrics: (sum, count) over all micro-batches
    maxima: Mapping[str, float]  # the objective's: the largest of all micro-batches
    loss: float  # -(W * lp).sum() - (K * H).sum(), mean over the updates; the conventional value is a metric
    grad_norm: float  # mean over the updates, before clipping; not finite if one was skipped
    lr: float  # of the last update
    num_updates: int  # applied
    num_skipped: int  # not applied, refused or loss or gradient not being finite: weights and moments are untouched
    seconds: Mapping[str, float]  # by part: old (the survey too), forward, backward, optimizer
    num_rows: int = 0  # of the batch
    num_rows_run: int = 0  # that went through the model; the others could not have moved anything
    num_tokens_fed: int = 0  # to the model, padding included; a token of two passes counts twice
    surprisal: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of the survey, by arm
    covariance: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # by arm, "" for all
    num_refused: int = 0  # of those skipped, by the caller

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The numbers of the update by name, finite or not: the objective's, then the learner's own."""
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        metrics, shares = dict[str, float](), dict[str, float]()
        for name, value in means.items():
            weight, *environment = name.split("/")
            if not weight.endswith(SQUARED):
                metrics[name] = value
            elif value > 0:
                # (mean w)^2 / mean w^2 of the mismatch weights, the least of them where there are several
                share = means[name.replace(SQUARED, "_weight_mean", 1)] ** 2 / value
                key = "/".join(["effective_samples", *environment])
                shares[key] = min(share, shares.get(key, share))
        metrics |= {**self.maxima, **shares}
        metrics |= {"loss": self.loss, "grad_norm": self.grad_norm, "lr": self.lr}
        metrics |= {"skipped_updates": self.num_skipped, "rows_run_frac": self.num_rows_run / self.num_rows}
        return metrics


class Learner:
    """Moves the weights of a policy; `policy.version` counts the steps that did.

    Takes resolved options and the temperature of rollouts; with `keeps_reference` an objective may ask for log-probs
    under the weights as they are now (`lp_ref`). The model stays in eval mode: dropout is not in the sampler's
    log-probs. With `work` of several ranks a sharded copy learns, and rank 0's policy follows it: whatever else is done
    with a policy is done on rank 0 alone; the other ranks do what it tells them (`follow`), with a policy that is
    sharded in place. `replicas`: how many times the ranks hold all of it. With `optimizes_on_host` masters and moments
    lie in the host's memory, and so does rank 0's policy while a sharded copy is updated.
    """

    def __init__(
        self,
        policy: Policy,
        config: LearnerConfig,
        temperature: float = 1.0,
        keeps_reference: bool = False,
        work: Alone | None = None,
        optimizes_on_host: bool = False,
        replicas: int = 1,
    ) -> None:
        if config.lr is None or config.betas is None or config.micro_tokens is None:
            raise PolicyError("some defaults depend on the policy: pass `config.resolved(policy_config)`")
        self.policy, self.config, self.lr = policy, config, config.lr
        self.lr_share = 1.0  # of the configured learning rate, by whoever lowers it
        self.work = work or Alone()
        self.is_deterministic = policy.nondeterministic_operation is None  # before its model is sharded
        recomputes = config.recomputes_layers(policy.num_parameters)
        if config.activation_checkpointing is None:
            recomputes = recomputes and why_layers_are_kept(policy.model) is None
        self.passes = ForwardPasses(policy, temperature, config.micro_tokens, recomputes)
        self.reference = Reference(policy, temperature, config.micro_tokens) if keeps_reference else None
        self.update_passes = self.passes  # what updates are made with
        self._rests = False  # whether the policy lies on the host while its shards are updated
        options = (config.betas, config.weight_decay, config.clip_norm)
        if isinstance(self.work, Ranks):
            from policies.sharding import ShardedOptimizer, shard

            is_short, sharded = torch.finfo(policy.dtype).bits < 32 and policy.adapter is None, policy
            if self.work.leads:  # through the host: the device need not hold a second one
                sharded = replace(policy, model=copy.deepcopy(policy.model.cpu()))
                policy.model.to(self.work.device)
                policy.free_memory = self._free_memory
            shard(sharded.model, self.work.device, replicas, has_masters=optimizes_on_host)
            self.update_passes = replace(self.passes, policy=sharded, work=self.work)
            self._rests = optimizes_on_host and self.work.leads
            about = (self.work, is_short, policy.model)
            self.optimizer: Optimizer = ShardedOptimizer(*about, sharded.model, *options, optimizes_on_host)
        else:
            self.optimizer = Optimizer(policy.model, *options, optimizes_on_host)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Those of the policy that learn, by name, whole and in its own type."""
        own = dict(self.policy.model.named_parameters())
        return {name: own[name] for name in self.optimizer.weights}

    def learn(
        self,
        trajectories: Sequence[Trajectory],
        objective: AnyObjective,
        timing: Callable[[str], AbstractContextManager[None]] = lambda part: nullcontext(),
        span: Span | None = None,
        refuses: Refuses = nothing,
    ) -> UpdateReport:
        """Do a step: estimate the advantages of what was played, then update the policy towards the objective.

        `timing` measures the two parts, "prepare" and "update"; `span` is what a learning rate falls over that is not
        constant; `refuses` is asked before each update is applied. Raises `NonFiniteLogits`: the policy has diverged,
        so that no later update could be finite either.
        """
        with timing("prepare"):
            batch = objective.prepare(trajectories, self.reference_lp)
            weigh_components(self.passes, objective, trajectories, batch)
            is_older = is_off_policy(trajectories, self.policy.version)
        with timing("update"):
            return self.update(batch, objective, is_off_policy=is_older, span=span, refuses=refuses)

    def update(
        self,
        batch: Batch,
        objective: AnyObjective,
        *,
        is_off_policy: bool = False,
        span: Span | None = None,
        refuses: Refuses = nothing,
    ) -> UpdateReport:
        """Do the optimiser updates of a step whose batch has its advantages; those not finite are skipped and counted.

        `is_off_policy`: older weights wrote the batch, so the sampler's log-probs do not stand for the current ones.
        """
        with self._resting(), self.work.together(), self.update_passes.prepared():
            if self.work.leads:
                self._send(batch, objective, is_off_policy, span)
            step = self._begin(batch, objective, is_off_policy, span)
            tally = step.tally
            for rows, share in zip(step.parts, step.falls, strict=True):
                self._update_once(step, rows, share, refuses)
            if tally.num_updates:
                self.policy.version += 1
                self._gather()
            tally.merge(self.work)
        num = len(tally.losses)
        return UpdateReport(
            sums=tally.sums | {name: (value, 1.0) for name, value in step.noted.log.items()},
            maxima=tally.maxima,
            loss=sum(tally.losses) / num,
            grad_norm=sum(tally.norms) / num,
            lr=self._rate(max(0, self.optimizer.num_updates - 1), step.falls[-1]) if tally.lr is None else tally.lr,
            num_updates=tally.num_updates,
            num_skipped=num - tally.num_updates,
            num_refused=tally.num_refused,
            seconds=dict(tally.seconds),
            num_rows=len(step.is_run_B),
            num_rows_run=int(step.is_run_B.sum()),
            num_tokens_fed=tally.num_tokens_fed,
            surprisal=step.noted.surprisal,
            covariance=covariances(step.batch),
        )

    @contextmanager
    def _resting(self) -> Iterator[None]:
        """Have the policy that plays and is measured on the host inside the block, where the optimiser is there too."""
        if not self._rests:
            yield
            return
        assert isinstance(self.work, Ranks)
        self.policy.model.to(CPU)
        try:
            yield
        finally:
            self.policy.model.to(self.work.device)

    def _free_memory(self) -> None:
        """As rank 0: give back what all ranks' GPUs keep for later tensors; it is free when this returns."""
        with self.work.together():
            self.work.send("free")
            self.follow_freeing()

    def follow_freeing(self) -> None:
        """Give back what this rank's GPU keeps for later tensors, and wait until all have."""
        free_cached_memory()
        self.work.total(torch.zeros(1))

    def _send(self, batch: Batch, objective: AnyObjective, is_off_policy: bool, span: Span | None) -> None:
        """Have the other ranks do the same update."""
        data = {
            "objective": objective.state(),
            "is_off_policy": is_off_policy,
            "span": None if span is None else vars(span),
            "lr_share": self.lr_share,
            "version": self.policy.version,
            "arms": batch.arms,
        }
        tensors = {one.name: getattr(batch, one.name) for one in fields(batch) if one.name != "arms"}
        self.work.send("update", data, **tensors)

    def follow(self, objective: AnyObjective, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Do the update that rank 0 tells of, as another rank."""
        objective.load_state(data["objective"])
        self.lr_share, self.policy.version = data["lr_share"], data["version"]
        batch = Batch(arms=tuple(data["arms"]), **tensors)
        span = None if data["span"] is None else Span(**data["span"])
        self.update(batch, objective, is_off_policy=data["is_off_policy"], span=span)

    def _gather(self) -> None:
        """Give rank 0's policy, which plays, is measured and saved, the weights that the ranks moved together."""
        if self.update_passes is self.passes:
            return
        own = dict(self.policy.model.named_parameters())
        with torch.no_grad():
            for name, weight in self.update_passes.policy.model.named_parameters():
                if weight.requires_grad:
                    moved = full_tensor(weight.detach())
                    if self.work.leads:
                        own[name].copy_(moved)

    def reference_lp(self, batch: Batch) -> Tensor:
        """Give the log-probs [B, T] of a batch under the reference policy, on the CPU."""
        if self.reference is None:
            raise PolicyError(
                "this objective compares with a frozen reference policy, and the learner keeps none: make it with "
                "`keeps_reference`"
            )
        return self.reference.lp(batch)

    def _begin(self, batch: Batch, objective: AnyObjective, is_off_policy: bool, span: Span | None) -> Step:
        """Look at a step's batch: which of its rows can move anything, and what has to be known about them."""
        batch, needs = to_device(batch, CPU), objective.needs
        if "lp_ref" in needs and batch.lp_ref_BT is None:
            raise PolicyError(
                "this objective compares with a frozen reference policy, and the batch brings no log-probs of one: "
                "prepare it with the learner's `reference_lp`"
            )
        num_updates = self.config.updates or objective.updates
        parts = rows_of_updates(objective, batch, self.config.updates)
        batch = replace(batch, advantage_BT=objective.advantages_of_updates(batch, parts))
        looks_back = len(parts) > 1 or "step" in needs or (is_off_policy and "mean_lp" in needs)
        step = Step(
            batch=batch,
            objective=objective,
            parts=parts,
            falls=[fall(self.config, span, number, num_updates) for number in range(len(parts))],
            reduction=reduction_of(objective, self.passes.temperature, asks_start=not looks_back),
            batcher=self.update_passes.batcher(batch),
            is_run_B=objective.is_run(batch),
            tally=StepTally(),
            mean_lp=means_of(objective, batch, batch.lp_roll_BT),  # on-policy the sampler's are the current ones
        )
        return self._look_back(step) if looks_back else step

    def _look_back(self, step: Step) -> Step:
        """Score rows with the weights at the start of the step, without gradient: all, if all of them are looked at."""
        has_tokens_B, needs = step.batch.mask_BT.any(-1), step.objective.needs
        is_scored_B = has_tokens_B if needs & {"mean_lp", "step", "drift"} else step.is_run_B
        reduction = reduction_of(step.objective, self.passes.temperature, asks_now=False)
        with step.tally.timing("old"):
            old = self.update_passes.score(step.batch, step.cut(is_scored_B.nonzero()[:, 0]), reduction)
        is_known = torch.equal(is_scored_B, has_tokens_B)
        mean_lp = means_of(step.objective, step.batch, old.lp_BT) if is_known else {}
        if "step" not in needs:
            return replace(step, old=old, mean_lp=mean_lp)
        with step.tally.timing("old"):
            totals = totals_by_objective(step.objective, step.batch, mean_lp, {}, {})
            noted = step.objective.survey(seen_by(step.batch, old, old, {}), totals)
        return replace(step, old=old, mean_lp=mean_lp, noted=noted)

    def _update_once(self, step: Step, rows: Tensor, share: float, refuses: Refuses) -> None:
        """Do one optimiser update over some rows of the step, with this share of the learning rate."""
        tally, optimizer = step.tally, self.optimizer
        drift, noted = self._drift(step, rows), step.noted.numbers
        totals = totals_by_objective(step.objective, step.batch.take(rows), step.mean_lp, noted, drift)
        is_run = step.is_run_B[rows]
        losses = [self._backward(step, share, totals) for share in self.work.deal(step.cut(rows[is_run]))]
        if self.work.rank == 0:
            tally.add(step.objective.silent_sums(step.batch, rows[~is_run], totals), {})
        with tally.timing("backward"):
            own = sum(torch.stack(losses).tolist()) if losses else 0.0
            loss = float(self.work.total(torch.tensor(own, dtype=torch.float64)))
        tally.losses.append(loss)
        with tally.timing("optimizer"):
            if isfinite(loss):
                lr = self._rate(optimizer.num_updates, share)
                norm, was_applied = optimizer.step(
                    lr, lambda norm: self.work.agree(refuses("loss", loss) or refuses("grad_norm", norm))
                )
                tally.num_updates += was_applied
                tally.num_refused += isfinite(norm) and not was_applied
                tally.lr = lr if was_applied else tally.lr
            else:
                optimizer.clear_gradients()
                norm = nan
        tally.norms.append(norm)
        if not isfinite(loss):  # has the policy diverged, or did the loss overflow? an earlier update may have moved it
            version = self.policy.version + (tally.num_updates > 0)
            self.update_passes.finite_lp(step.batch, rows[is_run], version, "of the update")

    def _drift(self, step: Step, rows: Tensor) -> Means:
        """How far earlier updates of the step went on these rows: the mean of lp_old - lp over their tokens."""
        if "drift" not in step.objective.needs:
            return {}
        batch = step.batch.take(rows)
        gone_BT = torch.zeros_like(batch.lp_roll_BT)
        if step.old is not None and step.tally.num_updates:
            with step.tally.timing("old"):
                now = self.update_passes.score(step.batch, step.cut(rows[batch.mask_BT.any(-1)]))
            gone_BT = (step.old.lp_BT - now.lp_BT)[rows, : gone_BT.shape[1]]
        found = means_of(step.objective, batch, gone_BT)
        return {name: mean if isfinite(mean) else 0.0 for name, mean in found.items()}  # 0 where there is no token

    def _backward(self, step: Step, share: Share[MicroBatch], totals: Totals) -> Tensor:
        """Gather the gradient of one micro-batch; give its share of the loss."""
        micro = share.micro
        device = self.update_passes.policy.device
        rows = to_device(step.batch.take(micro.rows), device)
        with step.tally.timing("forward"), deterministic_kernels(device, strict=False):
            with deterministic_kernels(device, strict=self.is_deterministic):
                scored = score_micro(self.update_passes.policy.model, rows, micro, step.reduction)
            now, width = scored.map(Tensor.detach), rows.ids_BT.shape[1]
            noted = {key: value[micro.rows, :width] for key, value in step.noted.tokens.items()}
            seen = seen_by(rows, now, step.at_start(micro.rows, now), noted)
            coefficients = step.objective.coefficients(seen, totals)
        if coefficients.k_BT is not None and step.reduction.entropy != "grad":
            raise PolicyError("this objective fills K, and does not say that it needs `entropy_grad`")
        if share.counts:
            step.tally.add(coefficients.sums, coefficients.maxima)
        with step.tally.timing("backward"), deterministic_kernels(device, strict=self.is_deterministic):
            loss = -(coefficients.w_BT * scored.lp_BT).sum()
            if coefficients.k_BT is not None and scored.entropy_BT is not None:
                loss = loss - (coefficients.k_BT * scored.entropy_BT).sum()
            if not share.counts:
                loss = 0 * loss
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.gather_gradients()
            return loss.detach()

    def _rate(self, num_updates: int, share: float) -> float:
        """Learning rate of the update after `num_updates` others, of which the schedule leaves a share."""
        return self.lr * self.lr_share * rise(self.config, num_updates) * share
