"""What a policy makes of a prompt: the mean of the last layer's hidden states over its tokens, one vector a prompt.

Dimension letters: N prompts, B of one batch, T tokens of its longest, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from policies.forward import evaluating
from policies.policy import Policy

ROWS = 32  # read at once


@torch.no_grad()
def mean_hidden_states(
    policy: Policy, prompts: Sequence[tuple[int, ...]], tell: Callable[[int], None] = lambda done: None
) -> NDArray[np.float64]:
    """Read prompts, given as token ids, into vectors [N, F]; `tell` hears how many are done."""
    found: list[NDArray[np.float64]] = []
    with evaluating(policy.model):
        for first in range(0, len(prompts), ROWS):
            tell(first)
            rows = [torch.tensor(prompt) for prompt in prompts[first : first + ROWS]]
            length_B = torch.tensor([len(row) for row in rows], device=policy.device)
            ids_BT = pad_sequence(rows, batch_first=True, padding_value=policy.pad_id).to(policy.device)
            # causal, so that padding on the right is read by nothing that counts
            states_BTF = policy.model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state.double()
            is_prompt_BT = torch.arange(ids_BT.shape[1], device=policy.device) < length_B[:, None]
            mean_BF = (states_BTF * is_prompt_BT[..., None]).sum(1) / length_B[:, None]
            found.append(mean_BF.cpu().numpy())
    return np.concatenate(found)
