"""Episodes on real vLLM in this process: they go on by themselves, and play what they play turn by turn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from environments import EnvironmentSource, Scorer, ScoringJob, ScoringOptions
from orchestrator.episode_options import Budgets
from orchestrator.rollout.player import Player
from orchestrator.stopwatch import Stopwatch
from policies.errors import PolicyError
from policies.samplers.contracts import Request, Sampler, SamplerOptions, Sampling
from policies.samplers.testing import some_requests
from policies.samplers.vllm import Config, EngineRows, VllmSampler, create
from tests.orchestrator.rollout.chats import chats, played, player_of
from tests.policies.samplers.vllm.playing import ROUNDING, wide_policy

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def sampler() -> VllmSampler:
    return create(Config(max_model_len=512), wide_policy())


def test_the_same_is_played_as_turn_by_turn(sampler: VllmSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    def samples() -> list[tuple[tuple[int, ...], float, NDArray[np.float32]]]:
        groups = played(player_of(sampler, chats(1, 2, 3), turn_tokens=6), [1, 2, 3], size=4)
        return [(tuple(one.ids), one.score.value, one.logprobs) for group in groups for one in group.samples]

    by_themselves = samples()
    monkeypatch.setattr(VllmSampler, "stream", Sampler.stream)
    turn_by_turn = samples()
    assert [one[:2] for one in by_themselves] == [one[:2] for one in turn_by_turn]
    for (*_, a), (*_, b) in zip(by_themselves, turn_by_turn, strict=True):
        np.testing.assert_allclose(a, b, atol=ROUNDING)


def test_one_slow_environment_holds_nobody(sampler: VllmSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = "tests.environments.fakes:create"
    sources = [
        EnvironmentSource("slow", fakes, {"character": "slow_turns"}),
        EnvironmentSource("quick", fakes, {"character": "many_turns"}),
    ]
    environments = {source.name: source.create() for source in sources}
    order: list[int] = []
    submit = EngineRows.submit
    monkeypatch.setattr(EngineRows, "submit", lambda self, request, n: order.append(n) or submit(self, request, n))
    monkeypatch.setattr(sampler.policy, "stop_ids", tuple(range(len(sampler.policy.tokenizer))))
    with Scorer(sources, environments, ScoringOptions(workers=2, timeout_s=5)) as scorer:
        tasks = [environments[name].task("easy", 0) for name in ("slow", "quick", "quick")]
        scorer.turns([ScoringJob(tasks[0], ("a",))] * 2)  # the processes are there
        player = Player(7, sampler.policy, sampler, scorer, environments, Budgets(SamplerOptions()))
        groups = player.play(tasks, 1, Sampling(), "train", 0, Stopwatch())
    assert [group.samples[0].num_turns for group in groups] == [3, 3, 3]
    assert order[:3] == [0, 1, 2]
    before = order[: order.index(0, 1)]  # the slow one's second turn
    assert max(before.count(1), before.count(2)) == 3, f"its second turn came before others were done: {order}"


def test_rows_given_up_leave_the_engine(sampler: VllmSampler) -> None:
    requests = some_requests(sampler.policy, budget=100)
    before = sampler.generate(requests[:4], Sampling())
    rows = sampler.stream(Sampling())
    for number, request in enumerate(requests):
        rows.submit(request, number)
    rows.advance()
    assert sampler.llm.llm_engine.has_unfinished_requests()
    rows.abandon()
    assert not sampler.llm.llm_engine.has_unfinished_requests()
    sampler.sync(sampler.policy.version)
    after = sampler.generate(requests[:4], Sampling())
    assert [g.ids for g in after] == [g.ids for g in before]


def test_a_row_that_does_not_fit_is_refused_when_it_is_asked_for(sampler: VllmSampler) -> None:
    rows = sampler.stream(Sampling())
    with pytest.raises(PolicyError, match=r"context of 512: lower max_tokens"):
        rows.submit(Request((1, 2, 3), 1, 510), 0)
