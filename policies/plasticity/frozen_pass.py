"""One pass without gradient over the frozen rows, for all that can be told from it.

The logits of a chunk of tokens are reduced to entropies, to what is kept of followed distributions and to their drift;
hooks hand the MLPs' hidden units and the layers' hidden states on to running sums. Temperature 1, dropout off, float32
before anything is reduced. Rows are read whole: hooks see every token where it stands.

Dimension letters: R rows, B rows of one batch, T tokens of its longest row, N written tokens of a batch, P followed
tokens of all rows, F features, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from policies import forward
from policies.forward import entropy_of, evaluating, features_of, head_of
from policies.plasticity.dormant import UnitSums
from policies.plasticity.drift import Kept, compare
from policies.plasticity.frozen_rows import FrozenRows, RowBatch
from policies.plasticity.ranks import Gram


@dataclass(frozen=True)
class Drift:
    """How far the followed distributions are from those of before, token by token."""

    kl_P: NDArray[np.float64]  # KL(before || now), nats
    flipped_P: NDArray[np.bool_]  # another token is the likeliest


@dataclass(frozen=True)
class FrozenPass:
    """What one pass found."""

    entropy_R: NDArray[np.float64]  # summed over the tokens that the policy wrote, nats
    now: Kept  # the followed distributions, in order
    drifts: Mapping[str, Drift]  # by what they were compared with
    units: UnitSums
    grams: Mapping[int, Gram]  # by layer


def run(
    model: Any,
    rows: FrozenRows,
    *,
    micro_tokens: int,
    keep: int,
    before: Mapping[str, Kept],
    projections: Sequence[nn.Module] = (),
    layers: Mapping[int, nn.Module] | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> FrozenPass:
    """Read all rows; `before` has distributions of the same followed tokens.

    `projections` are those that hidden units enter, `layers` those whose outputs are features; `tell` hears how many
    rows are done of how many.
    """
    reader = _Reader(model, rows, keep, before, UnitSums(len(projections)), {place: Gram() for place in layers or {}})
    with torch.no_grad(), evaluating(model), reader.watching(projections, layers or {}):
        done = 0
        for batch in rows.batches(micro_tokens):
            tell(done, len(rows.length_R))
            reader.read(batch)
            done += len(batch.rows)
    return reader.result()


class _Reader:
    """What a pass gathers, and where in the batch that is being read it is."""

    def __init__(
        self,
        model: Any,
        rows: FrozenRows,
        keep: int,
        before: Mapping[str, Kept],
        units: UnitSums,
        grams: dict[int, Gram],
    ) -> None:
        self.model, self.rows, self.keep, self.before = model, rows, keep, before
        self.units, self.grams = units, grams
        self.device = next(model.parameters()).device
        self.entropy_R = np.zeros(len(rows.length_R))
        self.kept: list[tuple[Tensor, Kept]] = []  # with the numbers of their tokens
        self.drifts = {name: Drift(np.zeros(rows.num_followed), np.zeros(rows.num_followed, bool)) for name in before}
        none = torch.zeros(0, dtype=torch.int64, device=self.device)
        self.predicting = self.ranked = (none, none)  # rows and columns of a batch
        self.num_rows = 0  # of it

    def read(self, batch: RowBatch) -> None:
        """Read a batch; the hooks gather beside it."""
        ids_BT, mask_BT = batch.ids_BT.to(self.device), batch.mask_BT.to(self.device)
        self.num_rows = len(ids_BT)
        row_N, column_N = mask_BT.nonzero(as_tuple=True)
        self.predicting = (row_N, column_N - 1)
        ranked = batch.is_ranked_B.nonzero()[:, 0]
        self.ranked = (ranked.to(self.device), batch.last_B[ranked].to(self.device))
        if not len(row_N):  # prompts alone: nothing of them is scored
            self.model.base_model(input_ids=ids_BT, use_cache=False)
            return
        features_NF, place_N = features_of(self.model, ids_BT, mask_BT)
        self.units.num += len(place_N)
        head = head_of(self.model)
        width = features_NF.shape[1] if head is None else head.weight.shape[0]
        followed_N = batch.followed_BT.flatten()[place_N.cpu()]
        for at in torch.split(torch.arange(len(place_N)), max(1, forward.CHUNK_ELEMENTS // width)):
            part_NF = features_NF[at.to(self.device)]
            logits_NV = part_NF if head is None else head(part_NF)
            lp_NV = torch.log_softmax(logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float(), -1)
            entropy_N = entropy_of(lp_NV).double().cpu().numpy()
            np.add.at(self.entropy_R, batch.rows[row_N.cpu()[at].numpy()], entropy_N)
            self._follow(lp_NV, followed_N[at])

    def _follow(self, lp_NV: Tensor, followed_N: Tensor) -> None:
        places = (followed_N >= 0).nonzero()[:, 0]
        if not len(places):
            return
        own_NV, numbers = lp_NV[places.to(self.device)], followed_N[places]
        self.kept.append((numbers, Kept.of(own_NV, self.keep).to("cpu")))
        for name, kept in self.before.items():
            kl_N, flipped_N = compare(kept.take(numbers).to(self.device), own_NV)
            self.drifts[name].kl_P[numbers.numpy()] = kl_N.cpu().numpy()
            self.drifts[name].flipped_P[numbers.numpy()] = flipped_N.cpu().numpy()

    @contextmanager
    def watching(self, projections: Sequence[nn.Module], layers: Mapping[int, nn.Module]) -> Iterator[None]:
        """Have the hooks in place."""

        def units(number: int) -> Callable[..., None]:
            def hear(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                self.units.add(number, self._at(inputs[0], self.predicting))

            return hear

        def features(number: int) -> Callable[..., None]:
            def hear(module: nn.Module, inputs: Any, output: Any) -> None:
                hidden = output[0] if isinstance(output, tuple) else output
                if len(self.ranked[0]):
                    self.grams[number].add(self._at(hidden, self.ranked))

            return hear

        with ExitStack() as hooks:
            for number, module in enumerate(projections):
                hooks.callback(module.register_forward_pre_hook(units(number)).remove)
            for number, module in layers.items():
                hooks.callback(module.register_forward_hook(features(number)).remove)
            yield

    def _at(self, values: Tensor, where: tuple[Tensor, Tensor]) -> Tensor:
        """Values [N, ...] at some places of the batch; some architectures flatten rows before their MLP."""
        whole_BTF = values if values.ndim == 3 else values.view(self.num_rows, -1, values.shape[-1])
        return whole_BTF[where]

    def result(self) -> FrozenPass:
        """Put together what was gathered."""
        numbers = torch.cat([numbers for numbers, _ in self.kept]) if self.kept else torch.zeros(0, dtype=torch.int64)
        now = Kept.join([kept for _, kept in self.kept]) if self.kept else Kept.of(torch.zeros(0, 1), 1)
        return FrozenPass(self.entropy_R, now.take(numbers.argsort()), self.drifts, self.units, self.grams)
