"""The objective: a composition of parts that fills W and K of the one loss, -(W * lp).sum() - (K * H).sum().

For a micro-batch, without gradient (objectives.md 2.2; A advantages, D the aggregation's weights):

    a <- A;  for every shaper: a <- shaper(a)
    W <- a * c(ratio, a) * D
    for every term: W <- W + term.w * D;  K <- K + term.k * D of the token mean

Everything is a sum over the whole update, so the result does not depend on padding, on the order of rows or on
how the batch was cut. What stands off the mask, NaN included, never reaches W or K.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from policies.objectives import methods
from policies.objectives.aggregations import AGGREGATIONS, token_mean
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Batch, Coefficients, Need, Rows, Totals
from policies.objectives.errors import ObjectiveError, expect_keys
from policies.objectives.padding import pad
from policies.objectives.parts import (
    MAX_LOG_RATIO,
    Added,
    Estimator,
    Outcomes,
    Part,
    Ratio,
    RatioRule,
    Shaped,
    Shaper,
    Term,
)
from policies.objectives.presets import PRESETS
from policies.trajectories import Trajectory


@dataclass(frozen=True)
class Composition:
    """The parts of an objective that are on, in the order in which they act."""

    estimator: Estimator
    shapers: tuple[Shaper, ...]
    ratio: RatioRule
    terms: tuple[Term, ...]

    @property
    def needs(self) -> frozenset[Need]:
        """The union of what the parts need."""
        return frozenset().union(*(part.needs for part in self._acting))

    @property
    def leaves_silent_rows_alone(self) -> bool:
        """Whether rows whose advantage is 0 get no coefficient, whatever their log-probs are."""
        return all(part.zero_stays_zero for part in self._acting)

    @property
    def _acting(self) -> tuple[Part[Any], ...]:
        """Those that fill W and K."""
        return (*self.shapers, self.ratio, *self.terms)


class Objective:
    """What the policy is updated towards. One object a run; between steps only its controller changes.

    In a step: `prepare` once, `coefficients` once a micro-batch, `observe` once at the end, after the last update.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        self.config = config
        self._controller = config.create_controller()
        self._aggregate = AGGREGATIONS[config.aggregation]
        self._parts = self._compose()
        self.needs = self._parts.needs

    @classmethod
    def from_config(cls, config: ObjectiveConfig) -> Objective:
        """Make the objective that a spec's section describes."""
        return cls(config)

    @property
    def updates(self) -> int:
        """Optimiser updates a step that this objective is made for."""
        return self.config.updates

    @property
    def leaves_silent_rows_alone(self) -> bool:
        """Whether rows whose advantage is 0 get no coefficient, so that nobody needs to run them."""
        return self._parts.leaves_silent_rows_alone

    def silent_sums(self, num_tokens: int, totals: Totals) -> dict[str, tuple[float, float]]:
        """What silent rows that were not run add to the metrics: they have no loss and are never clipped.

        Metrics that ask for their log-probs are means over the tokens that were run.
        """
        known = dict.fromkeys(("clip_frac", "advantage_abs"), (0.0, float(num_tokens)))
        return {"loss": (0.0, num_tokens / max(totals.num_tokens, 1)), **known}

    def prepare(self, trajectories: Sequence[Trajectory]) -> Batch:
        """Pad a step's trajectories and estimate one advantage for each, within its group.

        Groups may have lost members; a group of one gets 0 (`Batch.num_lone_groups` counts them).
        """
        batch = pad(trajectories)
        outcomes = Outcomes(batch.reward_B.double(), batch.group_B, batch.mask_BT.sum(-1))
        return replace(batch, advantage_B=self._parts.estimator.apply(outcomes).to(batch.reward_B.dtype))

    @torch.no_grad()
    def coefficients(self, rows: Rows, totals: Totals) -> Coefficients:
        """Fill W and K for a micro-batch, whole sequences of an update that has these totals.

        The metrics are means over the policy's tokens: `loss` (the conventional value, aggregated as the loss is),
        those of `_measure`, and what the shapers report.
        """
        rows = _masked(rows)
        mask_BT = rows.mask_BT.to(rows.advantage_BT.dtype)
        policy_BT = self._aggregate(mask_BT, totals, self.config.max_length)
        token_BT = token_mean(mask_BT, totals, None)
        shaped = self._shape(rows, totals)
        ratio = self._parts.ratio.apply(shaped.advantage_BT, rows)
        added = [term.apply(rows, totals) for term in self._parts.terms]

        means, maxima = _measure(rows, ratio)
        loss_BT = ratio.value_BT * policy_BT + _value(added, policy_BT, token_BT)
        share = float(mask_BT.sum()) / max(totals.num_tokens, 1)
        return Coefficients(
            w_BT=shaped.advantage_BT * ratio.c_BT * policy_BT + _extra_w(added, policy_BT),
            k_BT=_extra_k(added, token_BT),
            sums={"loss": (float(loss_BT.sum()), share), **_sums({**means, **shaped.means}, mask_BT)},
            maxima=_maxima({**maxima, **shaped.maxima}, mask_BT),
        )

    def observe(self, reading: float | None) -> dict[str, float]:
        """Move the controller's coefficient for the next step, and return what to log about this one.

        The reading is a fraction of the entropy at the start (`reading.py`); None and NaN leave it where it is.
        Logged: the coefficient that acted in this step, whether it stood at its bound, target and reading.
        """
        if self._controller is None:
            return {}
        log = {
            "coefficient": self._controller.value,
            "coefficient_at_bound": float(self._controller.is_at_bound),
            "entropy_target": self._controller.target,
        }
        if reading is not None and math.isfinite(reading):
            log["entropy_reading"] = reading
        self._controller.update(reading)
        self._parts = self._compose()
        return log

    def state(self) -> dict[str, Any]:
        """What the next step depends on beside the configuration, as JSON."""
        return {"controller": self._controller.state() if self._controller else None}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; `ObjectiveError` when it is not this objective's."""
        expect_keys(state, {"controller"}, "the objective")
        saved = state["controller"]
        if (saved is None) != (self._controller is None):
            raise ObjectiveError(
                f"the saved objective had {'no' if saved is None else 'a'} controller and this one has "
                f"{'none' if self._controller is None else 'one'}: resume with the spec of the run"
            )
        if self._controller is not None:
            self._controller.load_state(saved)
            self._parts = self._compose()

    def describe(self) -> dict[str, Any]:
        """The resolved composition as plain data, for the ledger and the report."""
        preset = PRESETS[self.config.preset]
        parts = [(kind, name, methods.load(kind, name)) for kind, name in self.config.parts()]
        return {
            "preset": self.config.preset,
            "about": preset.about,
            "source": preset.source,
            "verified": preset.verified,
            "parts": [
                {"kind": k, "name": n, "source": m.SOURCE, "options": self.config.options_of(m).model_dump()}
                for k, n, m in parts
            ],
            "aggregation": self.config.aggregation,
            "max_length": self.config.max_length,
            "updates": self.config.updates,
            "reward": self.config.reward,
            "reading": self.config.reading,
            "controller": self._describe_controller(),
            "needs": sorted(self.needs),
            "warnings": self.config.warnings(),
        }

    def _describe_controller(self) -> dict[str, Any] | str:
        controller = self.config.controller
        if controller is None:
            return "none"
        source = controller.method.SOURCE
        return {"type": controller.type, "source": source, "knob": self.config.knob} | controller.options

    def _compose(self) -> Composition:
        """Make the parts, with the controller's coefficient where it stands now."""
        knob = {self.config.knob: self._controller.value} if self._controller else {}
        made: dict[str, list[Any]] = {kind: [] for kind in methods.KINDS}
        for kind, name in self.config.parts():
            method = methods.load(kind, name)
            moved = {k: v for k, v in knob.items() if k in method.Config.model_fields}
            part = method.create(self.config.options_of(method).model_copy(update=moved))
            made[kind] += [part] if part is not None else []
        return Composition(
            estimator=made["estimators"][0],
            shapers=tuple(made["shapers"]),
            ratio=made["ratio_rules"][0],
            terms=tuple(made["terms"]),
        )

    def _shape(self, rows: Rows, totals: Totals) -> Shaped:
        shaped = Shaped(rows.advantage_BT)
        for shaper in self._parts.shapers:
            after = shaper.apply(shaped.advantage_BT, rows, totals)
            means, maxima = {**shaped.means, **after.means}, {**shaped.maxima, **after.maxima}
            shaped = Shaped(after.advantage_BT, means, maxima)
        return shaped


def _masked(rows: Rows) -> Rows:
    """The same rows with 0 off the mask, whatever stood there."""
    names = [f.name for f in fields(rows) if f.name.endswith("_BT") and getattr(rows, f.name) is not None]
    return replace(rows, **{name: getattr(rows, name).masked_fill(~rows.mask_BT, 0) for name in names})


def _measure(rows: Rows, ratio: Ratio) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What every objective logs: values of each token to be averaged, and those whose largest is kept.

    `advantage_abs` is the estimator's, before any shaper. `sampler_gap_*` is |lp_old - lp_roll|, and `sampler_kl`
    its estimate of KL(sampler | trainer), exp(d) - d - 1, which is never negative.
    """
    gap_BT = (rows.lp_old_BT - rows.lp_roll_BT).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    means = {
        "clip_frac": ratio.clipped_BT.to(gap_BT.dtype),
        "advantage_abs": rows.advantage_BT.abs(),
        "sampler_gap_mean": gap_BT.abs(),
        "sampler_kl": gap_BT.expm1() - gap_BT,
    }
    return means, {"sampler_gap_max": gap_BT.abs()}


def _value(added: Sequence[Added], policy_BT: Tensor, token_BT: Tensor) -> Tensor:
    zero_BT = torch.zeros_like(policy_BT)
    return sum((a.value_BT * (policy_BT if a.k_BT is None else token_BT) for a in added), zero_BT)


def _extra_w(added: Sequence[Added], policy_BT: Tensor) -> Tensor:
    return sum((a.w_BT * policy_BT for a in added if a.w_BT is not None), torch.zeros_like(policy_BT))


def _extra_k(added: Sequence[Added], token_BT: Tensor) -> Tensor | None:
    extra = [a.k_BT * token_BT for a in added if a.k_BT is not None]
    return sum(extra[1:], extra[0]) if extra else None


def _sums(values: Mapping[str, Tensor], mask_BT: Tensor) -> dict[str, tuple[float, float]]:
    """Sum and count over the policy's tokens; one transfer from the device for all of them."""
    *sums, count = torch.stack([*((v * mask_BT).sum() for v in values.values()), mask_BT.sum()]).tolist()
    return {name: (total, count) for name, total in zip(values, sums, strict=True)}


def _maxima(values: Mapping[str, Tensor], mask_BT: Tensor) -> dict[str, float]:
    """The largest over the policy's tokens, 0 when there are none."""
    largest = torch.stack([(v * mask_BT).amax() for v in values.values()]).tolist()
    return dict(zip(values, largest, strict=True))
