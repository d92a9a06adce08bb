"""Whole runs on environments of many turns: what they leave behind, resuming them, and whether they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.runs.api import resume, run
from orchestrator.runs.catalog import opened
from store.run_summary import facts_with_digests
from tests.integration.runs import ending
from tests.orchestrator.specs import REPOSITORY, Raw, small

EXAMPLES = REPOSITORY / "examples"


def mixed(**sections: Any) -> Raw:
    """Two environments of several turns and one of a single turn, all in every batch."""
    return small(
        "mixed",
        warm_start={
            "environments": ["guess", "lake"],
            "batches": 30,
            "batch_size": 16,
            "lr": 0.03,
            "warmup": 2,
        },
        environments={
            "guess": {"type": "guess:create", "numbers": [3, 4]},
            "lake": {"type": "lake:create", "steps": [2, 3]},
            "book": {"type": "codebook", "categories": {"2": 2}, "keys": 6},
        },
        curriculum={"mode": "flat", "stages": 2, "stage": {"steps": 3}},
        step={"groups": 8, "group_size": 4},
        sampler={"max_tokens": 12, "turn_tokens": 4},
        scoring={"isolation": "none"},
        resources={"search_path": str(EXAMPLES)},
        **sections,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the finished run, to be read only."""
    home = tmp_path_factory.mktemp("whole")
    assert run(mixed(), home=home).status == "finished"
    return home


def test_turns_are_on_record_where_there_are_several(whole: Path) -> None:
    with opened(whole, "mixed") as (_, ledger):
        read = ledger.reading
        turns = {
            name: [point.value for point in read.series("mixed", "num_turns", name)]
            for name in ("guess", "lake", "book")
        }
        kept = read.samples("mixed", limit=1000)
    assert turns["book"] == []
    assert 1 < max(turns["guess"]) <= 2
    assert 1 < max(turns["lake"]) <= 5
    roles = {name: {tuple(m["role"] for m in s.messages) for s in kept if s.environment == name} for name in turns}
    assert roles["book"] == {("user",)}
    assert ("user", "assistant", "user") in roles["guess"], "earlier turns are kept with a completion"


def test_a_run_of_many_turns_that_is_stopped_and_resumed_ends_the_same(whole: Path, tmp_path: Path) -> None:
    run(mixed(), home=tmp_path, until_step=2)
    resume("mixed", home=tmp_path, until_step=4)
    resume("mixed", home=tmp_path)
    assert ending(whole, "mixed") == ending(tmp_path, "mixed")


@pytest.mark.slow
@pytest.mark.parametrize(("example", "least"), [("guess", 0.7), ("lake", 0.55)])
def test_the_examples_learn(tmp_path: Path, example: str, least: float) -> None:
    outcome = run(EXAMPLES / f"{example}.yaml", home=tmp_path)
    with opened(tmp_path, outcome.name) as (place, ledger):
        facts = facts_with_digests(ledger, place, outcome.name)["environments"][example]
    assert facts["accuracy_start"] < 0.5
    assert facts["accuracy_end"] > least
