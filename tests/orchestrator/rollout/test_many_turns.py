"""Episodes of many turns: what is kept of them, in which order they are played, and what ends them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from environments import Environment, Score
from orchestrator.episode_options import Budgets, EpisodeOptions
from orchestrator.stopwatch import Stopwatch
from policies.errors import PolicyError
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Sampling
from policies.samplers.random_numbers import sample_seed
from policies.samplers.transformers import Config, TransformersSampler
from tests import source_lines
from tests.orchestrator.rollout.chats import (
    GUESS,
    LAKE,
    SO_FAR,
    WORTH,
    Chat,
    Scripted,
    Talk,
    chats,
    generation,
    played,
    player_of,
    small_policy,
)
from tests.policies import templates

BOOM = source_lines.place(Talk.step)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy()


def ok(request: Request, call: int) -> str:
    return "ok"


def babbling() -> Policy:
    """Make a policy that has learnt nothing, and yet ends most of its turns."""
    policy = small_policy()
    policy.stop_ids = tuple(range(0, len(policy.tokenizer), 5))
    return policy


# --- what is kept


class Watched(TransformersSampler):
    """Plays, and notes every request and every generation."""

    def generate(self, requests: Any, sampling: Sampling) -> list[Generation]:
        generations = super().generate(requests, sampling)
        self.turns.append(list(zip(requests, generations, strict=True)))
        return generations

    turns: list[list[tuple[Request, Generation]]]


@pytest.mark.parametrize("source", [GUESS, LAKE], ids=["two turns", "five turns"])
def test_ids_only_grow_and_the_mask_is_what_was_sampled(source: Any) -> None:
    policy = babbling()
    sampler = Watched(Config(), policy)
    sampler.turns = []
    environment = source.create()
    player = player_of(sampler, {source.name: environment}, max_tokens=60, turn_tokens=12)
    tasks = [environment.task(c.name, i) for i in range(3) for c in environment.categories]
    samples = [s for g in player.play(tasks, 4, Sampling(), "train", 0, Stopwatch()) for s in g.samples]

    of = {r.seed: (r, g) for turn in sampler.turns for r, g in turn}
    most = 0
    for place, sample in enumerate(samples):
        name = (source.name, 0, place // 4, place % 4)
        turns = [of[seed] for k in range(9) if (seed := sample_seed(7, "train", *name, k)) in of]
        most = max(most, len(turns))
        for (request, written), (following, _) in itertools.pairwise(turns):
            assert following.ids[: len(request.ids) + len(written.ids)] == request.ids + written.ids
        assert sample.num_turns == len(turns)
        assert tuple(sample.ids) == turns[-1][0].ids + turns[-1][1].ids
        assert tuple(sample.ids[sample.mask]) == tuple(i for _, g in turns for i in g.ids)
        assert sample.num_tokens == sum(len(g.ids) for _, g in turns)
        for array, name_ in ((sample.logprobs, "logprobs"), (sample.entropies, "entropies")):
            assert np.array_equal(array[sample.mask], np.concatenate([getattr(g, name_) for _, g in turns]))
            assert not array[~sample.mask].any()
        assert [int(sample.mask[s.start : s.end].sum()) for s in sample.spans] == [len(g.ids) for _, g in turns]
    assert most > 1


def test_what_the_policy_wrote_is_never_encoded_again() -> None:
    policy = templates.policy_of(templates.CHATML, merges=(("a", "b"),))
    policy.model.config = small_policy().model.config
    a, b = (policy.tokenizer.convert_tokens_to_ids(letter) for letter in "ab")
    assert policy.tokenizer("ab").input_ids != [a, b]
    (end,) = policy.encode_answer("")
    sampler = Scripted(policy, lambda request, call: generation((a, b, end), policy))
    (group,) = played(player_of(sampler, chats(2)), [2])
    (sample,) = group.samples
    assert sample.ids[sample.mask].tolist() == [a, b, end] * 2
    assert sampler.calls[1][0].ids[-1 - len(policy.bridge(sample.messages[2:], sample.messages[:1])) :][0] == end
    assert [message["content"] for message in sample.messages] == ["2 0?", "ab", "heard ab"]
    assert sample.completion == "ab"


def test_the_stop_token_is_the_policy_s_and_what_the_template_puts_behind_it_is_not(policy: Policy) -> None:
    chatml = templates.policy_of(templates.CHATML)
    chatml.model.config = policy.model.config
    (group,) = played(player_of(Scripted(chatml, ok), chats(2)), [2])
    (sample,) = group.samples
    written = ["".join(chatml.tokenizer.decode(sample.ids[s.start : s.end])) for s in sample.spans]
    assert written == ["ok<|im_end|>"] * 2
    between = chatml.tokenizer.decode(sample.ids[sample.spans[0].end : sample.spans[1].start])
    assert between == "\n<|im_start|>user\nheard ok<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_is_not_append_only_is_refused_when_a_second_turn_comes(policy: Policy) -> None:
    qwen = templates.policy_of(templates.QWEN_3)
    qwen.model.config = policy.model.config
    player = player_of(Scripted(qwen, ok), chats(1, 2))
    played(player, [1])
    with pytest.raises(PolicyError, match="family/model: its chat template is not append-only"):
        played(player, [2])


def test_an_engine_without_entropies_is_given_an_unbiased_estimate(policy: Policy) -> None:
    def bare(request: Request, call: int) -> Generation:
        made = generation(policy.encode_answer("ok"), policy)
        return Generation(made.ids, made.logprobs, None, made.finish, made.spans)

    (group,) = played(player_of(Scripted(policy, bare), chats(2)), [2])
    assert group.entropy_sum == pytest.approx(0.5 * group.num_tokens)
    assert group.samples[0].entropies[~group.samples[0].mask].sum() == 0


# --- order


def test_rows_stay_in_the_order_of_group_and_sample_however_long_they_play(policy: Policy) -> None:
    sampler = Scripted(policy, lambda request, call: f"s{request.seed} t{call}")
    groups = played(player_of(sampler, chats(1, 2, 3)), [3, 1, 2], size=2)
    assert [[s.num_turns for s in g.samples] for g in groups] == [[3, 3], [1, 1], [2, 2]]
    for number, (group, turns) in enumerate(zip(groups, [3, 1, 2], strict=True)):
        for place, sample in enumerate(group.samples):
            seeds = [sample_seed(7, "train", "chat", 0, number, place, turn) for turn in range(turns)]
            said = [m["content"] for m in sample.messages if m["role"] == "assistant"] + [sample.completion]
            assert said == [f"s{seed} t{turn}" for turn, seed in enumerate(seeds)]
    assert [len(call) for call in sampler.calls] == [6, 4, 2], "only live episodes are played on"


def test_no_two_turns_share_a_seed_and_an_episode_s_do_not_depend_on_the_others(policy: Policy) -> None:
    together, alone = Scripted(policy, ok), Scripted(policy, ok)
    played(player_of(together, chats(1, 5)), [5, 1, 5], size=3)
    played(player_of(alone, chats(5)), [5], size=3)
    seeds = [request.seed for call in together.calls for request in call]
    assert len(set(seeds)) == len(seeds)
    assert [r.seed for call in alone.calls for r in call] == [r.seed for call in together.calls for r in call[:3]]


def test_environments_of_one_and_of_many_turns_share_a_batch(policy: Policy) -> None:
    environments: dict[str, Environment] = {
        "once": Chat("once", [1]),
        "often": Chat("often", [3], max_tokens=4),
    }
    sampler = Scripted(policy, ok)
    player = player_of(sampler, environments, max_tokens=30)
    tasks = [environments[name].task(n, i) for i, (name, n) in enumerate([("often", "3"), ("once", "1")] * 2)]
    groups = player.play(tasks, 2, Sampling(), "train", 0, Stopwatch())
    assert [(g.task.environment, [s.num_turns for s in g.samples]) for g in groups] == [
        *(("often", [2, 2]), ("once", [1, 1])) * 2
    ]
    assert [request.budget for request in sampler.calls[0][::2]] == [4, 30, 4, 30]


def test_a_turn_is_played_alike_alone_and_in_a_batch_of_other_turns() -> None:
    policy = babbling()
    player = player_of(TransformersSampler(Config(), policy), chats(1, 3), max_tokens=30, turn_tokens=8)
    together, (alone,) = played(player, [3, 1], size=4), played(player, [3], size=4)
    for one, other in zip(together[0].samples, alone.samples, strict=True):
        assert one.ids.tolist() == other.ids.tolist()


# --- what ends an episode


@pytest.mark.parametrize(
    ("options", "turns", "num_turns", "finish"),
    [
        ({}, 3, 3, "stop"),
        ({"max_turns": 3}, 3, 3, "stop"),  # the end and the limit together: it has ended
        ({"max_turns": 2}, 3, 2, "length"),
        ({"max_tokens": 9}, 3, 3, "stop"),
        ({"max_tokens": 8}, 3, 3, "length"),  # "ok" and its end are three tokens
        ({"max_tokens": 6}, 3, 2, "length"),  # nothing left for a third turn
        ({"turn_tokens": 3}, 3, 3, "stop"),
        ({"turn_tokens": 2}, 3, 1, "length"),
        ({"turn_tokens": 2}, 1, 1, "length"),
    ],
)
def test_budgets_of_tokens_and_turns_cut_an_episode_off(
    policy: Policy, options: dict[str, int], turns: int, num_turns: int, finish: str
) -> None:
    (group,) = played(player_of(Scripted(policy, ok), chats(turns), **options), [turns])
    assert [(s.num_turns, s.finish) for s in group.samples] == [(num_turns, finish)]
    assert group.num_truncated == (finish == "length")


def test_an_environment_has_its_own_budgets_and_the_others_the_samplers(policy: Policy) -> None:
    both: dict[str, Environment] = {name: Chat(name, [3]) for name in ("short", "scant", "long")}
    player = player_of(Scripted(policy, ok), both, max_turns=4)
    own = {"short": EpisodeOptions(max_turns=2, cut_off="mask"), "scant": EpisodeOptions(max_tokens=6)}
    player.budgets = Budgets(player.budgets.shared, own)
    tasks = [one.task("3", 0) for one in both.values()]
    short, scant, long = player.play(tasks, [1, 1, 2], Sampling(), "train", 0, Stopwatch())
    assert [(s.num_turns, s.finish, s.has_gradient) for s in short.samples] == [(2, "length", False)]
    assert [(s.num_turns, s.finish, s.has_gradient) for s in scant.samples] == [(2, "length", True)]
    assert [(s.num_turns, s.finish, s.has_gradient) for s in long.samples] == [(3, "stop", True)] * 2


def test_the_budget_of_a_turn_is_the_least_of_what_is_left() -> None:
    policy = small_policy()
    sampler = Scripted(policy, ok)
    played(player_of(sampler, chats(4), max_tokens=10, turn_tokens=5), [4])
    assert [call[0].budget for call in sampler.calls] == [5, 5, 4, 1]
    lengths = [len(call[0].ids) for call in sampler.calls]

    for context, budgets in ((lengths[2] + 2, [10, 7, 2]), (lengths[2], [10, 7]), (lengths[1] + 4, [10, 4])):
        bounded = Scripted(small_policy(context=context), ok)
        (group,) = played(player_of(bounded, chats(4), max_tokens=10), [4])
        assert [call[0].budget for call in bounded.calls] == [min(b, context - lengths[0]) for b in budgets]
        (sample,) = group.samples
        assert (sample.finish, sample.num_turns) == ("length", len(budgets))
        assert len(sample.ids) <= context
        assert sample.mask[-1], "no bridge to a turn that never came"


def test_a_prompt_without_room_for_an_answer_has_no_score_and_the_others_are_played() -> None:
    sampler = Scripted(small_policy(context=6), lambda request, call: "o")
    long, short = played(player_of(sampler, chats(12345, 1)), [12345, 1], size=2)
    assert [s.score.reason for s in long.samples] == ["its prompt fills the context"] * 2
    assert [(s.num_tokens, s.num_turns, s.finish) for s in long.samples] == [(0, 0, "lost")] * 2
    assert not long.trajectories(0, True, lambda sample: None)
    assert short.values == [0.75, 0.75]


def test_an_engine_of_a_shorter_context_cuts_answers_as_the_policy_s_own_would(policy: Policy) -> None:
    sampler = Scripted(policy, ok)
    sampler.context = 7
    (group,) = played(player_of(sampler, chats(1)), [1])
    assert [call[0].budget for call in sampler.calls] == [2]
    assert group.num_truncated == 1


def test_a_prompt_of_no_tokens_has_no_score(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Policy, "encode", lambda self, messages: ())
    (group,) = played(player_of(Scripted(policy, ok), chats(1)), [1])
    assert group.samples[0].score == Score.unscorable("its prompt has no token")


@pytest.mark.parametrize(
    ("cut_off", "said", "score", "has_gradient"),
    [
        ("score", "half", Score.of(SO_FAR), True),
        ("score", "ok", Score.of(0.0), True),
        ("mask", "half", Score.of(SO_FAR), False),
        ("mask", "ok", Score.of(0.0), False),
        ("zero", "half", Score.of(0.0), True),
        ("zero", "boom", Score.unscorable("raised ValueError: boom" + BOOM), True),
    ],
)
def test_an_episode_cut_off_is_worth_what_the_spec_says(
    policy: Policy, cut_off: str, said: str, score: Score, has_gradient: bool
) -> None:
    player = player_of(Scripted(policy, lambda request, call: said), chats(3), cut_off=cut_off, max_turns=2)
    (sample,) = played(player, [3])[0].samples
    assert sample.score == score
    row = sample.trajectory(0, 0.0)
    assert row.mask.any() == has_gradient or score.reason is not None
    assert sample.num_tokens > 0, "what was written counts, learnt from or not"


@pytest.mark.parametrize(
    ("cut_off", "value", "has_gradient"),
    [("score", WORTH, True), ("mask", WORTH, False), ("zero", 0.0, True)],
)
def test_a_single_turn_cut_by_length_is_scored_as_it_is_masked_or_worth_nothing(
    policy: Policy, cut_off: str, value: float, has_gradient: bool
) -> None:
    player = player_of(Scripted(policy, ok), chats(1), cut_off=cut_off, max_tokens=2)
    (sample,) = played(player, [1])[0].samples
    assert (sample.finish, sample.completion) == ("length", "ok")
    assert (sample.score.value, sample.score.correct) == (value, value > 0)
    assert sample.trajectory(0, value).mask.any() == has_gradient


@pytest.mark.parametrize("cut_off", ["mask", "zero"])
def test_where_a_reply_is_one_token_nothing_ends_it_and_nothing_is_cut_off(policy: Policy, cut_off: str) -> None:
    player = player_of(Scripted(policy, ok), chats(1, max_tokens=1), cut_off=cut_off)
    (sample,) = played(player, [1])[0].samples
    assert (sample.num_tokens, sample.score.value, sample.has_gradient) == (1, WORTH, True)
    assert sample.finish == "stop"
    assert not sample.trajectory(0, 1.0).was_cut_off


def test_what_ended_by_itself_is_never_masked_nor_worth_nothing(policy: Policy) -> None:
    for cut_off in ("mask", "zero"):
        (sample,) = played(player_of(Scripted(policy, ok), chats(2), cut_off=cut_off), [2])[0].samples
        assert (sample.score.value, sample.has_gradient) == (WORTH, True)


def test_a_fault_in_the_second_turn_makes_the_episode_unscorable_with_its_reason(policy: Policy) -> None:
    sampler = Scripted(policy, lambda request, call: "boom" if call else "ok")
    (group,) = played(player_of(sampler, chats(3)), [3])
    assert group.samples[0].score == Score.unscorable("raised ValueError: boom" + BOOM)
    assert (group.samples[0].num_turns, group.scored) == (2, [])


@pytest.mark.parametrize("turn", [0, 1])
def test_a_lost_turn_makes_the_episode_unscorable_and_no_other(policy: Policy, turn: int) -> None:
    lost = sample_seed(7, "train", "chat", 0, 0, 1, turn)
    sampler = Scripted(policy, lambda request, call: Generation.lost() if request.seed == lost else "ok")
    sampler.version = policy.version
    (group,) = played(player_of(sampler, chats(3)), [3], size=3)
    assert [s.finish for s in group.samples] == ["stop", "lost", "stop"]
    assert group.samples[1].score == Score.unscorable("lost by the sampler")
    assert (group.samples[1].num_turns, group.samples[1].version) == (turn, 0)
    assert [message["content"] for message in group.samples[1].messages] == ["3 0?", "ok", "heard ok"][: 1 + 2 * turn]
    assert group.samples[1].completion == ""
    assert group.values == [WORTH, WORTH]


# --- weights


def test_the_sampler_is_brought_up_to_the_policy_s_weights_when_it_lags() -> None:
    policy = small_policy()
    sampler = Scripted(policy, ok)
    player = player_of(sampler, chats(1))
    played(player, [1])
    policy.version = 3
    played(player, [1])
    (sample,) = played(player, [1])[0].samples
    assert (sampler.synced, sample.version) == ([3], 3)
    policy.version = 4
    (chat,) = player.environments.values()
    player.play([chat.task("1", 0)], 1, Sampling(), "train", 0, Stopwatch(), sync=False)
    assert sampler.synced == [3]


def test_the_version_of_an_episode_is_that_of_its_oldest_turn(policy: Policy) -> None:
    sampler = Scripted(policy, lambda r, call: generation(policy.encode_answer("ok"), policy, version=5 - call))
    (sample,) = played(player_of(sampler, chats(2)), [2])[0].samples
    assert ([span.version for span in sample.spans], sample.version) == ([5, 4], 4)
    assert sample.trajectory(0, 1.0).version == 4
