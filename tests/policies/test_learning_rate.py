"""The learning rate against the schedulers of transformers, update by update."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from policies.config import LearnerConfig, PolicyConfig
from policies.errors import PolicyError
from policies.learner import Learner
from policies.learning_rate import Span, fall, rise
from policies.samplers.testing import random_policy
from tests.policies.fakes import Surrogate, random_batch

STEPS, UPDATES = 9, 3
TOTAL = STEPS * UPDATES


def config(**options: object) -> LearnerConfig:
    return LearnerConfig.model_validate({"lr": 0.2, "warmup": 4, **options}).resolved(PolicyConfig())


def theirs(make, warmup: int, **options: object) -> list[float]:  # type: ignore[no-untyped-def]
    """Rates of TOTAL updates and what would come then, by one of transformers' schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    scheduler = make(optimizer, num_warmup_steps=warmup, **options)
    rates = []
    for _ in range(TOTAL + 1):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def ours(options: LearnerConfig, has_warmup: bool = True) -> list[float]:
    """Rates of the same updates, three a step."""
    assert options.lr is not None
    return [
        options.lr
        * (rise(options, step * UPDATES + update) if has_warmup else 1.0)
        * fall(options, Span(step, STEPS, has_warmup), update, UPDATES)
        for step in range(STEPS)
        for update in range(UPDATES)
    ]


@pytest.mark.parametrize("warmup", [0, 1, 4, 20])
@pytest.mark.parametrize(
    ("schedule", "make", "options"),
    [
        ("constant", get_constant_schedule_with_warmup, {}),
        ("linear", get_linear_schedule_with_warmup, {"num_training_steps": TOTAL}),
        ("cosine", get_cosine_schedule_with_warmup, {"num_training_steps": TOTAL}),
        (
            {"type": "cosine", "end": 0.1},
            get_cosine_with_min_lr_schedule_with_warmup,
            {"num_training_steps": TOTAL, "min_lr_rate": 0.1},
        ),
    ],
    ids=["constant", "linear", "cosine", "cosine to a tenth"],
)
def test_rates_are_those_of_transformers(schedule, make, options, warmup: int) -> None:  # type: ignore[no-untyped-def]
    """After the warm-up at the same update; within it one further, since our first update has a share of the rate."""
    found, expected = ours(config(schedule=schedule, warmup=warmup)), theirs(make, warmup, **options)
    assert found[warmup:] == pytest.approx(expected[warmup:TOTAL], rel=1e-12, abs=1e-15)
    assert found[:warmup] == pytest.approx(expected[1 : warmup + 1], rel=1e-12)


def test_worked_numbers() -> None:
    """27 updates of which 3 rise: the fourth has the whole rate, half of the other 24 leave half of it."""
    rates = ours(config(schedule={"type": "linear", "end": 0.5}, warmup=3))
    assert rates[:4] == pytest.approx([0.2 / 3, 0.4 / 3, 0.2, 0.2])
    assert rates[15] == pytest.approx(0.2 * 0.75)
    assert rates[26] == pytest.approx(0.2 * (0.5 + 0.5 / 24))
    guide = config(schedule="linear", warmup=2)  # docs/running.md
    rates = [rise(guide, step) * fall(guide, Span(step, 8), 0, 1) for step in range(8)]
    assert rates == pytest.approx([1 / 2, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    later = ours(config(schedule="cosine", warmup=3), has_warmup=False)
    assert later[0] == 0.2, "a stage that goes on with the optimiser falls from its first update on"
    assert later[9] == pytest.approx(0.2 * 0.75)  # a third of the way: cos(pi / 3) = 1/2


def test_a_learner_applies_and_tells_the_rate_of_each_update() -> None:
    learner = Learner(random_policy(), config(schedule="linear", warmup=2, updates=2))
    batch, seen = random_batch(len(learner.policy.tokenizer)), []
    real = learner.optimizer.step
    learner.optimizer.step = lambda lr, refuses: seen.append(lr) or real(lr)  # type: ignore[method-assign, func-returns-value]
    reports = [learner.update(batch, Surrogate(), span=Span(step, 3)) for step in range(3)]
    assert seen == pytest.approx([0.1, 0.2, 0.2, 0.15, 0.1, 0.05])
    assert [report.lr for report in reports] == pytest.approx([0.2, 0.15, 0.05])


def test_skipped_updates_hold_the_rise_up_and_not_the_fall() -> None:
    learner = Learner(random_policy(), config(schedule="linear", warmup=2))
    batch = random_batch(len(learner.policy.tokenizer))
    learner.update(batch, Surrogate(), span=Span(0, 6))
    whole = learner.optimizer.step
    learner.optimizer.step = lambda lr, refuses: (float("nan"), False)  # type: ignore[method-assign]
    for step in (1, 2, 3):
        skipped = learner.update(batch, Surrogate(), span=Span(step, 6))
    learner.optimizer.step = whole  # type: ignore[method-assign]
    assert (skipped.num_updates, skipped.num_skipped) == (0, 1)
    assert learner.update(batch, Surrogate(), span=Span(4, 6)).lr == pytest.approx(0.2 * 1.0 * 0.5)


def test_what_falls_wants_to_know_where_the_run_stands() -> None:
    learner = Learner(random_policy(), config(schedule="cosine"))
    with pytest.raises(PolicyError, match="pass where it stands, as `span`"):
        learner.update(random_batch(len(learner.policy.tokenizer)), Surrogate())


@pytest.mark.parametrize(
    "options", [{"over": "stage"}, {"end": 0.5}, {"type": "linear", "end": 1.0}, {"type": "cosin"}, "polynomial"]
)
def test_what_means_nothing_is_refused(options: object) -> None:
    with pytest.raises(ValueError, match=r"constant learning rate does not fall|less than 1|'linear' or 'cosine'"):
        config(schedule=options)
