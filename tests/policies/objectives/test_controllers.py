import itertools
import json
import math
from collections.abc import Callable, Iterator

import pytest
from pydantic import ValidationError

from policies.objectives import ObjectiveError, registry
from policies.objectives.controllers import (
    adaptive_kl,
    affine,
    band,
    dual_ascent,
    geometric,
    geometric_signed,
    log_affine,
    pi,
    schedule,
    sign_step,
    signal_share,
    switch,
)
from policies.objectives.parts import Controller

Make = Callable[[], Controller]


def signed(start: float, target: float = 0.3) -> Controller:
    return geometric_signed.create(geometric_signed.Config(target=target), start)


def adapo() -> Controller:
    return geometric.create(geometric.Config(target=1.0, factor=1.1, low=0.05, high=1.0), 0.28)


def mai() -> Controller:
    config = sign_step.Config(target=0.3, target_in="nats", delta=0.25, low=1.5, high=4.0, tie="hold")
    return sign_step.create(config, 1.5)


def skywork() -> Controller:
    return sign_step.create(sign_step.Config(target=0.2, target_in="nats", gated=True), 0.0)


def entropic(**options: float) -> Controller:
    return pi.create(pi.Config(**{"target": 0.1, "target_in": "nats"} | options), 0.0)  # type: ignore[arg-type]


UP = [0.002, 0.004, 0.008, 0.016, 0.032, 0.05]
DOWN = [0.025, 0.0125, 0.00625, 0.003125, 0.0015625, 0.00078125, 0.000390625, 0.0001953125]


@pytest.mark.parametrize(
    ("start", "readings", "values"),
    [
        (1e-3, [0.2] * 6 + [0.4] * 11, [*UP, *DOWN, -0.0001, -0.0002, -0.0004]),
        (-1e-3, [0.4] * 6 + [0.2] * 11, [*(-v for v in UP), *(-v for v in DOWN), 0.0001, 0.0002, 0.0004]),
        (0.0, [0.2], [0.0001]),
        (0.0, [0.4], [-0.0001]),
        (1e-3, [0.3], [0.001]),
    ],
    ids=["up then down", "mirrored", "from 0 up", "from 0 down", "at the target"],
)
def test_the_signed_geometric_controller_doubles_halves_and_jumps_over_zero(
    start: float, readings: list[float], values: list[float]
) -> None:
    """Reference: objectives.md 8.2."""
    controller = signed(start)
    assert [controller.update(reading) for reading in readings] == pytest.approx(values)


def test_from_one_bound_to_the_other_takes_18_steps() -> None:
    """Reference: objectives.md 8.2."""
    controller = signed(0.05)
    steps = list(itertools.takewhile(lambda value: value > -0.05, iter(lambda: controller.update(1.0), None)))
    assert len(steps) + 1 == 18


def test_inside_a_dead_band_nothing_moves() -> None:
    """Reference: objectives.md 8.2."""
    controller = geometric_signed.create(geometric_signed.Config(target=0.5, dead_band=0.04), 1e-3)
    assert [controller.update(reading) for reading in (0.485, 0.515, 0.475, 0.525)] == [
        1e-3,
        1e-3,
        2e-3,
        1e-3,
    ]


def test_the_geometric_controller_multiplies_by_its_factor() -> None:
    """Reference: objectives.md 8.4."""
    controller = adapo()
    values = [controller.update(reading) for reading in (0.8, 0.7, 1.1, 1.0)]
    assert values == pytest.approx([0.308, 0.3388, 0.308, 0.308])


def test_the_sign_step_controller_adds_a_constant() -> None:
    """Reference: objectives.md 8.4."""
    controller = mai()
    upper = [1 + controller.update(reading) for reading in (0.2, 0.25, 0.4, 0.35, 0.3)]
    assert upper == pytest.approx([2.75, 3.0, 2.75, 2.5, 2.5])


@pytest.mark.parametrize(("tie", "value"), [("up", 1.75), ("hold", 1.5)])
def test_at_the_target_it_goes_up_or_holds(tie: str, value: float) -> None:
    """Reference: objectives.md 12.3."""
    config = sign_step.Config(target=0.3, delta=0.25, low=1.5, high=4.0, tie=tie)  # type: ignore[arg-type]
    assert sign_step.create(config, 1.5).update(0.3) == value


def test_skywork_is_gated_by_the_step_before() -> None:
    """Reference: objectives.md 12.3."""
    controller, acted = skywork(), []
    for reading in (0.25, 0.18, 0.15, 0.22, 0.19):
        acted.append(controller.value)
        controller.update(reading)
    assert acted == pytest.approx([0, 0, 1e-4, 2e-4, 0])
    assert controller.value == pytest.approx(2e-4)


@pytest.mark.parametrize(("kl", "expected"), [(0.12, 0.100512), (0.02, 0.099488)])
def test_the_adaptive_kl_controller_moves_by_at_most_a_fifth_a_horizon(kl: float, expected: float) -> None:
    """Reference: objectives.md 12.3."""
    controller = adaptive_kl.create(adaptive_kl.Config(target=0.1, samples=256, horizon=10_000), 0.1)
    assert controller.reads == "kl_ref"
    assert controller.update(kl) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("mu", "mean", "proxy_point", "expected"),
    [(0.0, 0.30, 0.23, -0.007), (1.0, 0.40, 0.48, 1.008)],
)
def test_dual_ascent_adds_the_violation(mu: float, mean: float, proxy_point: float, expected: float) -> None:
    """Reference: objectives.md 4.3."""
    config = dual_ascent.Config(metric="score", target=proxy_point, rate=0.1, low=-10, high=10)
    controller = dual_ascent.create(config, mu)
    assert controller.reads == "score"
    assert controller.update(mean) == pytest.approx(expected)


def test_the_pi_controller_answers_before_it_adds_the_error() -> None:
    """Reference: objectives.md 12.4."""
    controller = entropic()
    values = [controller.update(reading) for reading in (0.3, 0.25, 0.12, 0.08, 0.05)]
    assert values == pytest.approx([0.2, 0.152, 0.0235, -0.0163, -0.0465])


def test_nothing_is_added_up_while_it_is_saturated() -> None:
    """Reference: objectives.md 12.4."""
    controller = entropic()
    for _ in range(1000):
        controller.update(5.0)
    assert controller.value == 1.0
    assert controller.is_at_bound
    assert controller.update(0.1) == 0.0, "no error: what is left is the sum of the errors"


def test_the_sum_alone_can_do_no_more_than_the_bound() -> None:
    """Reference: objectives.md 12.4."""
    controller = entropic(kp=0.0)
    for _ in range(1000):
        controller.update(0.7)
    assert controller.update(0.0) == 1.0, "the last error to be added was of the other side"
    assert controller.update(0.0) == pytest.approx(0.999), "and the sum stood at the bound, not beyond"


def test_negative_gains_are_for_coefficients_that_raise_entropy() -> None:
    """Reference: objectives.md 12.4."""
    down, up = entropic(), entropic(kp=-1.0, ki=-0.01)
    for reading in (0.3, 0.25, 0.12, 0.08, 3.0, 0.05, 0.05):
        assert up.update(reading) == -down.update(reading)


@pytest.mark.parametrize(("reading", "on", "near"), [(0.2, 1.2, 1.2), (0.5, 1.2, 1.0), (0.9, 0.8, 0.8)])
def test_switch_and_affine(reading: float, on: float, near: float) -> None:
    """Reference: objectives.md 14.3."""
    two = switch.create(switch.Config(target=0.5, target_in="nats"), 1.0)
    line = affine.create(affine.Config(target=0.5, target_in="nats"), 1.0)
    assert two.update(reading) == on
    assert line.update(reading) == pytest.approx(near)


def test_the_schedule_of_epo() -> None:
    """Reference: objectives.md 11.6."""
    controller = schedule.create(schedule.Config(form="epo", steps=150), 1.0)
    values = [controller.value, *(controller.update(None) for _ in range(160))]
    epochs = [0, 37, 75, 76, 100, 150, 160]
    expected = [1, 0.8746, 0.8271, 0.7686, 0.2943, 0.0398, 0.0398]
    assert [values[epoch] for epoch in epochs] == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("form", "values"),
    [("linear", [0.775, 0.55, 0.325, 0.1, 0.1]), ("cosine", [0.868198, 0.55, 0.231802, 0.1, 0.1])],
)
def test_a_schedule_moves_without_a_reading(form: str, values: list[float]) -> None:
    controller = schedule.create(schedule.Config(form=form, steps=4, end=0.1), 1.0)  # type: ignore[arg-type]
    assert controller.reads is None
    assert [controller.update(None) for _ in values] == pytest.approx(values, abs=1e-6)


MAKERS: dict[str, Make] = {
    "geometric_signed": lambda: signed(1e-3),
    "geometric": adapo,
    "sign_step": skywork,
    "pi": entropic,
    "switch": lambda: switch.create(switch.Config(), 1.0),
    "affine": lambda: affine.create(affine.Config(), 1.0),
    "log_affine": lambda: log_affine.create(log_affine.Config(), 0.05),
    "band": lambda: band.create(band.Config(), 0.02),
    "signal_share": lambda: signal_share.create(signal_share.Config(), 0.02),
    "dual_ascent": lambda: dual_ascent.create(dual_ascent.Config(), 0.0),
    "adaptive_kl": lambda: adaptive_kl.create(adaptive_kl.Config(), 0.1),
    "schedule": lambda: schedule.create(schedule.Config(), 1.0),
}


def test_every_controller_is_made_here() -> None:
    assert sorted(MAKERS) == registry.names("controllers")


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "schedule"])
@pytest.mark.parametrize("reading", [None, math.nan, math.inf])
def test_a_missing_reading_changes_nothing(name: str, reading: float | None) -> None:
    controller = MAKERS[name]()
    controller.update(0.15)
    before = controller.state()
    controller.update(reading)
    assert controller.state() == before


def test_geometric_stays_in_its_bounds_and_says_so() -> None:
    controller = adapo()
    for _ in range(60):
        controller.update(0.1)
    assert controller.value == 1.0
    assert controller.is_at_bound
    for _ in range(60):
        controller.update(2.0)
    assert controller.value == 0.05


@pytest.mark.parametrize("name", ["sign_step", "affine", "dual_ascent", "pi"])
@pytest.mark.parametrize("reading", [0.0, 1e6])
def test_the_others_stay_in_their_bounds_and_say_so(name: str, reading: float) -> None:
    controller = MAKERS[name]()
    for _ in range(2000):
        controller.update(reading)
    ends = {"sign_step": (0.005, 0.0), "affine": (1.2, 0.8), "dual_ascent": (10.0, 0.0), "pi": (-1.0, 1.0)}
    end = ends[name][reading > 0]
    assert controller.value == pytest.approx(end)
    assert controller.is_at_bound == (controller.value != 0 or name == "sign_step")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_saved_controller_goes_on_as_if_uninterrupted(make: Make) -> None:
    """Reference: objectives.md 18."""
    readings = [0.1, 0.2, 0.4, 1.2, 0.9, 1.1, 0.3]
    whole, first, second = make(), make(), make()
    expected = [whole.update(reading) for reading in readings]
    for reading in readings[:3]:
        first.update(reading)
    second.load_state(json.loads(json.dumps(first.state())))
    assert [second.update(reading) for reading in readings[3:]] == expected[3:]
    assert second.state() == whole.state()


@pytest.mark.parametrize("make", [lambda: signed(1e-3), adapo], ids=["geometric_signed", "geometric"])
def test_what_earlier_versions_saved_is_read(make: Make) -> None:
    controller = make()
    controller.load_state({"value": 0.05})
    assert controller.state() == make().state() | {"value": 0.05}


@pytest.mark.parametrize("state", [{}, {"value": 1.0, "integral": 0.0}, {"value": math.nan}])
def test_a_state_that_does_not_fit_is_refused(state: dict[str, float]) -> None:
    with pytest.raises(ObjectiveError, match="saved"):
        adapo().load_state(state)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: sign_step.create(sign_step.Config(), 1.0), "sign_step"),
        (lambda: pi.create(pi.Config(), -1.5), "pi"),
        (lambda: switch.create(switch.Config(), 2.0), "switch"),
        (lambda: affine.create(affine.Config(), 0.0), "affine"),
        (lambda: dual_ascent.create(dual_ascent.Config(), -1.0), "dual_ascent"),
        (lambda: geometric.create(geometric.Config(), 0.0), "geometric"),
        (lambda: geometric_signed.create(geometric_signed.Config(), 0.1), "geometric_signed"),
        (lambda: adaptive_kl.create(adaptive_kl.Config(), 0.0), "above 0"),
    ],
)
def test_a_start_that_leads_nowhere_is_refused(make: Make, word: str) -> None:
    with pytest.raises(ObjectiveError, match=word):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: affine.Config(low=2.0),
        lambda: pi.Config(kp=1.0, ki=-1.0),
        lambda: schedule.Config(form="epo", end=0.1),
        lambda: dual_ascent.Config(metric="kl_ref", target_in="nats"),
        lambda: geometric.Config(target_end=0.5),
        lambda: geometric.Config(target_steps=5),
    ],
)
def test_options_that_contradict_each_other_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValidationError):
        make()


# Section 18: a closed loop on a toy policy. One softmax over 4 actions; its entropy is driven down by a constant pull
# on the likeliest action and up by the coefficient, each as a step on the logits.
def closed_loop(controller: Controller, force: float, low: float, steps: int = 600) -> Iterator[float]:
    """Entropies in nats, step by step; a coefficient of `low` is no force, of `low + force` the whole of it."""
    logits = [0.6, 0.1, -0.2, -0.5]
    for _ in range(steps):
        weights = [math.exp(logit) for logit in logits]
        p = [weight / sum(weights) for weight in weights]
        entropy = -sum(q * math.log(q) for q in p)
        yield entropy
        strength = 0.08 * (controller.value - low) / force
        likeliest = p.index(max(p))
        for k, q in enumerate(p):
            pull = 0.02 * ((k == likeliest) - q)
            push = -strength * q * (math.log(q) + entropy)
            logits[k] += pull + push
        controller.update(entropy)


LOOPS: dict[str, tuple[Make, float, float]] = {
    "geometric_signed": (lambda: signed(1e-3, 0.8), 0.05, 0.0),
    "geometric": (lambda: geometric.create(geometric.Config(target=0.8), 1e-3), 0.05, 0.0),
    "sign_step": (lambda: sign_step.create(sign_step.Config(target=0.8), 0.0), 5e-3, 0.0),
    "sign_step gated": (lambda: sign_step.create(sign_step.Config(target=0.8, gated=True), 0.0), 5e-3, 0.0),
    "pi": (lambda: pi.create(pi.Config(target=0.8, kp=-1.0, ki=-0.01), 0.0), 0.5, 0.0),
    "switch": (lambda: switch.create(switch.Config(target=0.8), 1.0), 0.4, 0.8),
    "affine": (lambda: affine.create(affine.Config(target=0.8, gain=4.0), 1.0), 0.4, 0.8),
    "dual_ascent": (lambda: dual_ascent.create(dual_ascent.Config(target=0.8, rate=0.05), 0.0), 1.0, 0.0),
}


@pytest.mark.parametrize(("make", "force", "low"), LOOPS.values(), ids=LOOPS)
def test_a_closed_loop_reaches_its_band_and_stays(make: Make, force: float, low: float) -> None:
    """Reference: objectives.md 18."""
    entropies = list(closed_loop(make(), force, low))
    assert entropies[0] > 1.2
    assert 0.8 * 0.8 < min(entropies[300:]) <= max(entropies[300:]) < 0.8 * 1.25


def test_without_a_controller_the_same_policy_collapses() -> None:
    """Reference: objectives.md 18."""
    frozen = schedule.create(schedule.Config(), 0.0)
    assert list(closed_loop(frozen, 1.0, 0.0))[-1] < 0.8 / 2


def test_a_closed_loop_of_the_kl_reaches_its_band_and_stays() -> None:
    """Reference: objectives.md 18."""
    # The KL grows with every step away from the reference; the penalty pulls back in proportion to the coefficient.
    controller = adaptive_kl.create(adaptive_kl.Config(target=0.1, horizon=500), 0.01)
    distance, tail = 0.0, []
    for step in range(1200):
        distance += 0.05 - 0.5 * controller.value * distance
        controller.update(distance**2 / 2)
        tail += [distance**2 / 2] if step >= 600 else []
    assert 0.08 < min(tail) <= max(tail) < 0.125


@pytest.mark.parametrize("value", [0.4, -0.4, 0.02])
def test_a_loaded_value_is_inside_the_bounds(value: float) -> None:
    for narrow in (
        geometric.create(geometric.Config(low=1e-3, high=0.05), 0.01),
        geometric_signed.create(geometric_signed.Config(high=0.05), 0.01),
        log_affine.create(log_affine.Config(high=0.05), 0.01),
        signal_share.create(signal_share.Config(high=0.05), 0.01),
        pi.create(pi.Config(bound=0.05), 0.01),
        affine.create(affine.Config(low=0.0, high=0.05), 0.01),
    ):
        narrow.load_state({**narrow.state(), "value": value})
        low, high = narrow.config.reach[0], narrow.config.reach[-1]  # type: ignore[attr-defined]
        assert narrow.value == max(low, min(value, high)), narrow
    made = band.create(band.Config(high=0.05), 0.01)
    made.load_state({**made.state(), "inside": {"a": value}, "room": {"a": 1.0}})
    assert made.strengths == {"a": max(0.0, min(value, 0.05))}


def test_a_loaded_value_that_a_rounding_left_outside_of_the_bounds_stays() -> None:
    one = signal_share.create(signal_share.Config(high=0.3), 0.0)
    one.load_state({**one.state(), "value": math.nextafter(0.3, 1)})
    assert one.value == math.nextafter(0.3, 1)


def test_a_gate_that_is_shut_stays_shut_and_its_level_is_inside_the_bounds() -> None:
    config = sign_step.Config(low=1e-3, high=5e-3, gated=True)
    one = sign_step.create(config, 2e-3)
    one.load_state({**one.state(), "value": 0.0, "level": 0.1})
    assert (one.value, one.kept["level"]) == (0.0, 5e-3)
    one.load_state({**one.state(), "value": 0.1, "level": 0.1})
    assert (one.value, one.kept["level"]) == (5e-3, 5e-3)
