from __future__ import annotations

import pytest
from pydantic import ValidationError

from policies.samplers.contracts import Sampling
from policies.samplers.transformers import Config


def test_defaults_play_the_models_own_distribution() -> None:
    assert Config().sampling == Sampling()
    assert Config().sampling.is_plain
    assert Config(temperature=0.8).sampling == Sampling(temperature=0.8)


@pytest.mark.parametrize("cut", [{"top_p": 0.9}, {"top_k": 20}])
def test_training_rollouts_keep_the_whole_support(cut: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="learner cannot renormalise over the same tokens"):
        Config(**cut)


@pytest.mark.parametrize("name", ["repetition_penalty", "min_p", "min_tokens", "logit_bias"])
def test_what_depends_on_the_text_so_far_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} makes the sampling distribution depend on the text"):
        Config(**{name: 1})


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"max_tokens": 0}, {"rows": 0}, {"top_p": 1.5}, {"rowz": 8}])
def test_impossible_values_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Config(**wrong)
