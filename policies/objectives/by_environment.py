"""An objective for each environment: `objective: {by: {words: repo_r, book: dapo}}`.

Every environment has an objective: the one that `by` gives it, or what the section says beside. Each sees the rows of
its environment alone: advantages, surveys, thresholds and means are those that it would have if the batch held nothing
else. Its controllers read that environment's entropy and numbers, and move in the steps that played it. The loss of an
update is the sum

    loss = sum over objectives o of  s_o * loss_o        s_o = its share of the update

in the unit of o's aggregation: tokens (`token_mean`), sequences or groups. So one that is given to every environment
does what it does without `by`, as far as it reads no statistic of a whole batch. Each makes as many updates a step as
it is made for, its rows in the first of them, unless the learner's section says how many. Source: ours.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Batch, Coefficients, Need, ShapedRows, SurveyResult, Totals, Trajectory
from policies.objectives.entropy_reading import EntropyReading
from policies.objectives.errors import ObjectiveError, expect_keys
from policies.objectives.objective import LOSS_VALUE, Objective, forgotten
from policies.objectives.padding import pad
from policies.objectives.statistics import rows_by_environment


class ObjectiveByEnvironment:
    """Objectives by environment behind the methods of one; seeds, controllers and memory are each one's own."""

    def __init__(
        self, config: ObjectiveConfig, environments: Sequence[str], seed: int = 0, temperature: float = 1.0
    ) -> None:
        for refusal in config.clashes(environments):
            raise ObjectiveError(refusal)
        self.config = config
        self._every = {name: Objective(config.of(name), [seed, *name.encode()], temperature) for name in environments}

    def of(self, environment: str) -> Objective:
        """The objective of an environment's rows."""
        return self._every[environment]

    @property
    def updates(self) -> int:
        """The most updates a step that one of them is made for."""
        return max(one.updates for one in self._every.values())

    @property
    def needs(self) -> frozenset[Need]:
        """What the learner has to compute in this step, for all rows."""
        return frozenset().union(*(one.needs for one in self._every.values()))

    @property
    def may_need_reference(self) -> bool:
        """Whether one of them compares with a frozen policy, or may later."""
        return any(one.may_need_reference for one in self._every.values())

    @property
    def nucleus(self) -> float | None:
        """The mass of the tokens whose entropy is read; the configuration refuses two kinds."""
        return next((one.nucleus for one in self._every.values() if one.nucleus is not None), None)

    @property
    def kappa(self) -> float | None:
        """How likely a token must be to pass the filter of `old_filter`; the configuration refuses two of them."""
        return next((one.kappa for one in self._every.values() if one.kappa is not None), None)

    @property
    def plans(self) -> Mapping[str, Mapping[str, Any]]:
        """The data plans of each by name, with its controllers' values of this step."""
        return {name: one.plans[""] for name, one in self._every.items()}

    def split(self, batch: Batch) -> Mapping[str, Tensor]:
        """Which rows of a batch are of which objective, bool [B]; those without any are left out."""
        return rows_by_environment(batch.arm_B, batch.arms)

    def by_objective(
        self, trajectories: Sequence[Trajectory], batch: Batch
    ) -> Iterator[tuple[Objective, Sequence[Trajectory], Batch]]:
        """Give each objective with its rows of a step."""
        for name, is_own_B in self.split(batch).items():
            own = [one for one, is_own in zip(trajectories, is_own_B.tolist(), strict=True) if is_own]
            yield self._every[name], own, batch.map(lambda value, rows=is_own_B: value[rows])  # type: ignore[misc]

    def advantages_of_updates(self, batch: Batch, parts: Sequence[Tensor]) -> Tensor:
        """The advantages [B, T] for a step that is cut into updates of these rows, each objective's as it has them."""
        advantage_BT = batch.advantage_BT.clone()
        for name, is_own_B in self.split(batch).items():
            own = [rows[is_own_B[rows]] for rows in parts]
            own = [rows for rows in own if len(rows)]
            advantage_BT[is_own_B] = self._every[name].advantages_of_updates(batch, own)[is_own_B]
        return advantage_BT

    def is_run(self, batch: Batch) -> Tensor:
        """Which rows have to go through the model, bool [B]."""
        is_run_B = torch.zeros_like(batch.mask_BT[:, 0])
        for name, is_own_B in self.split(batch).items():
            is_run_B |= self._every[name].is_run(batch) & is_own_B
        return is_run_B

    def silent_sums(self, batch: Batch, rows: Tensor, totals: Totals) -> dict[str, tuple[float, float]]:
        """What rows add to the metrics that were not run, as their advantage is 0."""
        sums = self.of(batch.arms[0].split("/")[0]).silent_sums(batch, rows, totals)  # the same of all objectives
        sums.pop(LOSS_VALUE)
        for name, is_own_B in self.split(batch).items():
            own = self._every[name].silent_sums(batch, rows[is_own_B[rows]], totals.own.get(name, totals))
            sums |= {_labelled(key, name): value for key, value in own.items()}
        return sums

    def prepare(self, trajectories: Sequence[Trajectory], reference: Callable[[Batch], Tensor] | None = None) -> Batch:
        """Pad a step's trajectories and estimate an advantage for each, as its objective does of its rows alone."""
        batch = pad(trajectories)
        if "lp_ref" in self.needs and reference is not None:
            batch = replace(batch, lp_ref_BT=reference(batch))
        advantage_BT = torch.zeros_like(batch.lp_roll_BT)
        rows = self.split(batch).values()
        for is_own_B, (one, own, own_batch) in zip(rows, self.by_objective(trajectories, batch), strict=True):
            advantage_BT[is_own_B] = one.advantages(own_batch, own).to(advantage_BT)
        return replace(batch, advantage_BT=advantage_BT)

    def survey(self, rows: ShapedRows, totals: Totals) -> SurveyResult:
        """Let each look at its rows of the whole step; its numbers go by its name and theirs."""
        tokens: dict[str, Tensor] = {}
        numbers, log, surprisal = dict[str, float](), dict[str, float](), dict[str, tuple[float, float]]()
        for name, is_own_B in self._rows(rows, totals):
            found = self._every[name].survey(rows.take(is_own_B), totals.own[name])
            for key, own_BT in found.tokens.items():
                whole_BT = tokens.setdefault(key, own_BT.new_zeros(rows.mask_BT.shape))
                whole_BT[is_own_B] = own_BT
            numbers |= {f"{name}/{key}": value for key, value in found.numbers.items()}
            log |= {_labelled(key, name): value for key, value in found.log.items()}
            surprisal |= found.surprisal
        return SurveyResult(tokens, numbers, log, surprisal)

    def coefficients(self, rows: ShapedRows, totals: Totals) -> Coefficients:
        """Fill W and K for a micro-batch: of each row as its objective does, by its share of the update.

        Metrics are told of the rows of each objective and of all rows; forces of each alone, for the parts of one have
        no share in what another does.
        """
        w_BT, k_BT = torch.zeros_like(rows.lp_BT), torch.zeros_like(rows.lp_BT)
        fills_k = False
        sums: dict[str, tuple[float, float]] = {}
        maxima: dict[str, float] = {}
        for name, is_own_B in self._rows(rows, totals):
            found = self._every[name].coefficients(rows.take(is_own_B), totals.own[name], totals)
            w_BT[is_own_B] = found.w_BT.to(w_BT)
            if found.k_BT is not None:
                fills_k, k_BT[is_own_B] = True, found.k_BT.to(k_BT)
            for key, (total, count) in found.sums.items():
                if not key.startswith("force_") and key != LOSS_VALUE:  # a sum of several objectives' has no unit
                    before = sums.get(key, (0.0, 0.0))
                    sums[key] = (before[0] + total, before[1] + count)
                sums[_labelled(key, name)] = (total, count)
            for key, value in found.maxima.items():
                maxima[key] = max(value, maxima.get(key, value))
                maxima[_labelled(key, name)] = value
        return Coefficients(w_BT, k_BT if fills_k else None, sums, maxima)

    def observe(
        self, reading: EntropyReading | float | None, measured: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Move the controllers of what was played by what was read of each, and return what to log about this step.

        Numbers that no environment has of its own (`grad_norm`) are those of the whole update, for each.
        """
        log: dict[str, float] = {}
        split = {name: dict[str, float]() for name in self._every}
        common = dict(measured or {})
        for key, value in (measured or {}).items():
            metric, _, name = key.rpartition("/")
            if name in split:
                split[name][metric] = value
                common.pop(metric, None)
        for name, one in self._every.items():
            own = reading.of(name) if isinstance(reading, EntropyReading) else reading
            if own is not None:
                observed = one.observe(own, common | split[name])
                log |= {_labelled(key, name): value for key, value in observed.items()}
        return log

    def reset_controllers(self) -> None:
        """Let the controllers begin anew; what parts remember stays."""
        for one in self._every.values():
            one.reset_controllers()

    def rescale_controllers(self) -> None:
        """Tell the controllers that readings are on another scale from now on; their coefficients stay."""
        for one in self._every.values():
            one.rescale_controllers()

    def state(self) -> dict[str, Any]:
        """What the next step depends on beside the configuration, as JSON."""
        return {"by": {name: one.state() for name, one in self._every.items()}}

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Go on from a saved state, and name what begins anew; what an environment that joined since has, begins.

        All begins anew after one objective of all environments: what it had is no single environment's.
        """
        if state.keys() & {"controllers", "controller"}:
            return forgotten([state], self._every.values())
        expect_keys(state, {"by"}, "the objectives by environment")
        if unknown := state["by"].keys() - self._every.keys():
            raise ObjectiveError(f"the saved objectives are of {sorted(unknown)} too: resume with the spec of the run")
        return [f"{one} of {name}" for name, own in state["by"].items() for one in self._every[name].load_state(own)]

    def _rows(self, rows: ShapedRows, totals: Totals) -> ItemsView[str, Tensor]:
        assert rows.arm_B is not None, "the learner gives it"
        return rows_by_environment(rows.arm_B, totals.arms).items()


AnyObjective: TypeAlias = Objective | ObjectiveByEnvironment


def make_objective(
    config: ObjectiveConfig, environments: Sequence[str] = (), seed: int = 0, temperature: float = 1.0
) -> AnyObjective:
    """Make what a section describes, for these environments and samples of this temperature."""
    if config.by:
        return ObjectiveByEnvironment(config, environments, seed, temperature)
    return Objective(config, seed, temperature)


def _labelled(key: str, environment: str) -> str:
    """The name of a number of one environment; some objectives say it themselves."""
    return key if key.endswith(f"/{environment}") else f"{key}/{environment}"
