"""A run with so many arms that a step keeps the states of some of its bandits alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

import orchestrator
from orchestrator.recording import recorder
from orchestrator.runs.catalog import opened
from orchestrator.simulation.logs import read_log
from store.ledger import rows
from tests.integration.runs import told
from tests.orchestrator.specs import small


def test_bandits_that_were_asked_are_kept_where_all_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (rows, recorder):
        monkeypatch.setattr(module, "MAX_ARMS", 8)  # of 9, and with the scheduler at most 7 of a step's
    assert orchestrator.run(small(), home=tmp_path).status == "finished"
    with opened(tmp_path, "small") as (_, ledger):
        picks = [pick for pick in ledger.reading.picks("small") if pick.level == "category"]
        of_steps: dict[int, set[str]] = defaultdict(set)
        for arm in ledger.reading.arms("small"):
            of_steps[arm.step].add(arm.bandit)
        log = read_log(ledger.reading, "small")
    asked: dict[int, set[str]] = defaultdict(lambda: {"*"})
    for pick in picks:
        asked[pick.step].add(pick.environment)
    assert min(map(len, of_steps.values())) < 4, "not all bandits are asked in every step"
    assert of_steps == {step: own for step, own in asked.items() if step in of_steps}
    told_of = {(arm["bandit"], arm["arm"]): arm["num_picks"] for arm in told(tmp_path, "small")["arms"]}
    counted = Counter((pick.environment, pick.arm) for pick in picks)
    assert {key: num for key, num in told_of.items() if key[0] != "*"} == counted
    known = [step for bandit in log.bandits for step in bandit.steps]
    assert all(step.probabilities is not None for step in known), "of a bandit that rests the newest state holds"
