from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from policies.config import LearnerConfig, PolicyConfig, WarmStartConfig


class Spec(BaseModel):
    policy: PolicyConfig


def test_a_string_stands_for_the_model() -> None:
    assert Spec.model_validate({"policy": "Qwen/Qwen2.5-3B"}).policy == PolicyConfig(model="Qwen/Qwen2.5-3B")
    assert PolicyConfig.model_validate("tiny") == PolicyConfig()


def test_a_bare_name_is_a_hub_name_unless_there_is_such_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert PolicyConfig(model="Qwen/x").kind == "hub"
    os.makedirs("Qwen/x")
    assert PolicyConfig(model="Qwen/x").kind == "folder"


@pytest.mark.parametrize(("model", "kind"), [("tiny", "tiny"), ("./x", "folder"), ("/x", "folder"), ("~/x", "folder")])
def test_the_form_of_a_name_says_where_the_model_comes_from(model: str, kind: str) -> None:
    assert PolicyConfig(model=model).kind == kind


@pytest.mark.parametrize("model", ["tinny", "Tiny", "tiyn", "tny"])
def test_a_slip_of_tiny_is_no_hub_name(model: str) -> None:
    with pytest.raises(ValidationError, match=rf"'{model}' is no folder here; did you mean `tiny`\?"):
        PolicyConfig(model=model)


@pytest.mark.parametrize("model", ["gpt2", "distilgpt2", "t5-small", "nobody/tiny", "./tinny"])
def test_hub_names_and_folders_are_taken_as_they_are(model: str) -> None:
    assert PolicyConfig(model=model).model == model


def test_the_shape_belongs_to_tiny_alone() -> None:
    with pytest.raises(ValidationError, match=r"layers, vocabulary: only `model: tiny` has these"):
        PolicyConfig(model="gpt2", layers=2, vocabulary="closed")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"heads": 4, "kv_heads": 3}, "must be a multiple of kv_heads"),
        ({"hidden": 100, "heads": 8}, "must be a multiple of twice heads"),
        ({"hiden": 96}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_shapes_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PolicyConfig(**wrong)


def test_learner_defaults_depend_on_the_policy() -> None:
    tiny = LearnerConfig().resolved(PolicyConfig())
    large = LearnerConfig().resolved(PolicyConfig(model="Qwen/Qwen2.5-3B"))
    assert (tiny.lr, tiny.betas, tiny.weight_decay, tiny.warmup) == (1e-4, (0.9, 0.99), 0, 20)
    assert (large.lr, large.betas, large.micro_tokens) == (1e-6, (0.9, 0.999), 16384)
    assert LearnerConfig(lr=3e-4).resolved(PolicyConfig()).lr == 3e-4


def test_warm_start_shares_may_be_a_list_or_a_map() -> None:
    listed = WarmStartConfig(environments=("words", "sums"))
    assert listed.shares() == {"words": (230, 0.5), "sums": (230, 0.5)}
    assert listed.num_batches == 460
    mapped = WarmStartConfig.model_validate({"environments": {"words": {"batches": 10}, "sums": {"decay": 1}}})
    assert mapped.shares() == {"words": (10, 0.5), "sums": (230, 1.0)}
    assert WarmStartConfig().num_batches == 0


def test_resolved_options_can_be_read_again() -> None:
    for config in (PolicyConfig(model="gpt2"), PolicyConfig(layers=2)):
        assert PolicyConfig.model_validate(config.model_dump()) == config


def test_weights_that_no_model_is_made_with_are_refused() -> None:
    with pytest.raises(ValidationError, match="initial_std"):
        PolicyConfig(initial_std=3)
