"""The spec a run began with, and those that go on from it."""

from __future__ import annotations

import pytest

from orchestrator.runs.kept_spec import KeptSpec, outside_study
from orchestrator.spec import load_spec
from tests.orchestrator.specs import alone


def test_a_fork_of_a_run_of_a_study_is_in_no_experiment_of_it() -> None:
    member = load_spec(alone() | {"tracker": {"type": "mlflow", "experiment": "two_objectives"}})
    assert outside_study(member, "two_objectives").tracker.experiment == "evergreen"
    assert outside_study(member, None).tracker.experiment == "two_objectives", "its own name for it"
    own = load_spec(alone() | {"tracker": {"type": "mlflow", "experiment": "mine"}})
    assert outside_study(own, "two_objectives") == own


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("group_size", 4, "`evergreen fork alone --stage N --set environments.one.episodes.group_size=4` begins"),
        ("max_turns", 4, "for another environments.one.episodes.max_turns begin a new run"),
    ],
)
def test_what_was_edited_of_an_environments_episodes_is_told_what_may_become_of_it(
    key: str, value: int, said: str
) -> None:
    held = load_spec(alone())
    edited = load_spec(held, [f"environments.one.episodes.{key}={value}"])
    (text,) = KeptSpec(held, edited).said(held)
    assert said in text


def test_edited_turns_of_the_sampler_are_no_fork_where_every_environment_has_its_own() -> None:
    free, own = load_spec(alone()), load_spec(alone(episodes={"max_turns": 3}))
    for held, said in (
        (free, "fork alone --stage N --set sampler.max_turns=4"),
        (own, "for another sampler.max_turns"),
    ):
        (text,) = KeptSpec(held, load_spec(held, ["sampler.max_turns=4"])).said(held)
        assert said in text
