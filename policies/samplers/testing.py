"""What every sampler must do, as a class of tests that outside engines run too.

    class TestMine(SamplerSuite):
        def make(self, policy):
            return Mine(policy)

The policy is a small random one, made once for each test. Engines on other hardware may loosen `tolerance`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from unittest import SkipTest

import numpy as np
import torch
from numpy.typing import NDArray

from policies.config import PolicyConfig
from policies.errors import NonFiniteLogits
from policies.forward import evaluating, score_rows
from policies.models.loader import load_policy
from policies.models.tiny_tokenizer import VocabularySample
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Sampler, Sampling
from policies.samplers.random_numbers import sample_seed

PROMPTS = ("name a colour", "name a small animal of the woods", "one", "what is the answer to all of it")
CUT = Sampling(temperature=0.7, top_p=0.9, top_k=20)


def random_policy(seed: int = 0, spread: float = 6.0) -> Policy:
    """Make a small random policy: distributions neither flat nor certain, one token in ten ends an answer."""
    config = PolicyConfig(layers=2, hidden=32, mlp=64)
    sample = VocabularySample({"questions": PROMPTS})
    policy = load_policy(config, torch.device("cpu"), seed=seed, sample=sample)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(spread)
    policy.stop_ids = tuple(range(1, len(policy.tokenizer), 10))
    return policy


def some_requests(policy: Policy, group_size: int = 8, budget: int = 12, step: int = 0) -> list[Request]:
    """Make one group a prompt, every row with its own seed."""
    return [
        Request(
            policy.encode([{"role": "user", "content": prompt}]),
            sample_seed(0, "test", "questions", step, group, sample),
            budget,
        )
        for group, prompt in enumerate(PROMPTS)
        for sample in range(group_size)
    ]


def fresh_logprobs(policy: Policy, request: Request, generation: Generation, temperature: float) -> NDArray[np.float32]:
    """Score the tokens of a generation with one forward pass of the whole row."""
    ids_BT = torch.tensor([request.ids + generation.ids])
    mask_BT = torch.zeros(ids_BT.shape, dtype=torch.bool)
    mask_BT[:, len(request.ids) :] = True
    with torch.no_grad(), evaluating(policy.model):
        lp_BT = score_rows(policy.model, ids_BT, mask_BT, temperature).lp_BT
    scores: NDArray[np.float32] = lp_BT[mask_BT].numpy()
    return scores


class SamplerSuite(ABC):
    """Subclass it as `Test...`, implement `make`, and let pytest collect it."""

    tolerance = 1e-5  # nats, between the sampler's log-prob of a token and the learner's

    @abstractmethod
    def make(self, policy: Policy) -> Sampler:
        """Make the sampler of a policy, ready to play its weights."""

    def test_log_probs_are_those_of_a_fresh_forward(self) -> None:
        """At temperatures 1 and 1.3, for every token of every row."""
        policy = random_policy()
        sampler, requests = self.make(policy), some_requests(policy)
        for temperature in (1.0, 1.3):
            played = sampler.generate(requests, Sampling(temperature=temperature))
            gaps = [
                np.abs(g.logprobs - fresh_logprobs(policy, r, g, temperature))
                for r, g in zip(requests, played, strict=True)
            ]
            assert np.concatenate(gaps).max() < self.tolerance
            assert np.concatenate(gaps).mean() < self.tolerance / 10

    def test_rows_are_consistent(self) -> None:
        """As many log-probs as tokens, a stop token only at the end, finish and length in agreement."""
        policy = random_policy()
        requests = [
            Request(request.ids, request.seed, 1 + index % 9) for index, request in enumerate(some_requests(policy))
        ]
        played = self.make(policy).generate(requests, Sampling())
        assert {g.finish for g in played} == {"stop", "length"}
        for request, g in zip(requests, played, strict=True):
            assert 1 <= len(g.ids) <= request.budget
            assert len(g.logprobs) == len(g.ids)
            assert (g.logprobs <= 0).all()
            stops = [token in policy.stop_ids for token in g.ids]
            assert not any(stops[:-1])
            assert g.finish == ("stop" if stops[-1] else "length")
            assert stops[-1] or len(g.ids) == request.budget

    def test_the_same_requests_give_the_same_answers_twice(self) -> None:
        """Bit for bit: nothing is remembered between calls."""
        policy = random_policy()
        sampler, requests = self.make(policy), some_requests(policy)
        first, second = (sampler.generate(requests, Sampling()) for _ in range(2))
        assert all(same(a, b) for a, b in zip(first, second, strict=True))

    def test_a_row_does_not_depend_on_the_rest_of_the_batch(self) -> None:
        """One group alone, and the batch in reverse order, give the same tokens."""
        policy = random_policy()
        sampler, requests = self.make(policy), some_requests(policy)
        together = sampler.generate(requests, Sampling())
        alone = sampler.generate(requests[8:16], Sampling())
        reverse = sampler.generate(requests[::-1], Sampling())[::-1]
        assert [g.ids for g in alone] == [g.ids for g in together[8:16]]
        assert [g.ids for g in reverse] == [g.ids for g in together]
        for a, b in zip([*alone, *reverse], [*together[8:16], *together], strict=True):
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=self.tolerance)

    def test_rows_asked_for_one_by_one_are_those_of_a_batch(self) -> None:
        """Also where some join while others are being written; without effect on global state."""
        policy = random_policy()
        sampler, requests = self.make(policy), some_requests(policy)
        together = sampler.generate(requests, Sampling())
        before = _global_state(policy)
        rows = sampler.stream(Sampling())
        if rows is None:
            raise SkipTest("plays whole batches only")
        futures = [rows.submit(request, number) for number, request in enumerate(requests[:9])]
        for _ in range(3):
            rows.advance()
        futures += [rows.submit(request, number) for number, request in enumerate(requests[9:], 9)]
        while not all(future.done() for future in futures) and rows.advance():
            pass
        found = [future.result(60) for future in futures]
        assert rows.finish() == frozenset()
        assert _global_state(policy) == before
        assert [(g.ids, g.finish, g.spans) for g in found] == [(g.ids, g.finish, g.spans) for g in together]
        for a, b in zip(found, together, strict=True):
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=self.tolerance)

    def test_equal_prompts_with_other_seeds_give_other_tokens(self) -> None:
        """The samples of a group differ, and so do two tasks that happen to have the same prompt."""
        policy = random_policy()
        ids = policy.encode([{"role": "user", "content": PROMPTS[0]}])
        seeds = [sample_seed(0, "test", "questions", 0, group, sample) for group in (0, 1) for sample in (0, 1)]
        requests = [Request(ids, seed, 12) for seed in seeds]
        assert len({g.ids for g in self.make(policy).generate(requests, Sampling())}) == 4

    def test_greedy_takes_the_most_likely_token(self) -> None:
        """Whatever the seed; the log-prob kept is the model's own, not 0."""
        policy = random_policy()
        requests = some_requests(policy, group_size=2, budget=6)
        played = self.make(policy).generate(requests, Sampling(greedy=True))
        assert all(a.ids == b.ids for a, b in zip(played[::2], played[1::2], strict=True))
        for request, g in zip(requests, played, strict=True):
            with torch.no_grad():
                logits_TV = policy.model(torch.tensor([request.ids + g.ids])).logits[0, len(request.ids) - 1 : -1]
            assert tuple(logits_TV.argmax(-1).tolist()) == g.ids
            np.testing.assert_allclose(g.logprobs, logits_TV.log_softmax(-1).amax(-1), atol=self.tolerance)

    def test_every_token_names_the_weights_that_wrote_it(self) -> None:
        """After an update and a sync, spans carry the new version."""
        policy = random_policy()
        sampler, requests = self.make(policy), some_requests(policy, group_size=1)
        policy.version = 7
        sampler.sync(7)
        for g in sampler.generate(requests, Sampling()):
            assert [(span.version, span.start, span.end) for span in g.spans] == [(7, 0, len(g.ids))]

    def test_what_it_plays_changes_at_a_sync_and_not_before(self) -> None:
        """A copy plays on as it was while the learner's weights move; after a sync every engine plays the new ones."""
        policy = random_policy()
        sampler, requests = self.make(policy), some_requests(policy)
        before = sampler.generate(requests, Sampling())
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():  # every weight by a tenth of the spread of its matrix, as no single update does
            for parameter in policy.model.parameters():
                noise = torch.empty(parameter.shape).normal_(generator=generator)
                parameter.add_(0.1 * noise * parameter.std(unbiased=False))
        if sampler.plays_a_copy:
            stale = sampler.generate(requests, Sampling())
            assert all(same(a, b) for a, b in zip(stale, before, strict=True))
        policy.version += 1
        sampler.sync(policy.version)
        after = sampler.generate(requests, Sampling())
        assert [g.ids for g in after] != [g.ids for g in before]
        for request, g in zip(requests, after, strict=True):
            gap_T = np.abs(g.logprobs - fresh_logprobs(policy, request, g, 1.0))
            assert gap_T.max() < 10 * self.tolerance  # stale by this much they are tenths away

    def test_a_policy_that_has_diverged_is_named(self) -> None:
        """By the sync or by the playing, with the version of the weights; no other error, and no tokens."""
        policy = random_policy()
        sampler, requests = self.make(policy), some_requests(policy)
        with torch.no_grad():
            policy.model.base_model.norm.weight[0] = float("nan")
        policy.version = 7
        told: NonFiniteLogits | None = None
        try:
            sampler.sync(7)
            sampler.generate(requests, Sampling())
        except NonFiniteLogits as error:
            told = error
        assert told is not None
        assert told.version == 7

    def test_playing_touches_no_global_state(self) -> None:
        """Generators, thread count and the mode of every module are as before."""
        policy = random_policy()
        policy.model.model.layers[0].train()
        sampler, requests = self.make(policy), some_requests(policy)
        before = _global_state(policy)
        sampler.generate(requests, Sampling())
        assert _global_state(policy) == before


def same(a: Generation, b: Generation) -> bool:
    """Whether two generations are equal bit for bit."""
    return a.ids == b.ids and a.finish == b.finish and np.array_equal(a.logprobs, b.logprobs)


def _global_state(policy: Policy) -> tuple[object, ...]:
    return (
        torch.get_rng_state().tolist(),
        repr(np.random.get_state()),
        random.getstate(),
        torch.get_num_threads(),
        [module.training for module in policy.model.modules()],
    )
