"""Models as people have them, made small: adapters beside them, and their weights on the way to servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from policies import adapters
from policies.config import AdapterConfig, LearnerConfig, PolicyConfig
from policies.layers import text_model
from policies.learner import Learner
from policies.models.loader import load_policy, write_merged
from policies.objectives.config import ObjectiveConfig
from policies.objectives.objective import Objective
from policies.policy import Policy
from policies.samplers.contracts import Sampling
from policies.samplers.testing import fresh_logprobs
from policies.samplers.vllm_server import Config, VllmServerSampler
from tests.policies.fakes import random_trajectories
from tests.policies.families import FAMILIES, saved
from tests.policies.samplers.serving.fakes import FakeServer
from tests.policies.samplers.serving.test_playing import rows
from tests.policies.templates import SPECIAL
from tests.policies.test_adapters import ROUNDING, SMALL, frozen, gap, lp, trained

pytestmark = pytest.mark.parametrize("family", FAMILIES)


def policy_of(folder: Path, adapter: AdapterConfig | None = None, own: Path | None = None) -> Policy:
    config = PolicyConfig(model=str(folder), adapter=adapter)
    return load_policy(config, torch.device("cpu"), seed=3, saved=own)


def test_adapters_beside_it_learn_are_saved_read_and_merged(tmp_path: Path, family: str) -> None:
    named = Path(saved(tmp_path / "model", family))
    policy = policy_of(named)
    start, before = lp(policy.model), frozen(policy)
    policy.put_adapters(SMALL, 1, has_own_base=False)
    assert torch.equal(lp(policy.model), start)
    trained(policy, 1)
    now, after = lp(policy.model), frozen(policy)
    assert not torch.equal(now, start), "it learns"
    assert after.keys() == before.keys()
    assert all(torch.equal(one, before[name]) for name, one in after.items())
    off = {name: torch.zeros_like(one) for name, one in adapters.adapter_weights(policy.model).items()}
    with adapters.swapped_in(policy.model, off):
        assert torch.equal(lp(policy.model), start)

    policy.save(tmp_path / "own")
    assert torch.equal(lp(policy_of(named, SMALL, tmp_path / "own").model), now)
    write_merged(PolicyConfig(model=str(named), adapter=SMALL), tmp_path / "own", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert type(merged) is type(policy.model)
    assert gap(lp(merged), now) < ROUNDING
    policy.merge_adapters(torch.Generator().manual_seed(7))
    assert gap(lp(policy.model), now) < ROUNDING


def test_it_is_talked_to_as_its_family_is(tmp_path: Path, family: str) -> None:
    known, policy = FAMILIES[family], policy_of(Path(saved(tmp_path, family)))
    question, answer = {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}
    written = policy.tokenizer.decode(policy.encode([question]))
    assert written == policy.tokenizer.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
    assert written.startswith(known.begin or "<|im_start|>")
    own = [token for token in SPECIAL if token in written]
    assert len(own) > 1
    assert set(policy.tokenizer.convert_tokens_to_ids(own)) <= set(policy.encode([question])), "a token each"
    whole = policy.tokenizer.apply_chat_template([question, answer], tokenize=False)
    end = policy.tokenizer.decode([policy.end_id])
    assert end in whole.rpartition("2")[2]
    assert {end, known.end} == set(policy.tokenizer.convert_ids_to_tokens(policy.stop_ids))


def test_what_reads_images_stays_as_it_is(tmp_path: Path, family: str) -> None:
    policy = policy_of(Path(saved(tmp_path, family)))
    still = {name for name, one in policy.model.named_parameters() if not one.requires_grad}
    assert {name.split(".")[1] for name in still} == (
        {"vision_tower", "multi_modal_projector"} if family == "gemma3 with images" else set()
    )
    before = {name: one.clone() for name, one in policy.model.named_parameters()}
    config = LearnerConfig(lr=0.02, warmup=0, weight_decay=0.1).resolved(PolicyConfig())
    trajectories = random_trajectories(policy.model.config.get_text_config().vocab_size, seed=1)
    Learner(policy, config).learn(trajectories, Objective(ObjectiveConfig(preset="rloo")))
    assert {name for name, one in policy.model.named_parameters() if torch.equal(one, before[name])} == still
    for targets in ("all", ("q_proj",)):
        own, adapter = policy_of(tmp_path), AdapterConfig(rank=4, targets=targets)
        planned = adapters.num_weights(own.model, adapter, "it")
        own.put_adapters(adapter, 1, has_own_base=False)
        assert all(text_model(own.model) in name for name in adapters.adapter_weights(own.model))
        assert adapters.num_weights(own.model, adapter, "it") == planned


class Reader(FakeServer):
    """A server that also reads the files that it is given as plain transformers does."""

    given: dict[str, Tensor]
    read: dict[str, Tensor]

    def load(self, folder: str) -> None:
        (file,) = Path(folder).glob("*.safetensors")
        self.given = load_file(file)
        self.read = AutoModelForCausalLM.from_pretrained(folder).state_dict()
        self.policy.model.load_state_dict(self.read)
        self.loaded.append(Path(folder).name)


@pytest.fixture
def server(tmp_path: Path, family: str) -> Iterator[Reader]:
    """A server that has begun with other weights."""
    made = Reader(policy=policy_of(Path(saved(tmp_path / "others", family, seed=4))))
    yield made
    made.die()


@pytest.mark.parametrize("adapter", [None, SMALL])
def test_a_server_gets_what_plain_transformers_reads(
    tmp_path: Path, family: str, server: Reader, adapter: AdapterConfig | None
) -> None:
    policy = policy_of(Path(saved(tmp_path / "model", family)), adapter)
    if adapter is not None:
        policy.put_adapters(adapter, 1, has_own_base=False)
    sampler = VllmServerSampler(Config(urls=[server.url], hand_over="files", probe_every=1), policy)
    try:
        trained(policy, 1)
        sampler.sync(policy.version)
        read = server.read
        for name, one in adapters.merged_state(policy.model).items():
            assert torch.equal(one, read[name]), name
        if adapter is None:
            plain = dict(policy.plain_weights())
            assert plain.keys() == server.given.keys(), "in a group by the names of the files, tied ones once"
            assert all(torch.equal(one, plain[name]) for name, one in server.given.items())
        requests = rows(policy)
        for request, generation in zip(requests, sampler.generate(requests, Sampling()), strict=True):
            fresh = fresh_logprobs(policy, request, generation, 1.0)
            assert generation.logprobs == pytest.approx(fresh, abs=1e-4)
    finally:
        sampler.close()
