from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.errors import PolicyError
from policies.samplers.testing import random_policy
from policies.samplers.weight_check import (
    LIMITS,
    NUM_PROMPT,
    WeightCheck,
    make_probe,
    probe_gap,
    require_fresh,
    trainer_logprobs,
)


def test_it_is_made_from_the_vocabulary_alone() -> None:
    first, second = random_policy(seed=0), random_policy(seed=1)
    probe = make_probe(first)
    assert probe == make_probe(second)
    assert len(probe.prompt) == NUM_PROMPT > 128, "longer than a block of vLLM's cache on a CPU"
    assert len(set(probe.tokens)) == len(probe.tokens) == 16
    assert len(set(probe.prompt)) > 0.5 * NUM_PROMPT, "spread over the vocabulary"
    assert all(0 <= token < len(first.tokenizer) for token in (*probe.prompt, *probe.tokens))


@pytest.mark.parametrize(("context", "num"), [(None, 200), (64, 63), (1000, 200)])
def test_it_fits_the_engines_context_and_leaves_a_place_free(context: int | None, num: int) -> None:
    assert len(make_probe(random_policy(), context).prompt) == num


def test_the_trainers_side_is_its_forward() -> None:
    policy = random_policy()
    probe = make_probe(policy)
    with torch.no_grad():
        lp_V = policy.model(torch.tensor([probe.prompt])).logits[0, -1].log_softmax(-1)
    np.testing.assert_allclose(trainer_logprobs(policy, probe), lp_V[list(probe.tokens)], atol=1e-6)


def test_the_gap_is_the_largest_difference() -> None:
    policy = random_policy()

    def score(probe: WeightCheck) -> np.ndarray:
        scores = trainer_logprobs(policy, probe)
        scores[3] -= 0.25
        scores[5] += 0.125
        return scores

    assert probe_gap(policy, make_probe(policy), score) == pytest.approx(0.25, abs=1e-6)
    assert probe_gap(policy, make_probe(policy), lambda probe: np.full(16, np.nan, np.float32)) == float("inf")


def test_an_update_that_was_not_synced_is_above_the_limit() -> None:
    policy = random_policy()
    probe = make_probe(policy)
    stale = trainer_logprobs(policy, probe)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.001)
    gap = probe_gap(policy, probe, lambda probe: stale)
    assert gap > 1e-3 > LIMITS[torch.float32]
    with pytest.raises(PolicyError, match=r"server A does not play version 7 .* nats, 0.0001 is the limit. Wait\."):
        require_fresh(gap, LIMITS[torch.float32], 7, "server A", "Wait.")
    require_fresh(9e-5, LIMITS[torch.float32], 7, "server A", "Wait.")
