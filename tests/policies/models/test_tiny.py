from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from policies.config import PolicyConfig
from policies.errors import PolicyError, VocabularyError
from policies.models.description import describe_size
from policies.models.loader import load_policy
from policies.models.tiny_tokenizer import VocabularySample
from policies.policy import Policy

CPU = torch.device("cpu")
SAMPLE = VocabularySample({"words": [f"Spell this word backward: {word}" for word in ("cat", "dog", "fish")]}, ["tac"])
QUESTION = [{"role": "user", "content": "Spell this word backward: zebu"}]


def make(seed: int = 0, **options: object) -> Policy:
    return load_policy(PolicyConfig.model_validate(options), CPU, seed=seed, sample=SAMPLE)


def test_it_has_about_a_third_of_a_million_weights() -> None:
    assert 0.33e6 < make().num_parameters < 0.37e6


def test_its_size_is_known_without_making_it() -> None:
    shapes: list[dict[str, int]] = [
        {},
        {"layers": 1, "hidden": 24, "mlp": 40, "heads": 3, "kv_heads": 1},
        {"layers": 3, "hidden": 48, "heads": 6, "kv_heads": 6},
    ]
    for shape in shapes:
        size, policy = describe_size(PolicyConfig.model_validate(shape), SAMPLE), make(**shape)
        assert (size.num_parameters, size.width) == (policy.num_parameters, policy.width)
    size = describe_size(PolicyConfig(), SAMPLE)
    assert (size.weights_bytes, size.optimizer_bytes) == (4 * size.num_parameters, 8 * size.num_parameters)
    short = describe_size(PolicyConfig(dtype="bfloat16"), SAMPLE)
    assert (short.weights_bytes, short.optimizer_bytes) == (2 * size.num_parameters, 12 * size.num_parameters)


def test_the_seed_makes_the_weights() -> None:
    one, same, other = (make(seed).model.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize("std", [0.06, 0.02])
def test_its_matrices_begin_with_the_width_that_is_asked_for(std: float) -> None:
    for weight in make(initial_std=std).model.parameters():
        if weight.dim() > 1:
            assert weight.std().item() == pytest.approx(std, rel=0.05)


def test_making_it_touches_no_global_generator() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    make()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_an_answer_ends_with_the_end_token() -> None:
    policy = make()
    assert policy.stop_ids == (1,)
    assert policy.encode(QUESTION)[-1] == 2  # <|answer|>
    assert policy.encode_answer("tac")[-1] == 1
    assert policy.decode(policy.encode_answer("tac")) == "tac"
    assert policy.encode_answer("tac", ends=False) == policy.encode_answer("tac")[:-1]


def test_a_closed_vocabulary_refuses_foreign_text() -> None:
    policy = make(vocabulary="closed")
    assert policy.num_parameters < make().num_parameters
    with pytest.raises(VocabularyError, match=r"no token for 'z' \(in ' zebu'\)"):
        policy.encode(QUESTION)
    with pytest.raises(VocabularyError):
        policy.encode_answer("tacq")


def test_it_needs_a_sample_of_prompts() -> None:
    with pytest.raises(PolicyError, match="pass a sample"):
        load_policy(PolicyConfig(), CPU, seed=0)


def test_a_saved_one_loads_in_plain_transformers(tmp_path: Path) -> None:
    policy = make()
    policy.save(tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    assert tuple(ids) == policy.encode(QUESTION)
    with torch.no_grad():
        assert torch.equal(model(torch.tensor([ids])).logits, policy.model(torch.tensor([ids])).logits)
    answer = model.generate(torch.tensor([ids]), max_new_tokens=2, do_sample=False)
    assert answer.shape[1] > len(ids)


def test_a_saved_one_is_a_model_folder_like_any_other(tmp_path: Path) -> None:
    policy = make()
    policy.save(tmp_path)
    again = load_policy(PolicyConfig(model=str(tmp_path)), CPU, seed=9)
    assert again.encode(QUESTION) == policy.encode(QUESTION)
    assert (again.stop_ids, again.end_id) == (policy.stop_ids, policy.end_id)


def test_saving_twice_gives_the_same_bytes_and_no_path(tmp_path: Path) -> None:
    policy = make()
    for folder in (tmp_path / "a", tmp_path / "b"):
        policy.save(folder)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "model.safetensors" in names
    for name in names:
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes()
        assert str(tmp_path).encode() not in content
