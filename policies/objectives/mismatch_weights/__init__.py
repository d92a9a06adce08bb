"""Weights against the mismatch of sampler and trainer: shapers that come last (objectives.md 7).

Sampler and trainer disagree on log-probs even with equal weights (kernels, precision), and more when the sampler is
stale. With d = lp_old - lp_roll, what the trainer says at the start of the step minus what the sampler reported:

    tis              min(exp(d), C)                    of each token; the default
    icepop           exp(d) inside [lo, hi], else 0    of each token
    seq_tis          min(exp(sum of d), C)             of the sequence
    seq_mask         exp(sum of d) up to C, else 0     of the sequence
    geo_mask         1 if exp(mean of d) is inside [lo, hi], else 0
    off_policy_mask  0 if A < 0 and mean(lp_roll - lp) > delta, else 1

One of the first four is a weight, and two would count the mismatch twice; the masks may stand beside any of them,
`mismatch: [tis, geo_mask]`. Sums over a sequence grow with its length: a bias of 1e-3 a token is e^4 at 4000 tokens, so
prefer weights of tokens for long answers. What a weight of 0 masks stays in the denominator of the loss.

Metrics, means over tokens that add over micro-batches: of a weight its mean, its mean square (with the two the
effective sample size is mean^2 / mean square, as a share of the tokens), its largest, and the share at the cap or
masked; of a mask the share masked, which is all there is to know.
"""

from __future__ import annotations

from policies.objectives.parts import Shaped, Tensor


def weighed(advantage_BT: Tensor, weight_BT: Tensor, name: str, **shares: Tensor) -> Shaped:
    """Multiply advantages [B, T] by weights, and report those and some shares, bool [B, T], under the part's name."""
    means = {f"{name}_weight_mean": weight_BT, f"{name}_weight_squared": weight_BT**2}
    means |= {f"{name}_{share}": is_so_BT.to(weight_BT.dtype) for share, is_so_BT in shares.items()}
    return Shaped(advantage_BT * weight_BT, means, {f"{name}_weight_max": weight_BT})


def masked(advantage_BT: Tensor, keep_BT: Tensor, name: str) -> Shaped:
    """Set advantages [B, T] to 0 where they are not kept, and report the share."""
    means = {f"{name}_masked_frac": (~keep_BT).to(advantage_BT.dtype)}
    return Shaped(advantage_BT.masked_fill(~keep_BT, 0.0), means)


def sequence_sum(value_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum over the policy's tokens of each sequence, on all its places, [B, T]."""
    return value_BT.masked_fill(~mask_BT, 0.0).sum(-1, keepdim=True).expand_as(value_BT)


def sequence_mean(value_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the policy's tokens of each sequence, on all its places, [B, T]; 0 without any."""
    return sequence_sum(value_BT, mask_BT) / mask_BT.sum(-1, keepdim=True).clamp(min=1)
