from __future__ import annotations

import numpy as np
import pytest

from tests.orchestrator.rollout.episodes import group


def test_only_samples_that_could_be_scored_have_something_to_teach() -> None:
    played = group([1.0, None, 0.25])
    assert (played.values, played.correct, len(played.scored)) == ([1.0, 0.25], [True, False], 2)
    assert (played.entropy_sum, played.num_tokens) == (6.0, 6), "what was written counts, scored or not"


def test_a_trajectory_is_the_prompt_and_what_the_policy_wrote() -> None:
    row = group([1.0]).samples[0].trajectory(group=5, reward=0.75)
    assert row.ids.tolist() == [9, 8, 7, 0, 1]
    assert row.mask.tolist() == [False, False, False, True, True]
    assert row.logprobs.tolist() == [0, 0, 0, -0.5, -0.5]
    assert row.entropies is not None
    assert row.entropies == pytest.approx(np.array([0, 0, 0, 0.5, 1.5]))
    assert (row.reward, row.group, row.version) == (0.75, 5, 4)
