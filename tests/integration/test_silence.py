"""Training without any signal is told: an alarm after ten steps, and which share of the groups taught anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.callbacks import Callback
from tests.conftest import Evergreen
from tests.integration.runs import component, ending, told
from tests.orchestrator.specs import FAKE, alone


class Alarmed(Callback):
    """Keeps what people are told of the run."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def event(self, texts: Sequence[str]) -> None:
        """Note alarms."""
        self.texts += [text for text in texts if "had a signal" in text]


def silent(character: str = "hopeless", **sections: Any) -> dict[str, Any]:
    return {**alone(steps=12, stages=1, character=character), **sections}


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Alarmed]:
    """A home with a finished run without any signal, and what people heard of it."""
    home, heard = tmp_path_factory.mktemp("hopeless"), Alarmed()
    orchestrator.run(silent(), home=home, watcher=heard)
    return home, heard


@pytest.mark.parametrize(
    ("character", "said"),
    [
        ("hopeless", ["none of 40 answers was correct", "`curriculum: {stage: {stop: [dead_signal]}}`"]),
        ("generous", ["all 40 answers were correct"]),
        ("undecided", []),  # has its own end: nothing can be scored
    ],
)
def test_ten_steps_without_signal_raise_one_alarm(
    hopeless: tuple[Path, Alarmed], tmp_path: Path, character: str, said: list[str]
) -> None:
    home, heard = hopeless if character == "hopeless" else (tmp_path, Alarmed())
    if home == tmp_path:
        orchestrator.run(silent(character), home=home, watcher=heard)
    assert len(heard.texts) == bool(said)
    for word in said:
        assert word in heard.texts[0]
    events = [event for event in told(home, "alone")["events"] if "had a signal" in event["text"]]
    assert [(event["kind"], event["step"]) for event in events] == [("alarm", 10)] * bool(said)


def test_an_estimator_that_does_not_compare_inside_groups_needs_no_spread(tmp_path: Path) -> None:
    heard = Alarmed()
    orchestrator.run(silent("generous", objective={"estimator": "reinforce"}), home=tmp_path, watcher=heard)
    assert heard.texts == []


def test_silence_outlives_a_stop(hopeless: tuple[Path, Alarmed], tmp_path: Path) -> None:
    """Right before the alarm, and right after it."""
    heard = Alarmed()
    orchestrator.run(silent(name="cut"), home=tmp_path, watcher=heard, until_step=9)
    assert heard.texts == []
    for until in (10, None):
        orchestrator.resume("cut", home=tmp_path, watcher=heard, until_step=until)
        assert len(heard.texts) == 1
    assert component(tmp_path, "cut", "progress")["silence"] == {"one": [12, 0, 48]}
    assert ending(tmp_path, "cut") == ending(hopeless[0], "alone")


def test_replay_does_not_hide_that_the_stage_is_silent(tmp_path: Path) -> None:
    kinds = {
        name: {"type": FAKE, "in_process": True, "character": of} for name, of in (("one", "hopeless"), ("b", "noisy"))
    }
    stage = {"steps": 12, "replay": 0.5, "from": "all"}
    curriculum = {"stages": 1, "scheduler": {"type": "sequence", "order": ["one"]}, "stage": stage}
    heard = Alarmed()
    orchestrator.run(
        silent(environments=kinds, curriculum=curriculum, step={"groups": 4, "group_size": 4}),
        home=tmp_path,
        watcher=heard,
    )
    assert len(heard.texts) == 1
    assert "no group of one had a signal in the last 10 steps that were its own" in heard.texts[0]


@pytest.mark.parametrize(("reward", "least", "most"), [("value", 0.9, 1.0), ("correct", 0.0, 0.0)])
def test_what_the_objective_reads_is_what_teaches(tmp_path: Path, reward: str, least: float, most: float) -> None:
    """`noisy` gives values that differ, and calls none of them correct."""
    orchestrator.run(silent("noisy", objective={"preset": "rloo", "reward": reward}), home=tmp_path)
    (row,) = told(tmp_path, "alone")["taught"]
    assert (row["environment"], row["category"], row["num_groups"]) == ("one", "easy", 24)
    assert least <= row["num_taught"] / row["num_groups"] <= most


def test_show_and_the_report_say_what_share_of_the_groups_taught(
    hopeless: tuple[Path, Alarmed], evergreen: Evergreen
) -> None:
    home, _ = hopeless
    sentence = "Of 24 groups 0% had a signal; in the others all samples earned the same."
    assert sentence in evergreen("show", "alone", "--home", home).stdout.replace("\n", " ")
    assert sentence in (home / "alone" / "report.html").read_text()
