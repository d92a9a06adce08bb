import json
import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from policies.objectives import ObjectiveError
from policies.objectives.controllers import log_affine
from policies.objectives.estimators import rloo
from policies.objectives.parts import Controller
from policies.objectives.shapers import repo

V0 = 0.05


def adaptive(start: float = V0, **options: float) -> Controller:
    return log_affine.create(log_affine.Config(**options), start)


def settled(reading: float, **options: float) -> float:
    """Where the value comes to under one reading for long."""
    controller = adaptive(**options)
    for _ in range(50):
        controller.update(reading)
    return controller.value


@pytest.mark.parametrize(
    ("reading", "value"),
    [
        (0.6, 0.05),  # at the target: the start
        (0.6 * math.e, -0.01),  # every factor e is worth the gain, .06
        (0.6 / math.sqrt(math.e), 0.08),
        (1.0, 0.05 + 0.06 * math.log(0.6)),  # .0194
        (0.6 * math.exp(5 / 6), 0.0),  # 1.38
        (0.6 * math.exp(-5 / 6), 0.1),  # .26, where the bound begins
        (0.01, 0.1),
        (100.0, -0.1),
    ],
)
def test_a_reading_decides_where_the_value_rests(reading: float, value: float) -> None:
    assert settled(reading) == pytest.approx(value)


def test_the_value_is_worked_out_by_these_steps() -> None:
    controller = adaptive(target=0.5, gain=0.04, high=0.08, step=0.02)
    values = [controller.update(reading) for reading in (0.5, 0.5 / math.e, 0.5 / math.e, 0.5 * math.e**3)]
    assert values == pytest.approx([0.05, 0.07, 0.08, 0.06])


@pytest.mark.parametrize("reading", [1e-6, 1e6])
def test_no_reading_moves_it_further_than_a_step(reading: float) -> None:
    controller = adaptive()
    before = controller.value
    for _ in range(30):
        after = controller.update(reading)
        assert abs(after - before) <= 0.01 + 1e-12
        before = after
    assert controller.is_at_bound


def test_from_bound_to_bound_takes_20_steps() -> None:
    controller = adaptive(start=0.1)
    values = [controller.update(1e6) for _ in range(20)]
    assert values[-2] > -0.1
    assert values[-1] == pytest.approx(-0.1)


@pytest.mark.parametrize("reading", [None, math.nan, 0.0])
def test_without_a_reading_it_stays(reading: float | None) -> None:
    controller = adaptive()
    controller.update(0.3)
    before = controller.value
    assert controller.update(reading) == before


def test_a_saved_one_goes_on_identically() -> None:
    controller, resumed = adaptive(), adaptive()
    controller.update(0.2)
    resumed.load_state(json.loads(json.dumps(controller.state())))
    assert resumed.update(0.3) == controller.update(0.3)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ObjectiveError, match="log_affine controller starts"):
        adaptive(start=0.2)
    with pytest.raises(ValidationError):
        log_affine.Config(gain=-0.1)


# A toy: tables over 8 actions, 16 samples a step, exact softmax policy gradient. Readings are fractions of log 8.
TABLES, SAMPLES, ACTIONS, STEP_SIZE = 64, 16, 8, 8.0


class Toy:
    """Tables that learn under a controller; without one the strength is 0."""

    def __init__(self, logits: Tensor, controller: Controller | None) -> None:
        self.logits, self.controller = logits, controller
        self.readings: list[float] = []
        self._generator = torch.Generator().manual_seed(0)

    def learn(self, reward: Tensor, num_steps: int, start: float = 1.0) -> float:
        """Give the mean reward of the last step; `start` is the entropy at the start, which readings are parts of."""
        group_B = torch.arange(TABLES).repeat_interleave(SAMPLES)
        for _ in range(num_steps):
            p = self.logits.softmax(-1)
            action = torch.multinomial(p, SAMPLES, replacement=True, generator=self._generator)
            lp, entropy = p.log().gather(-1, action), -(p * p.log()).sum(-1)
            advantage = rloo.estimate(reward.gather(-1, action).flatten(), group_B).view_as(lp)
            beta = self.controller.value if self.controller else 0.0
            shaped = repo.shape(advantage, lp + entropy[:, None], beta)
            pull = torch.zeros_like(p).scatter_add_(-1, action, shaped / SAMPLES)
            self.logits = self.logits + STEP_SIZE * (pull - p * shaped.mean(-1, keepdim=True))
            self.readings.append(float(entropy.mean()) / math.log(ACTIONS) / start)
            if self.controller:
                self.controller.update(self.readings[-1])
        return float((p * reward).sum(-1).mean())


def test_an_entropy_that_ran_away_comes_back_where_nothing_opposes_the_push() -> None:
    logits = torch.zeros(TABLES, ACTIONS, dtype=torch.float64)
    logits[:, 0] = 3.0
    toy = Toy(logits, adaptive())
    toy.learn(torch.zeros_like(logits), 400, start=0.1)  # the policy may be ten times as uncertain as at its start
    assert toy.readings[0] > 5
    assert 0.3 <= toy.readings[-1] <= 2


@pytest.mark.parametrize(("is_controlled", "low", "high"), [(True, 0.85, 1.0), (False, 0.0, 0.75)])
def test_what_is_rewarded_anew_is_learnt_again_where_plain_rloo_no_longer_tries(
    is_controlled: bool, low: float, high: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    toy = Toy(
        0.3 * torch.randn(TABLES, ACTIONS, generator=generator, dtype=torch.float64),
        adaptive() if is_controlled else None,
    )
    for _ in range(2):
        good = torch.rand(TABLES, ACTIONS, generator=generator).argsort(-1)[:, :2]
        reward = torch.zeros(TABLES, ACTIONS, dtype=torch.float64).scatter_(-1, good, 1.0)
        accuracy = toy.learn(reward, 300)
    assert low <= accuracy <= high
