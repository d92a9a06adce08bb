from __future__ import annotations

import pytest
import torch

from policies.prompt_states import mean_hidden_states
from tests.policies.plasticity.test_probe_parts import random_policy


def test_the_mean_hidden_state_is_of_the_prompt_alone_whatever_stands_beside() -> None:
    policy = random_policy()
    prompts = [(5, 6, 7), (8,), (9, 10, 11, 12, 13)]
    together = mean_hidden_states(policy, prompts)
    for number, prompt in enumerate(prompts):
        states_BTF = policy.model.base_model(input_ids=torch.tensor([prompt])).last_hidden_state
        by_hand = states_BTF[0].mean(0).detach().double().numpy()
        assert together[number] == pytest.approx(by_hand, rel=1e-4, abs=1e-4)
