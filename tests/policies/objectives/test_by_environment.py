"""An objective for each environment: each as if it were alone, weighed by its share of the update."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from policies.config import LearnerConfig, PolicyConfig
from policies.learner import Learner, UpdateReport, rows_of_updates
from policies.objectives.by_environment import AnyObjective, ObjectiveByEnvironment, make_objective
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Trajectory
from policies.objectives.entropy_reading import MixCorrectedEntropy
from policies.objectives.errors import ObjectiveError
from policies.objectives.objective import Objective
from policies.objectives.presets import PRESETS
from policies.samplers.testing import random_policy
from tests.policies.fakes import random_trajectories
from tests.shares import share

NAMES = ("book", "words")


def config(**section: Any) -> ObjectiveConfig:
    return ObjectiveConfig.model_validate(section)


def learner(**options: Any) -> Learner:
    policy = random_policy()
    policy.model.double()
    made = LearnerConfig.model_validate({"lr": 1e-3, "warmup": 0, "micro_tokens": 60, **options})
    return Learner(policy, made.resolved(PolicyConfig()), keeps_reference=True)


def played(vocabulary: int, names: Sequence[str] = NAMES, seed: int = 0) -> list[Trajectory]:
    """Groups of environments in turn, two categories each."""
    rows = random_trajectories(vocabulary, num_groups=4 * len(names), group_size=4, seed=seed, spread=0.8)
    return [
        replace(row, arm=f"{names[row.group % len(names)]}/{row.group // len(names) % 2}", version=0) for row in rows
    ]


def learnt(objective: AnyObjective, rows: Sequence[Trajectory], **options: Any) -> tuple[Tensor, UpdateReport, Learner]:
    """The gradient of the last update, clipping undone, from first moments; with one update, of the step."""
    made = learner(**options)
    report = made.learn(rows, objective)
    moments = [made.optimizer.adam.state[m]["exp_avg"] / 0.1 for m in made.optimizer.masters.values()]
    return torch.cat([m.flatten() for m in moments]).double() * max(1.0, report.grad_norm), report, made


def of(rows: Sequence[Trajectory], name: str) -> list[Trajectory]:
    return [row for row in rows if row.arm.startswith(f"{name}/")]


def num_tokens(rows: Sequence[Trajectory]) -> int:
    return sum(int(row.mask.sum()) for row in rows)


def num_sequences(rows: Sequence[Trajectory]) -> int:
    return sum(bool(row.mask.any()) for row in rows)


def vocabulary() -> int:
    return len(random_policy().tokenizer)


@pytest.mark.parametrize("preset", share(PRESETS, 6))
def test_where_one_environment_is_played_it_is_the_objective_itself(preset: str) -> None:
    section = {"preset": preset, "max_length": 12}
    rows = played(vocabulary(), ["words"])
    alone = Objective(config(**section), [0, *b"words"])
    among = make_objective(config(by={"words": section}), ["words"])
    expected, told, one = learnt(alone, rows)
    found, tells, other = learnt(among, rows)
    assert torch.equal(found, expected)
    for a, b in zip(one.policy.model.parameters(), other.policy.model.parameters(), strict=True):
        assert torch.equal(a, b)
    whole = {"loss", "grad_norm", "lr", "skipped_updates", "rows_run_frac"}
    for key, value in told.metrics.items():
        assert tells.metrics[key if key in whole else f"{key}/words"] == pytest.approx(value, nan_ok=True), key


@pytest.mark.parametrize(
    ("words", "book"),
    [
        ({"preset": "repo_r"}, {"preset": "dapo", "plans": []}),
        ({"preset": "clip_cov"}, {"preset": "entropy_bonus"}),
        ({"preset": "repo_adaptive"}, {"preset": "rloo"}),
        ({"preset": "kl_cov"}, {"preset": "kl_cov", "kl_cov_fraction": 0.02}),
    ],
)
def test_the_gradient_is_the_sum_of_each_ones_own_by_its_share(words: Any, book: Any) -> None:
    rows = played(vocabulary())
    found, *_ = learnt(make_objective(config(by={"words": words, "book": book}), NAMES), rows, updates=1)
    expected = torch.zeros_like(found)
    for name, section in (("words", words), ("book", book)):
        own = of(rows, name)
        assert config(**section).aggregation == "token_mean"
        gradient, *_ = learnt(Objective(config(**section), [0, *name.encode()]), own, updates=1)
        expected += num_tokens(own) / num_tokens(rows) * gradient
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-4)


def test_the_share_of_effective_samples_is_told_of_each_environment_and_the_squares_of_none() -> None:
    rows = played(vocabulary())
    sections = {"words": {"preset": "rloo"}, "book": {"preset": "rloo", "mismatch": "none"}}
    _, report, _ = learnt(make_objective(config(by=sections), NAMES), rows)
    assert not [key for key in report.metrics if "weight_squared" in key]
    found = {key: value for key, value in report.metrics.items() if key.startswith("effective_samples")}
    _, alone, _ = learnt(Objective(config(**sections["words"])), of(rows, "words"))
    expected = alone.metrics["effective_samples"]
    assert 0 < expected < 1
    assert found == pytest.approx({"effective_samples": expected, "effective_samples/words": expected})


def test_each_weighs_in_the_unit_of_its_aggregation() -> None:
    rows = played(vocabulary())
    words = {"preset": "rloo", "aggregation": "seq_mean_token_mean"}
    book = {"preset": "rloo", "aggregation": "prompt_mean"}
    found, *_ = learnt(make_objective(config(by={"words": words, "book": book}), NAMES), rows, updates=1)
    g_words, *_ = learnt(Objective(config(**words)), of(rows, "words"), updates=1)
    g_book, *_ = learnt(Objective(config(**book)), of(rows, "book"), updates=1)
    share_words = num_sequences(of(rows, "words")) / num_sequences(rows)
    share_book = len({row.group for row in of(rows, "book")}) / len({row.group for row in rows})
    torch.testing.assert_close(found, share_words * g_words + share_book * g_book, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("aggregation", ["token_mean", "seq_mean_token_mean", "prompt_mean", "constant"])
def test_the_conventional_loss_of_an_environment_is_that_of_its_rows_alone(aggregation: str) -> None:
    section = {"preset": "grpo", "aggregation": aggregation, "max_length": 12}
    rows = played(vocabulary())
    _, told, _ = learnt(make_objective(config(by={"words": section, "book": section}), NAMES), rows, updates=1)
    for name in ("words", "book"):
        _, alone, _ = learnt(Objective(config(**section)), of(rows, name), updates=1)
        assert told.metrics[f"loss_value/{name}"] == pytest.approx(alone.metrics["loss_value"], rel=1e-4, abs=1e-9)
    assert "loss_value" not in told.metrics


@pytest.mark.parametrize("preset", ["grpo", "rloo", "dr_grpo"])
@pytest.mark.parametrize("micro_tokens", [40, 4000])
def test_given_to_all_it_does_what_it_does_without(preset: str, micro_tokens: int) -> None:
    section = {"preset": preset, "max_length": 12}
    rows = played(vocabulary(), ["book", "words", "lake"])
    plain, told, _ = learnt(Objective(config(**section)), rows, updates=1, micro_tokens=micro_tokens)
    split, tells, _ = learnt(
        make_objective(config(**section, by={"lake": {}}), ["book", "words", "lake"]),
        rows,
        updates=1,
        micro_tokens=micro_tokens,
    )
    torch.testing.assert_close(split, plain, atol=1e-7, rtol=1e-4)
    assert tells.metrics["loss"] == pytest.approx(told.metrics["loss"])
    assert tells.metrics["advantage_abs"] == pytest.approx(told.metrics["advantage_abs"])


def test_each_makes_as_many_updates_as_it_is_made_for() -> None:
    rows = played(vocabulary())
    by = {"words": {"preset": "rloo", "updates": 1}, "book": {"preset": "rloo", "updates": 4}}
    objective = make_objective(config(by=by), NAMES)
    made = learner()
    batch = objective.prepare(rows)
    step = made._begin(batch, objective, False, None)
    names = [{batch.arms[arm].split("/")[0] for arm in batch.arm_B[part].tolist()} for part in step.parts]
    assert names == [{"words", "book"}, {"book"}, {"book"}, {"book"}]
    assert sorted(torch.cat(step.parts).tolist()) == list(range(len(rows)))
    assert learnt(objective, rows)[1].num_updates == 4
    assert learnt(objective, rows, updates=2)[1].num_updates == 2


def test_an_update_has_the_factor_of_its_own_rows_in_each_objective() -> None:
    every = [replace(row, correct=bool(k % 2), reward=float(k % 2)) for k, row in enumerate(played(vocabulary()))]
    rows = [row for row in every if row.group != 3 or row.correct]  # groups of unequal sizes
    objective = make_objective(config(by={"words": {"preset": "disco"}, "book": {"preset": "rloo"}}), NAMES)
    batch = objective.prepare(rows)
    is_words_B = objective.split(batch)["words"]
    parts = rows_of_updates(objective, batch, 3)
    found_BT = objective.advantages_of_updates(batch, parts)
    words = [rows_B[is_words_B[rows_B]] for rows_B in parts]
    expected_BT = objective.of("words").advantages_of_updates(batch, words)
    assert torch.equal(found_BT[is_words_B], expected_BT[is_words_B])
    assert not torch.equal(found_BT[is_words_B], batch.advantage_BT[is_words_B])
    assert torch.equal(found_BT[~is_words_B], batch.advantage_BT[~is_words_B])
    step = learner(updates=3)._begin(batch, objective, False, None)
    assert torch.equal(step.batch.advantage_BT, found_BT)


def test_controllers_move_where_their_environment_was_played_and_read_it_alone() -> None:
    controller = {"type": "geometric_signed", "target": 0.5}
    by = {name: {"preset": "repo_r", "controller": controller} for name in NAMES}
    objective = make_objective(config(by=by), NAMES)
    reading = MixCorrectedEntropy()
    reading.set_baseline({"words/3": 1.0, "book/a": 2.0})
    start = {name: objective.of(name).controlled["strength"] for name in NAMES}
    log = objective.observe(reading.observe({"words/3": (1.0, 10)}), {})
    assert log["entropy_reading/words"] == pytest.approx(0.1)
    assert {key.split("/")[1] for key in log} == {"words"}
    assert objective.of("words").controlled["strength"] > start["words"]  # it reads a fall
    assert objective.of("book").controlled["strength"] == start["book"]
    objective.observe(reading.observe({"book/a": (40.0, 10)}), {})
    assert objective.of("book").controlled["strength"] < start["book"]  # 4 nats are twice its start


def test_a_controller_of_another_number_reads_its_environments() -> None:
    controller = {"type": "adaptive_kl", "target": 0.05}
    by = {name: {"preset": "rloo", "kl": 0.1, "controller": controller} for name in NAMES}
    objective = make_objective(config(by=by), NAMES)
    reading = MixCorrectedEntropy().observe({"words/3": (1.0, 10), "book/a": (1.0, 10)})
    objective.observe(reading, {"kl_ref": 9.0, "kl_ref/words": 9.0, "kl_ref/book": 0.0})
    assert objective.of("words").controlled["kl"] > 0.1 > objective.of("book").controlled["kl"]


def test_a_controller_of_a_number_that_only_the_whole_update_has_reads_that() -> None:
    def objective(metric: str) -> AnyObjective:
        controller = {"type": "dual_ascent", "metric": metric, "target": 1.0, "rate": -0.1}
        return make_objective(config(by={"words": {"preset": "rloo", "kl": 0.1, "controller": controller}}), NAMES)

    reading = MixCorrectedEntropy().observe({"words/3": (1.0, 10), "book/a": (1.0, 10)})
    whole, of_another = objective("grad_norm"), objective("clip_cov_ratio")
    whole.observe(reading, {"grad_norm": 3.0})
    assert whole.of("words").controlled["kl"] == pytest.approx(0.3)
    of_another.observe(reading, {"clip_cov_ratio": 3.0, "clip_cov_ratio/book": 3.0})
    assert of_another.of("words").controlled["kl"] == 0.1


def test_it_goes_on_from_its_state_and_an_environment_that_joins_begins() -> None:
    by = {"words": "repo_adaptive", "book": "clip_cov"}
    rows = played(vocabulary())

    def fresh(names: Sequence[str] = NAMES) -> AnyObjective:
        return make_objective(config(by=by), names, seed=3)

    one = fresh()
    learnt(one, rows)
    one.observe(MixCorrectedEntropy().observe({"words/3": (1.0, 10), "book/a": (1.0, 10)}), {})
    other = fresh([*NAMES, "lake"])
    other.load_state(one.state())
    assert other.state()["by"].items() >= one.state()["by"].items()
    assert torch.equal(learnt(other, rows)[0], learnt(one, rows)[0])
    with pytest.raises(ObjectiveError, match=r"\['book', 'words'\] too"):
        fresh(["lake"]).load_state(one.state())


def test_a_fork_that_gives_other_environments_an_objective_begins_their_controllers_anew() -> None:
    before = make_objective(config(preset="repo_r", by={"book": "grpo"}), [*NAMES, "lake"])
    before.observe(MixCorrectedEntropy().observe({"words/3": (1.0, 10), "lake/a": (1.0, 10)}), {})
    after = make_objective(config(preset="repo_r", by={"words": "grpo"}), [*NAMES, "lake"])
    anew = after.load_state(before.state())
    assert anew == ["the objective's controllers of book", "the objective's controllers of words"]
    assert after.of("lake").controlled == before.of("lake").controlled


@pytest.mark.parametrize(
    ("before", "now", "anew"),
    [
        ({"preset": "rloo"}, {"preset": "rloo", "by": {"book": "dapo"}}, []),
        ({"preset": "rloo", "by": {"book": "dapo"}}, {"preset": "rloo"}, []),
        ({"preset": "repo_r"}, {"preset": "rloo", "by": {"book": "dapo"}}, ["the objective's controllers"]),
        ({"preset": "rloo", "by": {"book": "dapo"}}, {"preset": "repo_r"}, ["the objective's controllers"]),
    ],
)
def test_a_fork_from_one_objective_to_several_names_what_there_is_to_begin_anew(
    before: dict[str, Any], now: dict[str, Any], anew: list[str]
) -> None:
    parent, fork = (make_objective(config(**section), NAMES) for section in (before, now))
    fresh = fork.state()
    assert fork.load_state(json.loads(json.dumps(parent.state()))) == anew
    assert fork.state() == fresh


@pytest.mark.parametrize("is_from_one", [True, False])
def test_what_parts_remember_is_named_where_objectives_are_shared_in_another_way(*, is_from_one: bool) -> None:
    one, several = (make_objective(config(preset="siren", **own), NAMES) for own in ({}, {"by": {"book": "siren"}}))
    parent, fork = (one, several) if is_from_one else (several, one)
    parent.of("book")._memory("siren").kept["anchor"] = 1.0
    assert fork.load_state(parent.state()) == ["what `siren` remembers"]


def test_a_state_of_no_objective_is_refused() -> None:
    with pytest.raises(ObjectiveError, match=r"missing \['by'\]"):
        make_objective(config(by={"book": "dapo"}), NAMES).load_state({})


def test_what_a_pass_has_one_of_cannot_be_two_things() -> None:
    section = config(by={"words": "siren", "book": "entropy_bonus"})
    with pytest.raises(ObjectiveError, match="shares of the vocabulary"):
        make_objective(section, NAMES)
    two = {"words": "siren", "book": "siren"}
    assert isinstance(make_objective(config(by=two), NAMES), ObjectiveByEnvironment)
    filters = {"words": "lp_reg", "book": {"preset": "lp_reg", "lp_reg_kappa": 0.5}}
    with pytest.raises(ObjectiveError, match="filter"):
        make_objective(config(by=filters), NAMES)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"by": {"words": {"by": {"book": "dapo"}}}}, "an environment has one objective"),
        ({"by": {"words": {"preset": "dapo", "reward": "correct"}}}, "a run has one"),
        ({"by": {"words": {"reading": "raw"}}}, "one number of a whole step"),
        ({"by": {"words": {"no_such_key": 1}}}, "no key `no_such_key`"),
        ({"by": {"words": "no_such_preset"}}, "no preset"),
        ({"by": ["words"]}, "dictionary"),
        ({"by": {"words": 3}}, "valid"),
    ],
)
def test_what_cannot_be_is_refused(section: Mapping[str, Any], said: str) -> None:
    with pytest.raises((ValidationError, ObjectiveError), match=said):
        config(**section)


def test_one_without_a_preset_is_laid_over_the_section() -> None:
    made = config(preset="repo_r", reward="correct", clip_high=0.5, by={"words": {"strength": 0.03}, "book": "dapo"})
    assert (made.by["words"].preset, made.by["words"].options["strength"]) == ("repo_r", 0.03)
    assert made.by["words"].options["clip_high"] == 0.5
    assert made.by["book"].preset == "dapo"
    assert made.by["book"].options["clip_high"] == config(preset="dapo").options["clip_high"]
    assert {one.reward for one in made.by.values()} == {"correct"}
    assert ObjectiveConfig.model_validate(made.model_dump(mode="json")) == made
    assert "by" not in config(preset="repo_r").model_dump()
