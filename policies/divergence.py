"""Divergence: weights whose logits are NaN or infinite. Looked for where numbers reach the host anyway.

One such logit makes every log-prob of its row NaN, or that of the token which was drawn -inf: the log-probs of the
tokens alone tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from policies.errors import NonFiniteLogits
from policies.policy import Policy
from policies.samplers.weight_check import make_probe, trainer_logprobs


def require_finite(logprobs: Sequence[NDArray[np.float32]], version: int, where: str) -> None:
    """Refuse log-probs of which any is not finite: one array [T] a row, of the tokens that the policy wrote.

    Raises:
        NonFiniteLogits: it counts the rows and says `where` it was; `version` is that of the weights.
    """
    places = [np.flatnonzero(~np.isfinite(row)) for row in logprobs]
    first = [int(of_row[0]) for of_row in places if len(of_row)]
    if first:
        raise NonFiniteLogits(
            f"non-finite logits in {len(first)} of {len(logprobs)} rows {where}, first at token {min(first) + 1} of an "
            "answer",
            version,
        )


def require_healthy(policy: Policy) -> None:
    """Refuse a policy whose weights are not all finite, or which gives logits that are not to the probe's prompt.

    Raises:
        NonFiniteLogits: it says which.
    """
    parameters = dict(policy.model.named_parameters())
    is_finite = torch.stack([parameter.isfinite().all() for parameter in parameters.values()])
    if not bool(is_finite.all()):
        broken = [name for name, fine in zip(parameters, is_finite.tolist(), strict=True) if not fine]
        raise NonFiniteLogits(
            f"weights that are not finite in {len(broken)} of {len(parameters)} matrices, first in {broken[0]}",
            policy.version,
        )
    trainer_logprobs(policy, make_probe(policy))
