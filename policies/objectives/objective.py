"""The objective: a composition of parts that fills W and K of the one loss, -(W * lp).sum() - (K * H).sum().

Once a step:

    r <- reward maps (r);  A <- estimator (r), spread over tokens
    every part that asks for it surveys the whole step, at the log-probs and entropies of its start

For a micro-batch, without gradient (D the aggregation's weights):

    a <- A;  for every shaper, then every mismatch weight: a <- shaper(a)
    W <- a * c(ratio, a) * D
    for every term: W <- W + term.w * D;  K <- K + term.k * D of the token mean

Everything is a sum over the whole update, so the result does not depend on padding, on the order of rows or on
how the batch was cut. What stands off the mask, NaN included, never reaches W or K.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from environments.user_code import is_user_code, short_name
from policies.objectives import diagnostics, registry
from policies.objectives.aggregations import token_mean
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import (
    Batch,
    Coefficients,
    Need,
    ShapedRows,
    SurveyResult,
    Totals,
    Trajectory,
)
from policies.objectives.entropy_reading import ENTROPY, ENTROPY_NATS, EntropyReading, logged
from policies.objectives.errors import ObjectiveError, expect_keys
from policies.objectives.padding import outcomes_of, pad
from policies.objectives.parts import (
    Aggregation,
    Estimator,
    Part,
    PartState,
    Products,
    RatioRule,
    RewardMap,
    Shaper,
    Term,
)
from policies.objectives.presets import PRESETS
from policies.objectives.statistics import environments, surprisal_by_arm

LOSS_VALUE = "loss_value"  # the conventional one, as other libraries tell it
TINY = 1e-300  # what a factor of 0 is divided by: its advantages are 0
CONTROLLERS = "the objective's controllers"  # as what begins anew
DESCRIBED = ("aggregation", "max_length", "updates", "reward", "reading", "entropy")


@dataclass(frozen=True)
class Composition:
    """The parts of an objective that are on, by name, in the order in which they act."""

    plans: Mapping[str, Any]
    reward_maps: Mapping[str, RewardMap]
    estimator: tuple[str, Estimator]
    shapers: Mapping[str, Shaper]  # and the mismatch weights behind them
    ratio: tuple[str, RatioRule]
    terms: Mapping[str, Term]

    @property
    def acting(self) -> dict[str, Part[Any]]:
        """Those that fill W and K; a ratio rule may have a shaper's name (HAPO)."""
        return {**self.shapers, f"ratio {self.ratio[0]}": self.ratio[1], **self.terms}

    @property
    def needs(self) -> frozenset[Need]:
        """The union of what the parts need."""
        parts = [self.estimator[1], *self.reward_maps.values(), *self.acting.values()]
        needs: frozenset[Need] = frozenset().union(*(part.needs for part in parts))
        return needs | {"step"} if any(part.survey for part in self.acting.values()) else needs

    @property
    def leaves_silent_rows_alone(self) -> bool:
        """Whether rows whose advantage is 0 get no coefficient, whatever their log-probs are."""
        return all(part.zero_stays_zero for part in self.acting.values())


class Objective:
    """What the policy is updated towards. One object a run; between steps its controllers and its parts' state change.

    In a step: `prepare` once, `survey` once if it needs `step`, `coefficients` once a micro-batch, `observe` once at
    the end, after the last update. All its chance comes from the seed.
    """

    def __init__(self, config: ObjectiveConfig, seed: int | Sequence[int] = 0, temperature: float = 1.0) -> None:
        self.config, self.updates = config, config.updates  # a step, that this objective is made for
        self._rng = np.random.default_rng(seed)
        self._kept: dict[str, dict[str, Any]] = {}  # what parts remember, by name
        self._logged: dict[str, float] = {}  # what estimator and reward maps said of this step
        self._memory_of = _memory_of(config, temperature)
        self._controllers = config.create_controllers()
        aggregation = registry.load("aggregations", config.aggregation)
        self._aggregate: Aggregation = aggregation.create(config.options_of(aggregation))
        self._parts = self._compose()

    @property
    def needs(self) -> frozenset[Need]:
        """What the learner has to compute in this step."""
        own: frozenset[Need] = frozenset({"step"} if self.config.entropy == "surprisal_iw" else ())
        return self._parts.needs | own

    @property
    def may_need_reference(self) -> bool:
        """Whether it compares with a frozen policy, or may later: a KL that a controller moves asks for it at 0 too."""
        return "lp_ref" in self.needs

    @property
    def leaves_silent_rows_alone(self) -> bool:
        """Whether rows whose advantage is 0 get no coefficient, so that nobody needs to run them."""
        return self._parts.leaves_silent_rows_alone

    def of(self, environment: str) -> Objective:
        """The objective of an environment's rows: this one (`by_environment.py` has several)."""
        return self

    def split(self, batch: Batch) -> Mapping[str, Tensor]:
        """Which rows, bool [B], are of an environment with an objective of its own: none."""
        return {}

    def by_objective(
        self, trajectories: Sequence[Trajectory], batch: Batch
    ) -> Iterator[tuple[Objective, Sequence[Trajectory], Batch]]:
        """Give each objective with its rows of a step: all of them."""
        yield self, trajectories, batch

    def is_run(self, batch: Batch) -> Tensor:
        """Which rows have to go through the model, bool [B]: those that could get a coefficient."""
        has_tokens_B = batch.mask_BT.any(-1)
        return has_tokens_B & batch.has_advantage if self.leaves_silent_rows_alone else has_tokens_B

    @property
    def learns_from_even_groups(self) -> bool:
        """Whether a group whose samples all earned the same may have advantages: its estimator looks beyond groups."""
        info = registry.load("estimators", self.config.estimator).info
        return info.learns_from_even_groups or not info.compares_groups

    @property
    def nucleus(self) -> float | None:
        """The mass of the tokens whose entropy is read; None: of the full distribution."""
        return next((part.nucleus for part in self._parts.acting.values() if part.nucleus is not None), None)

    @property
    def kappa(self) -> float | None:
        """How likely a token must be to pass the filter of `old_filter`, as a share of the likeliest."""
        return next((part.kappa for part in self._parts.acting.values() if part.kappa is not None), None)

    @property
    def plans(self) -> Mapping[str, Mapping[str, Any]]:
        """The data plans by name, as their `create` made them, with the controllers' values of this step.

        By environment, where each has an objective of its own; here of all, under "".
        """
        return {"": self._parts.plans}

    def silent_sums(self, batch: Batch, rows: Tensor, totals: Totals) -> dict[str, tuple[float, float]]:
        """What rows add to the metrics that were not run, as their advantage is 0: no loss, and nothing clipped.

        Metrics that ask for their log-probs are means over the tokens that were run.
        """
        own = batch.map(lambda value: value[rows])
        return {LOSS_VALUE: (0.0, int(own.mask_BT.sum()) / max(totals.num_tokens, 1)), **diagnostics.silent(own)}

    def prepare(self, trajectories: Sequence[Trajectory], reference: Callable[[Batch], Tensor] | None = None) -> Batch:
        """Pad a step's trajectories and estimate an advantage for each, within its group.

        Groups may have lost members; a group of one gets 0. A trajectory that brings its own advantage is no member of
        a group. `reference` gives the reference's log-probs [B, T] of a batch; it is asked if a part needs them.
        """
        batch = pad(trajectories)
        if "lp_ref" in self.needs and reference is not None:
            batch = replace(batch, lp_ref_BT=reference(batch))
        return replace(batch, advantage_BT=self.advantages(batch, trajectories).to(batch.lp_roll_BT))

    def advantages(self, batch: Batch, trajectories: Sequence[Trajectory]) -> Tensor:
        """Estimate the advantages [B, T], float64, 0 off the mask."""
        self._logged = {}
        given_B = torch.tensor([t.advantage is not None for t in trajectories])
        advantage_BT = torch.zeros(batch.mask_BT.shape, dtype=torch.float64)
        main = [t for t in trajectories if t.advantage is None]
        if main:
            outcomes = outcomes_of(batch.map(lambda value: value[~given_B]), main)
            for name, reward_map in self._parts.reward_maps.items():
                outcomes = replace(outcomes, reward_B=reward_map.apply(outcomes, self._memory(name)))
            name, estimator = self._parts.estimator
            found = estimator.apply(outcomes, self._memory(name))
            advantage_BT[~given_B] = found if found.ndim == 2 else found[:, None] * outcomes.mask_BT
        for row in given_B.nonzero()[:, 0].tolist():
            advantage_BT[row] = trajectories[row].advantage or 0.0
        return advantage_BT * batch.mask_BT

    def advantages_of_updates(self, batch: Batch, parts: Sequence[Tensor]) -> Tensor:
        """The advantages [B, T] for a step that is cut into updates of these rows.

        They are the batch's, but for those of an estimator with a factor: it is of the update then, not of the step.
        """
        factor = self._parts.estimator[1].factor
        if factor is None or len(parts) < 2:
            return batch.advantage_BT
        num_tokens_B, advantage_BT = batch.mask_BT.sum(-1), batch.advantage_BT.clone()
        is_main_B = torch.ones_like(batch.mask_BT[:, 0]) if batch.is_given_B is None else ~batch.is_given_B
        whole_B = torch.cat(list(parts))
        whole_B = whole_B[is_main_B[whole_B]]
        if not len(whole_B):
            return batch.advantage_BT
        of_step = max(factor(batch.group_B[whole_B], num_tokens_B[whole_B]), TINY)
        for part in parts:
            rows_B = part[is_main_B[part]]
            if len(rows_B):
                advantage_BT[rows_B] *= factor(batch.group_B[rows_B], num_tokens_B[rows_B]) / of_step
        return advantage_BT

    def components(self, trajectories: Sequence[Trajectory], batch: Batch) -> dict[str, Tensor]:
        """The advantages [B, T] of each component of the score, if the estimator weighs them by gradients (`hear`).

        None where all trajectories bring their own; such rows have 0, and are no members of a group.
        """
        split = self._parts.estimator[1].components
        is_main_B = torch.tensor([t.advantage is None for t in trajectories])
        if split is None or not is_main_B.any():
            return {}
        main = [t for t in trajectories if t.advantage is None]
        found = split(outcomes_of(batch.map(lambda value: value[is_main_B]), main))
        zero_B = torch.zeros(len(trajectories), dtype=torch.float64)
        whole = {name: zero_B.masked_scatter(is_main_B, one_B) for name, one_B in found.items()}
        return {name: one_B[:, None] * batch.mask_BT for name, one_B in whole.items()}

    def hear(self, products: Products) -> None:
        """Tell the estimator, once a step, the inner products of its components' gradients, by the names of both."""
        name, estimator = self._parts.estimator
        if estimator.hear is not None:
            estimator.hear(products, self._memory(name))

    @torch.no_grad()
    def survey(self, rows: ShapedRows, totals: Totals) -> SurveyResult:
        """Let the parts that ask for it look at the whole step, at its start; once a step, before its updates."""
        rows = _masked(rows)
        found = [
            part.survey(rows, totals, self._memory(name))
            for name, part in self._parts.acting.items()
            if part.survey is not None
        ]
        return SurveyResult(
            tokens={key: value for one in found for key, value in one.tokens.items()},
            numbers={key: value for one in found for key, value in one.numbers.items()},
            log={key: value for one in found for key, value in one.log.items()},
            surprisal=surprisal_by_arm(rows, totals) if self.config.entropy == "surprisal_iw" else {},
        )

    @torch.no_grad()
    def coefficients(self, rows: ShapedRows, totals: Totals, whole: Totals | None = None) -> Coefficients:
        """Fill W and K for a micro-batch, whole sequences of an update that has these totals.

        `whole`: of the update that these rows are a share of, where others have another objective; their loss then
        weighs as much in that of the update as their share of its tokens, sequences or groups, by the aggregation.
        The metrics are means over the policy's tokens: those of `diagnostics`, and what the parts report; and
        `loss_value`, the conventional value, aggregated over these rows as the loss is.
        """
        rows = replace(_masked(rows), strengths=self._strengths(rows, totals))
        mask_BT = rows.mask_BT.to(rows.advantage_BT.dtype)
        own_BT = self._aggregate(mask_BT, rows, totals, self.config.max_length)
        own_token_BT = token_mean(mask_BT, rows, totals, None)
        policy_BT, token_BT = own_BT, own_token_BT
        if whole is not None:
            policy_BT = self._aggregate(mask_BT, rows, whole, self.config.max_length)
            token_BT = token_mean(mask_BT, rows, whole, None)
        shaped, means, maxima = [rows.advantage_BT], dict[str, Tensor](), dict[str, Tensor]()
        # the advantages before and after every shaper, and what they report
        for shaper in self._parts.shapers.values():
            after = shaper.apply(shaped[-1], rows, totals)
            shaped.append(after.advantage_BT)
            means |= after.means
            maxima |= after.maxima
        ratio = self._parts.ratio[1].apply(shaped[-1], rows)
        added = {name: term.apply(rows, totals) for name, term in self._parts.terms.items()}
        names = ("estimator", *self._parts.shapers)
        forces = diagnostics.forces(dict(zip(names, shaped, strict=True)), ratio, added, policy_BT)
        for one in added.values():
            means |= one.means
        measured, largest = diagnostics.of_tokens(rows, shaped[-1], ratio)
        values = [one.value_BT * (own_BT if one.k_BT is None else own_token_BT) for one in added.values()]
        value_BT = ratio.value_BT * own_BT + sum(values, torch.zeros_like(own_BT))
        extra_w = [one.w_BT * policy_BT for one in added.values() if one.w_BT is not None]
        extra_k = [one.k_BT * token_BT for one in added.values() if one.k_BT is not None]
        share = float(mask_BT.sum()) / max(totals.num_tokens, 1)
        return Coefficients(
            w_BT=shaped[-1] * ratio.c_BT * policy_BT + sum(extra_w, torch.zeros_like(policy_BT)),
            k_BT=sum(extra_k[1:], extra_k[0]) if extra_k else None,
            sums={
                LOSS_VALUE: (float(value_BT.sum()), share),
                **diagnostics.sums({**measured, **means}, rows),
                **diagnostics.shares(forces),
            },
            maxima=diagnostics.maxima({**largest, **maxima}, mask_BT),
        )

    def observe(
        self, reading: EntropyReading | float | None, measured: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Move the controllers' coefficients for the next step, and return what to log about this one.

        That is what acted in it, whether it stood at a bound, targets and the reading; of a second controller with
        `_2`; of one environment, where each has its own, behind a slash. A plain number for the reading is a fraction
        of the entropy at the start (`entropy_reading.py`); None and NaN leave coefficients where they are. `measured`:
        the step's other metrics, for controllers that read one of them.
        """
        # a name of the user's, as of a component of the score, is no environment's where a slash is in it
        said = {key.replace("/", "."): value for key, value in self._logged.items()}
        if not self._controllers:
            return said
        read = logged(reading)
        log = {**said, **read}
        for number, controller in enumerate(self._controllers, start=1):
            suffix = "" if number == 1 else f"_{number}"
            log[f"coefficient{suffix}"] = controller.level
            log[f"coefficient_at_bound{suffix}"] = float(controller.is_at_bound)
            if controller.target is not None:
                kind = "entropy" if controller.reads in (ENTROPY, ENTROPY_NATS) else "control"
                log[f"{kind}_target{suffix}"] = controller.target
            own = reading.environments.get(controller.reads or "", {}) if isinstance(reading, EntropyReading) else {}
            strengths = controller.strengths
            for name in sorted(own.keys() & strengths.keys()):
                log[f"coefficient{suffix}/{name}"] = strengths[name]
            metrics = {**(measured or {}), **read}
            if math.isfinite(other := metrics.get(controller.also_reads or "", math.nan)):
                controller.hear(other)
            controller.update(metrics.get(controller.reads or ""), own)
        self._parts = self._compose()
        return log

    @property
    def controlled(self) -> dict[str, float]:
        """The coefficients that controllers move, as they act now, by the option that they are."""
        pairs = zip(self.config.knobs, self._controllers, strict=True)
        return {str(knob): controller.value for knob, controller in pairs}

    def reset_controllers(self) -> None:
        """Let the controllers begin anew; what parts remember stays."""
        self._controllers = self.config.create_controllers()
        self._parts = self._compose()

    def rescale_controllers(self) -> None:
        """Tell the controllers that readings are on another scale from now on; their coefficients stay."""
        for controller in self._controllers:
            controller.rescale()

    def state(self) -> dict[str, Any]:
        """What the next step depends on beside the configuration, as JSON."""
        return {
            "controllers": [controller.state() for controller in self._controllers],
            "movements": self._movements(),
            "memory": self._kept,
            "memory_of": self._memory_of,
            "rng": self._rng.bit_generator.state,
        }

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Go on from a saved state; names what begins anew, as it was of another objective.

        All of it after objectives by environment. `ObjectiveError` when it is no state of an objective.
        """
        if "by" in state:
            return forgotten(state["by"].values(), [self])
        if "controller" in state:  # as it was written while there was one, and no memory
            one = state["controller"]
            state = self.state() | {"controllers": [] if one is None else [one]}
        movements = self._movements()
        # earlier versions told the types of controllers alone, beside all this
        state = {"movements": movements, "memory_of": self._memory_of, **state}
        expect_keys(state, {"controllers", "movements", "memory", "memory_of", "rng"}, "the objective")
        fits = {name: _agree(state["memory_of"].get(name), own) for name, own in self._memory_of.items()}
        self._kept = {name: dict(kept) for name, kept in state["memory"].items() if fits.get(name, True)}
        anew = [
            f"what `{name}` remembers" for name, does_fit in fits.items() if not does_fit and state["memory"].get(name)
        ]
        self._rng.bit_generator.state = state["rng"]
        saved = state["controllers"]
        if state["movements"] != movements or len(saved) != len(movements):
            self.reset_controllers()
            return [CONTROLLERS, *anew]
        for controller, own in zip(self._controllers, saved, strict=True):
            controller.load_state(own)
        self._parts = self._compose()
        return anew

    def describe(self) -> dict[str, Any]:
        """The resolved composition as plain data, for the ledger and the report."""
        preset = PRESETS[self.config.preset]
        parts = self.config.modules()
        missing = registry.joined([preset.missing, *(part.info.missing for part in parts)])
        return {
            "preset": self.config.preset,
            "about": preset.about,
            "source": preset.source,
            "verified": not missing,
            "missing": missing,
            "differs": registry.joined([preset.differs, *(part.info.differs for part in parts)]),
            "parts": [
                {
                    "kind": part.kind,
                    "name": part.name,
                    "source": part.source,
                    "options": self.config.options_of(part).model_dump(),
                }
                for part in parts
            ],
            **{field: getattr(self.config, field) for field in DESCRIBED},
            "controllers": [
                {"type": one.type, "source": one.method.source, "knob": knob} | one.options
                for one, knob in zip(self.config.controllers, self.config.knobs, strict=True)
            ],
            "needs": sorted(self.needs),
            "warnings": self.config.warnings(),
        }

    def _movements(self) -> list[dict[str, str | None]]:
        """What each controller is, what it moves and what it reads: of another one its numbers would mean nothing."""
        part_of = {
            option: f"{module.kind}/{_lasting_name(module.name)}"
            for module in self.config.modules()
            for option in module.Config.model_fields
        }
        return [
            {"type": _lasting_name(one.type), "knob": knob, "part": part_of.get(knob or ""), "reads": controller.reads}
            for one, knob, controller in zip(self.config.controllers, self.config.knobs, self._controllers, strict=True)
        ]

    def _strengths(self, rows: ShapedRows, totals: Totals) -> dict[str, Tensor]:
        """The coefficient of each row's environment, [B, 1], by the option that a controller moves for each."""
        found = {}
        for knob, controller in zip(self.config.knobs, self._controllers, strict=True):
            if strengths := controller.strengths:
                strength_B1 = rows.lp_BT.new_full((len(rows.mask_BT), 1), controller.value)
                for name, is_own_B in environments(rows, totals).items():
                    strength_B1[is_own_B] = strengths.get(name, controller.value)
                found[str(knob)] = strength_B1
        return found

    def _memory(self, name: str) -> PartState:
        return PartState(self._kept.setdefault(_lasting_name(name), {}), self._rng, self._logged)

    def _compose(self) -> Composition:
        """Make the parts, with the controllers' coefficients where they stand now."""
        now = self.controlled
        made: dict[str, dict[str, Any]] = {kind: {} for kind in registry.KINDS}
        for module in self.config.modules():
            moved = {k: v for k, v in now.items() if k in module.Config.model_fields}
            part = module.create(self.config.options_of(module).model_copy(update=moved))
            if part is not None:
                made[module.kind][module.name] = part
        return Composition(
            plans=made["plans"],
            reward_maps=made["reward_maps"],
            estimator=next(iter(made["estimators"].items())),
            shapers=made["shapers"] | made["mismatch_weights"],
            ratio=next(iter(made["ratio_rules"].items())),
            terms=made["terms"],
        )


def forgotten(states: Iterable[Mapping[str, Any]], now: Iterable[Objective]) -> list[str]:
    """Name what begins anew where environments share objectives in another way: controllers, memory of their parts."""
    has_controllers, memory, parts = False, dict[str, Any](), set[str]()
    for state in states:  # earlier versions had one controller, and no memory
        has_controllers |= bool(state.get("controllers") or state.get("controller"))
        memory |= {name: kept for name, kept in state.get("memory", {}).items() if kept}
    for one in now:
        has_controllers |= bool(one.config.controllers)
        parts |= {_lasting_name(module.name) for module in one.config.modules()}
    remembered = [f"what `{name}` remembers" for name in memory if name in parts]
    return [*([CONTROLLERS] if has_controllers else []), *remembered]


def _lasting_name(name: str) -> str:
    """The name of a part by which a state knows it: of user code the same where its file has moved."""
    return short_name(name) if is_user_code(name) else name


def _memory_of(config: ObjectiveConfig, temperature: float) -> dict[str, dict[str, Any]]:
    """By part, what its memory means nothing without (`PartInfo.memory_of`), as JSON; `temperature` of the samples."""
    of_all = {"temperature": temperature, "reward": config.reward, "reward_maps": [*config.reward_maps]}
    found: dict[str, dict[str, Any]] = {}
    for module in config.modules():
        known = of_all | config.options_of(module).model_dump(mode="json")
        if wrong := [name for name in module.info.memory_of if name not in known]:
            raise ObjectiveError(f"`memory_of` of {module.name} names `{wrong[0]}`, which is no option of its own")
        if module.info.memory_of:
            found[_lasting_name(module.name)] = {name: known[name] for name in module.info.memory_of}
    return found


def _agree(saved: Mapping[str, Any] | None, own: Mapping[str, Any]) -> bool:
    """Whether all that a saved memory says of its meaning is what it is now."""
    return saved is not None and all(saved.get(name, value) == value for name, value in own.items())


def _masked(rows: ShapedRows) -> ShapedRows:
    """The same rows with 0 off the mask, whatever stood there."""
    names = [f.name for f in fields(rows) if f.name.endswith("_BT") and getattr(rows, f.name) is not None]
    off_BT = ~rows.mask_BT
    clean = {name: getattr(rows, name).masked_fill(off_BT, 0) for name in names}
    noted = {key: value.masked_fill(off_BT, 0) for key, value in rows.noted.items()}
    return replace(rows, **clean, noted=noted)
