"""Gradients between environments: whether learning the one would help, hinder or leave alone the other.

    g_j = mean over the written tokens of A * d lp        A the leave-one-out advantage (RLOO), at temperature 1
    cosine of g_i and g_j: below 0 conflict, near 0 unrelated, above 0 transfer is likely

RLOO, whatever the run's objective: no ratio, clip, shaper, term, aggregation by length or optimiser is in it. A
gradient is projected onto 2^16 dimensions: every weight is added, with a random sign, to a random one of them (a count
sketch, drawn from one seed, chunk by chunk). A cosine is so known to about 1 / sqrt(2^16) = .004; the norm is that of
the gradient itself. An environment is cut into four parts of whole groups, which every category deals to them in turn,
so that all have one mixture. Two halves of them give the cosine of an environment with itself, which noise keeps below
1 (the ceiling of all others), and all four the noise scale, tr(Cov) / ||mean||^2 of a part's gradient per token. Groups
without spread have no gradient: an environment of such alone is None.

Needs the module, forward and backward; one copy of the gradient in float32. No `.grad` is touched.
Source: plasticity.md 3.6; sketch: Charikar, Chen, Farach-Colton (2002), Weinberger et al. arXiv 0902.2206.

Dimension letters: B rows, T tokens of the longest row, D dimensions of the sketch, E environments, K parts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from policies.forward import Reduction
from policies.micro_batches import ForwardPasses, score_micro, to_device
from policies.objectives.contracts import Batch
from policies.objectives.estimators.rloo import estimate
from policies.plasticity.ranks import erank

DIMENSIONS = 1 << 16
CHUNK = 1 << 22  # weights whose places are drawn at a time
PARTS = 4
ALONE = -1  # in place of an arm
SEED = 20_260_301  # of the sketch: the same projection at every boundary of every run


@dataclass(frozen=True)
class EnvironmentGradient:
    """The policy gradient of one environment."""

    norm: float  # of the gradient itself
    sketch_D: Tensor  # float64 on the CPU
    split_half: float | None  # cosine of two halves with each other; None: one of them is 0
    noise: float | None  # noise scale of its parts; None: in one of them nothing was written
    num_rows: int  # that were read, forward and backward: those with an advantage


def with_advantages(batch: Batch) -> Batch:
    """Give a batch the leave-one-out advantages of its rewards."""
    advantage_B = estimate(batch.reward_B, batch.group_B)
    return replace(batch, advantage_BT=(advantage_B[:, None] * batch.mask_BT).float())


def environment_gradient(passes: ForwardPasses, batch: Batch) -> EnvironmentGradient | None:
    """Give the policy gradient of a batch that has its advantages; None where all of them are 0."""
    if not bool(batch.has_advantage.any()):
        return None
    model = passes.policy.model
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    sums = [torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32)) for weight in weights]
    num_tokens, sketches = int(batch.mask_BT.sum()), [torch.zeros(DIMENSIONS, dtype=torch.float64)]
    part_B = dealt(batch)
    with passes.prepared(), passes.policy.deterministic():
        for part in range(PARTS):
            rows = ((part_B == part) & batch.has_advantage).nonzero()[:, 0]
            for micro in passes.batcher(batch).cut(rows):
                own = to_device(batch.take(micro.rows), passes.policy.device)
                lp_BT = score_micro(model, own, micro, Reduction()).lp_BT
                loss = (lp_BT * own.advantage_BT.to(lp_BT) / num_tokens).sum()
                for into, found in zip(sums, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                    if found is not None:
                        into += found
            sketches.append(sketch(sums) if len(rows) else sketches[-1])
    norm = math.sqrt(sum(float((one * one).sum(dtype=torch.float64)) for one in sums))
    parts_KD = torch.stack(sketches).diff(dim=0)  # the sums run on over the parts, and the sketch is linear
    tokens_K = torch.zeros(PARTS, dtype=torch.float64).index_add_(0, part_B, batch.mask_BT.sum(-1).double())
    share_K = tokens_K / num_tokens  # a part's sum is over all tokens, its gradient over its own
    return EnvironmentGradient(
        norm=norm,
        sketch_D=sketches[-1],
        split_half=cosine(parts_KD[0::2].sum(0), parts_KD[1::2].sum(0)),
        noise=noise_scale(parts_KD / share_K[:, None]) if bool(share_K.all()) else None,
        num_rows=int(batch.has_advantage.sum()),
    )


def dealt(batch: Batch) -> Tensor:
    """Deal the groups of every arm to the parts in turn, those that are alone in theirs together: parts [B] of rows."""
    arms = dict(zip(batch.group_B.tolist(), batch.arm_B.tolist(), strict=True))
    sizes, nums, parts = Counter(arms.values()), Counter[int](), dict[int, int]()
    for group, arm in arms.items():
        pile = arm if sizes[arm] > 1 else ALONE
        parts[group] = nums[pile] % PARTS
        nums[pile] += 1
    return torch.tensor([parts[group] for group in batch.group_B.tolist()])


@torch.no_grad()
def sketch(gradients: list[Tensor], dimensions: int = DIMENSIONS) -> Tensor:
    """Project gradients, as one long vector, onto `dimensions` [D]: float64, on the CPU."""
    device = gradients[0].device
    generator = torch.Generator(device).manual_seed(SEED)
    total_D = torch.zeros(dimensions, dtype=torch.float64, device=device)
    for gradient in gradients:
        for values in torch.split(gradient.flatten(), CHUNK):
            drawn = torch.randint(2 * dimensions, (len(values),), generator=generator, device=device)
            signed = torch.where(drawn % 2 == 0, values, -values).double()
            total_D.index_add_(0, drawn // 2, signed)
    return total_D.cpu()


def cosine(one_D: Tensor, other_D: Tensor) -> float | None:
    """Give the cosine of two gradients, at most 1; None where one of them is 0."""
    norms = float(one_D.norm() * other_D.norm())
    return max(-1.0, min(1.0, float(one_D @ other_D) / norms)) if norms > 0 else None


def noise_scale(parts_KD: Tensor) -> float | None:
    """Give tr(Cov) / ||mean||^2 of the gradients of K > 1 parts, covariance unbiased; None where the mean is 0."""
    mean_D = parts_KD.mean(0)
    spread = (parts_KD - mean_D).square().sum() / (len(parts_KD) - 1)
    return float(spread / mean_D.square().sum()) if bool(mean_D.any()) else None


def diversity(cosines_EE: Tensor) -> float:
    """Effective rank of the eigenvalues of a matrix of cosines, from 1 (all alike) to E (all unrelated)."""
    return erank(torch.linalg.eigvalsh(cosines_EE.double()).clamp(min=0))


def cosines(gradients: Mapping[str, EnvironmentGradient]) -> Tensor:
    """Give the cosines [E, E] of all of them."""
    unit_ED = torch.stack([one.sketch_D / one.sketch_D.norm() for one in gradients.values()])
    return (unit_ED @ unit_ED.T).clamp(-1, 1)
