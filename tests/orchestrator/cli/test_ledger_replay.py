"""The live view has two feeders: a run's own callbacks, and its ledger. They give the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import orchestrator
from orchestrator.callbacks import Callback
from orchestrator.cli.ledger_replay import LedgerReplay, recalled
from orchestrator.cli.run_state import Course, Outline, RunState
from orchestrator.progress import Progress
from orchestrator.runs.catalog import opened
from store.ledger import Ledger
from store.records import BoundaryRecord, EventRecord, StepRecord
from tests.orchestrator.specs import Raw, alone, flat, small
from tests.shares import share
from tests.store.ledger.example import STEPS_A_STAGE, step_record, write

LOOKING = small(
    "compared",
    objective="repo_r",
    evaluate={"items": 2, "samples": 4, "every": 2},
    scoring={"isolation": "none"},
)


class Compared(Course):
    """Hears a run; after every step and boundary it looks what the ledger says of the same moment."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.home, self.name = home, ""
        self.pairs: list[tuple[RunState, RunState]] = []

    def begin(self, name: str, folder: str) -> None:
        super().begin(name, folder)
        self.name = name

    def event(self, texts: Sequence[str]) -> None:
        super().event(texts)
        if self.snapshot().standings:
            self.pairs.append((self.snapshot(), recalled(self.home, self.name).snapshot()))


@pytest.mark.parametrize("spec", share([LOOKING, flat("compared")], 1))
@pytest.mark.slow
def test_both_feeders_give_equal_snapshots_at_every_moment(tmp_path: Path, spec: Raw) -> None:
    compared = Compared(tmp_path)
    orchestrator.run(spec, home=tmp_path, watcher=compared)
    assert len(compared.pairs) >= 9 + 4
    for heard, read in compared.pairs:
        assert heard == read
    assert compared.pairs[-1][0].reward is not None
    assert compared.pairs[-1][0].arms


def test_a_run_that_goes_on_recalls_its_past(tmp_path: Path) -> None:
    orchestrator.run(alone("past", steps=4), home=tmp_path, until_step=5)
    before = recalled(tmp_path, "past").snapshot()
    assert (before.step, before.stage, before.stage_step, before.after_stage) == (5, 2, 1, 1)
    assert len(before.standings) == 1
    assert before.event is None, "how it ended is not news of its course"


class Counting(Callback):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def stage(self, at: Progress) -> None:
        self.heard.append(f"stage {at.stage} {at.environment}")

    def step(self, at: Progress, record: StepRecord) -> None:
        self.heard.append(f"step {record.step}")

    def boundary(self, at: Progress, record: BoundaryRecord) -> None:
        self.heard.append(f"boundary {record.after_stage}")

    def event(self, texts: Sequence[str]) -> None:
        self.heard += texts


def test_the_news_come_once_and_in_order(finished: Path) -> None:
    with opened(finished, "small") as (_, ledger):
        retelling = LedgerReplay(ledger.reading, "small", Outline.of(ledger.reading.spec("small")))
        watcher = Counting()
        for heard in retelling.news():
            heard.tell(watcher)
        assert retelling.news() == []
    courses = [word for word in watcher.heard if word.split()[0] in ("stage", "step", "boundary")]
    stages = {word.split()[1]: word for word in courses if word.startswith("stage")}
    assert courses == [
        *("boundary 0", stages["1"], "step 1", "step 2", "step 3"),
        *("boundary 1", stages["2"], "step 4", "step 5", "step 6"),
        *("boundary 2", stages["3"], "step 7", "step 8", "step 9"),
        "boundary 3",
    ]


def test_of_many_new_steps_only_the_last_ten_are_told(tmp_path: Path) -> None:
    orchestrator.run(alone("long", steps=15, stages=1), home=tmp_path)
    with opened(tmp_path, "long") as (_, ledger):
        watcher = Counting()
        for heard in LedgerReplay(ledger.reading, "long", Outline.of(ledger.reading.spec("long"))).news():
            heard.tell(watcher)
    assert [word for word in watcher.heard if word.startswith("step")] == [f"step {n}" for n in range(6, 16)]


def test_what_was_evaluated_inside_a_stage_is_told_however_long_ago(tmp_path: Path) -> None:
    """Long before the last steps, which alone are told in full: where it stands and what is left are as heard."""
    course = Course()
    spec = alone("looked", steps=18, stages=1) | {"evaluate": {"items": 1, "samples": 4, "every": 4}}
    orchestrator.run(spec, home=tmp_path, watcher=course, until_step=15)
    assert recalled(tmp_path, "looked").snapshot() == course.snapshot()
    assert course.snapshot().standings[0].step == 12


def test_a_run_that_went_back_is_told_again_from_there() -> None:
    with Ledger.open("sqlite://") as ledger:
        run = write(ledger, "back")
        retelling, watcher = (
            LedgerReplay(ledger.reading, "back", Outline(2, STEPS_A_STAGE, False)),
            Counting(),
        )
        assert retelling.news()
        ledger.rewind(run, STEPS_A_STAGE - 1, 1)
        assert retelling.news() == []
        ledger.record_step(run, step_record(STEPS_A_STAGE))
        ledger.record_event(run, STEPS_A_STAGE, EventRecord("resumed", "resumed"))
        for heard in retelling.news():
            heard.tell(watcher)
    assert watcher.heard == [f"step {STEPS_A_STAGE}", "resumed"]


@pytest.mark.parametrize("kind", ["stopped", "failed"])
def test_how_a_run_ended_is_a_reason_and_no_news(kind: str) -> None:
    with Ledger.open("sqlite://") as ledger:
        run = write(ledger, "ended")
        retelling = LedgerReplay(ledger.reading, "ended", Outline(2, STEPS_A_STAGE, False))
        retelling.news()
        assert retelling.reason() is None
        ledger.record_event(run, 9, EventRecord(kind, "Ctrl-C"))
        assert retelling.news() == []
        assert retelling.reason() == "Ctrl-C"
