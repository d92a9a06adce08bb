"""Facts about gradients that methods ask for beside their loss. No `.grad`, weight or moment is touched.

Dimension letters: B rows, T tokens of the longest row, C advantages, N masked tokens of one row, F features, V
vocabulary (a part of it at a time), P parameters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from policies import forward
from policies.errors import PolicyError
from policies.forward import Reduction, head_of
from policies.micro_batches import ForwardPasses, micro_features, score_micro, to_device
from policies.objectives.by_environment import AnyObjective
from policies.objectives.contracts import Batch, Trajectory


def gradient_products(passes: ForwardPasses, batch: Batch, advantages: Sequence[Tensor]) -> Tensor:
    """Give the inner products [C, C] of the policy gradients of several advantages [B, T], float64 on the CPU.

    g_c = mean over the policy's tokens of A_c * d lp, over all trainable weights: the gradient of a step's first update
    with `aggregation: token_mean`, whatever the other parts (arXiv 2509.11452; objectives.md 13.4). Dear: C forwards,
    C backwards, and C copies of the gradient in float32. A batch without tokens gives 0.
    """
    model = passes.policy.model
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    sums = [[torch.zeros_like(weight, dtype=_wide(weight)) for weight in weights] for _ in advantages]
    num_tokens = max(1, int(batch.mask_BT.sum()))
    rows = batch.mask_BT.any(-1).nonzero()[:, 0]
    with passes.prepared(), passes.policy.deterministic():
        for micro in passes.batcher(batch).cut(rows):
            own = to_device(batch.take(micro.rows), passes.policy.device)
            for into, advantage_BT in zip(sums, advantages, strict=True):
                # a forward bears one backward pass: with a large vocabulary, and with Liger's kernels
                lp_BT = score_micro(model, own, micro, Reduction(passes.temperature)).lp_BT
                a_BT = advantage_BT[micro.rows, : lp_BT.shape[1]].to(lp_BT).masked_fill(~own.mask_BT, 0)
                loss = (lp_BT * a_BT / num_tokens).sum()
                found = torch.autograd.grad(loss, weights, allow_unused=True)
                for sum_P, own_P in zip(into, found, strict=True):
                    if own_P is not None:
                        sum_P += own_P
    products = [
        sum(float((a * b).sum(dtype=torch.float64)) for a, b in zip(one, other, strict=True))
        for one, other in itertools.product(sums, repeat=2)
    ]
    return torch.tensor(products, dtype=torch.float64).view(len(sums), len(sums))


def weigh_components(
    passes: ForwardPasses, objective: AnyObjective, trajectories: Sequence[Trajectory], batch: Batch
) -> None:
    """Give the gradients' inner products to an objective that weighs components of the score by them."""
    for one, own_trajectories, own_batch in objective.by_objective(trajectories, batch):
        if components := one.components(own_trajectories, own_batch):
            products = gradient_products(passes, own_batch, list(components.values())).tolist()
            rows = [dict(zip(components, row, strict=True)) for row in products]
            one.hear(dict(zip(components, rows, strict=True)))


@torch.no_grad()
def gradient_norms(passes: ForwardPasses, batch: Batch) -> Tensor:
    """Give the norm [B] of the gradient of each row's summed log-prob with respect to the head's weights, on the CPU.

    That of log P of the whole answer, as in GVM (arXiv 2505.02391; objectives.md 14.2), through the head alone, what it
    reads taken as fixed: a forward, another pass through the head, and no backward. Rows without tokens give 0.

        lp_n = log softmax(f_n M^T / temperature)[y_n]       d(sum_n lp_n) / dM = sum_n (e_y - p)_n f_n^T / temperature
    """
    policy, head = passes.policy, head_of(passes.policy.model)
    if head is None:
        raise PolicyError(
            f"{policy.name} makes its logits by more than a head (it scales or caps them): the norm of a row's "
            "gradient cannot be told from the head"
        )
    norm_B = torch.zeros(len(batch.length_B), dtype=torch.float64)
    rows = batch.mask_BT.any(-1).nonzero()[:, 0]
    with passes.prepared():
        for micro in passes.batcher(batch).cut(rows):
            own = to_device(batch.take(micro.rows), policy.device)
            features_NF, place_N = micro_features(policy.model, own, micro)
            target_N, row_N = own.ids_BT.flatten()[place_N], place_N // own.ids_BT.shape[1]
            for at, row in enumerate(micro.rows.tolist()):
                is_own_N = row_N == at
                norm_B[row] = _norm(head, features_NF[is_own_N], target_N[is_own_N], passes.temperature)
    return norm_B


def _norm(head: torch.nn.Linear, features_NF: Tensor, target_N: Tensor, temperature: float) -> float:
    """The norm of one row, a part of the vocabulary at a time."""
    f_NF = features_NF.to(_wide(features_NF))
    most = max(1, forward.CHUNK_ELEMENTS // sum(f_NF.shape))
    parts = [slice(start, start + most) for start in range(0, len(head.weight), most)]
    masses = [_logits(head, f_NF, part, temperature).logsumexp(-1) for part in parts]
    mass_N = torch.stack(masses).logsumexp(0)
    squares = 0.0
    for part in parts:
        pull_NV = -(_logits(head, f_NF, part, temperature) - mass_N[:, None]).exp()
        is_here_N = (target_N >= part.start) & (target_N < part.start + pull_NV.shape[1])
        pull_NV[is_here_N, target_N[is_here_N] - part.start] += 1
        squares += float((pull_NV.T @ f_NF).square().sum(dtype=torch.float64))
    return math.sqrt(squares) / temperature


def _logits(head: torch.nn.Linear, features_NF: Tensor, part: slice, temperature: float) -> Tensor:
    bias_V = None if head.bias is None else head.bias[part].to(features_NF)
    return torch.nn.functional.linear(features_NF, head.weight[part].to(features_NF), bias_V) / temperature


def _wide(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)
