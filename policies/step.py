"""What the updates of one step share: the batch, what an objective asks of it, and what it is given.

Dimension letters: B rows, T tokens of the longest row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from policies.errors import PolicyError
from policies.forward import EntropyMode, Reduction, Scored
from policies.micro_batches import MicroBatch, MicroBatcher
from policies.objectives import Objective
from policies.objectives.contracts import Batch, ShapedRows, SurveyResult


@dataclass
class StepTally:
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
        """Add up how long a part takes."""
        start = perf_counter()
        yield
        self.seconds[part] += perf_counter() - start


@dataclass(frozen=True)
class Step:
    """One step's batch, with all that its updates share."""

    batch: Batch  # on the CPU, as are `old` and `noted`
    objective: Objective
    parts: list[Tensor]  # the rows of each update
    looks_back: bool  # whether the start of the step needs a pass of its own
    reduction: Reduction  # of the updates' passes
    batcher: MicroBatcher
    is_run_B: Tensor  # bool, the rows that go through the model
    tally: StepTally
    mean_lp: float | None  # mean log-prob at the start of the step; None: not all rows were run to tell
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
    objective: Objective, temperature: float, asks_now: bool = True, asks_start: bool = True
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
    same = ("mask_BT", "advantage_BT", "lp_roll_BT", "group_B", "lp_ref_BT", "arm_B", "turn_BT")
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
