"""A random step (`surrogates.case`) as an objective meets it: trajectories, a survey of the whole, an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from torch import Tensor

from policies.objectives import Objective, ObjectiveConfig, ShapedRows, Totals
from policies.objectives.contracts import Coefficients, Trajectory
from tests.policies.objectives.surrogates.case import Case


@dataclass(frozen=True)
class Step:
    """What an objective knows of a step when its one update begins: all rows, and the step's totals."""

    objective: Objective
    rows: ShapedRows
    totals: Totals

    def fill(self, rows: ShapedRows | None = None) -> Coefficients:
        """Coefficients of some rows of the update, of all by default."""
        return self.objective.coefficients(self.rows if rows is None else rows, self.totals)

    def cut(self, *places: list[int]) -> list[ShapedRows]:
        """The rows in micro-batches, each with what the survey noted of them."""
        return [on_every_tensor(self.rows, lambda x, at=at: x[at]) for at in places]


def begun(
    name: str | Mapping[str, object], case: Case, change: Callable[[ShapedRows], ShapedRows] = lambda rows: rows
) -> Step:
    """Prepare a case and survey it; `change` is done to the rows before anything looks at them."""
    objective = Objective(ObjectiveConfig.model_validate(name), seed=7)
    batch = objective.prepare(trajectories(case), lambda batch: case.lp_ref_BT)
    rows = change(rows_of(case, batch.advantage_BT.double()))
    totals = totals_of(rows, case)
    if "step" in objective.needs:
        start = replace(rows, lp_BT=rows.lp_old_BT, entropy_BT=rows.entropy_old_BT)
        noted = objective.survey(start, totals)
        rows, totals = replace(rows, noted=noted.tokens), replace(totals, noted=noted.numbers)
    return Step(objective, rows, totals)


def trajectories(case: Case) -> list[Trajectory]:
    """The rows of a case as they were played."""
    width = case.mask_BT.shape[1]
    return [
        Trajectory(
            ids=np.arange(width),
            mask=case.mask_BT[b].numpy(),
            logprobs=case.lp_roll_BT[b].float().numpy(),
            entropies=case.sampler_entropy_BT[b].float().numpy(),
            reward=float(case.reward_B[b]),
            group=int(case.group_B[b]),
            arm=case.arms[int(case.arm_B[b])],
            correct=bool(case.correct_B[b]),
            components={name: float(values[b]) for name, values in case.components.items()},
            answer=str(int(case.answer_B[b])),
            turns=case.turn_BT[b].numpy(),
            think_end=int(case.think_end_B[b]) if case.think_end_B[b] < width else None,
        )
        for b in range(len(case.reward_B))
    ]


def rows_of(case: Case, advantage_BT: Tensor) -> ShapedRows:
    """A whole case as rows, in float64."""
    return ShapedRows(
        mask_BT=case.mask_BT,
        advantage_BT=advantage_BT,
        lp_BT=case.lp_BT.detach(),
        lp_old_BT=case.lp_old_BT,
        lp_roll_BT=case.lp_roll_BT,
        entropy_BT=case.entropy_BT.detach(),
        group_B=case.group_B,
        lp_ref_BT=case.lp_ref_BT,
        entropy_old_BT=case.entropy_old_BT,
        lp_proxy_BT=case.lp_proxy_BT,
        arm_B=case.arm_B,
        turn_BT=case.turn_BT,
    )


def totals_of(rows: ShapedRows, case: Case) -> Totals:
    """The totals of an update that consists of these rows."""
    assert rows.group_B is not None
    num_B = rows.mask_BT.sum(-1)
    groups = {int(g): int(num_B[rows.group_B == g].sum()) for g in rows.group_B.unique()}
    return Totals(
        num_tokens=int(num_B.sum()),
        num_sequences=int((num_B > 0).sum()),
        mean_lp=float(rows.lp_old_BT[rows.mask_BT].mean()),
        drift=float((rows.lp_old_BT - rows.lp_BT)[rows.mask_BT].mean()),
        group_tokens={group: num for group, num in groups.items() if num},
        arms=case.arms,
    )


def on_every_tensor(rows: ShapedRows, change: Callable[[Tensor], Tensor]) -> ShapedRows:
    """The same rows with every tensor changed, also what was noted of them."""
    values = {f.name: getattr(rows, f.name) for f in fields(rows) if f.name not in ("noted", "strengths")}
    changed = {name: None if value is None else change(value) for name, value in values.items()}
    noted = {key: change(value) for key, value in rows.noted.items()}
    return ShapedRows(**changed, noted=noted, strengths=rows.strengths)
