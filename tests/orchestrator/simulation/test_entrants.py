"""Who competes, as a user names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.simulation.candidates import entrants_of, read_named, usual
from orchestrator.simulation.worlds import WORLDS, find_world
from orchestrator.spec.fields import DEFAULT_TYPES


def labels(world: str, *bandits: str, schedulers: tuple[str, ...] = (), file: Path | None = None) -> list[str]:
    return [one.label for one in entrants_of(find_world(world), bandits, schedulers, file)]


def test_policies_are_named_after_what_was_given() -> None:
    found = labels("b", "sec", "{type: sec, temperature: 0.05}", "oracle", "sec")
    assert found == ["sec", "sec temperature=0.05", "oracle"]


def test_in_worlds_of_stages_every_bandit_meets_every_scheduler() -> None:
    given = labels("d", "sec", "uniform", schedulers=("none", "{type: boltzmann, reward: gain}"))
    assert given == [
        "no stages, sec",
        "boltzmann reward=gain, sec",
        "no stages, uniform",
        "boltzmann reward=gain, uniform",
    ]
    assert labels("d", "thompson") == [f"{DEFAULT_TYPES['schedulers']}, thompson"]
    assert labels("d", schedulers=("gap",)) == [f"gap, {DEFAULT_TYPES['bandits']}"]


def test_a_file_names_its_own(tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text("plain: uniform\nsharp: {type: sec, temperature: .05}\n")
    assert labels("b", "sec", file=file) == ["sec", "plain", "sharp"]
    file.write_text("turns: {scheduler: round_robin}\nmixed: {bandit: uniform, scheduler: none}\n")
    assert labels("d", file=file) == ["turns", "mixed"]
    with pytest.raises(UserError, match="turns: world b has no stages"):
        labels("b", file=file)


def test_two_different_ones_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text("sec: uniform\n")
    with pytest.raises(UserError, match="two different policies are called 'sec'"):
        labels("b", "sec", file=file)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("secc", "--bandit secc: bandit: 'secc' is not one of the bandits.*Did you mean 'sec'"),
        ("{type: sec, temprature: 1}", "unknown key. Did you mean 'temperature'"),
        ("{type: sec", "is not valid YAML"),
        ("5", "a bandit is a name or a map"),
        ("{type: sec, temperature: -1}", "temperature: input should be greater than 0, not -1"),
    ],
)
def test_mistakes_name_the_option_and_the_remedy(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_named([text], "bandit")


@pytest.mark.parametrize("world", [world.name for world in WORLDS])
def test_every_world_has_a_usual_handful(world: str) -> None:
    found = [one.label for one in usual(find_world(world))]
    assert 4 <= len(found) == len(set(found)) <= 9
    assert "uniform" in found[0]
