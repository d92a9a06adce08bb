"""Representative rows of the reference's tables with a few seeds; all of them with 30: make bench-bandits.

Tolerances are wider than those of section 8.1, because intervals of one to three seeds are: twice as wide, 20 % in C.
"""

from __future__ import annotations

import pytest

from benchmarks.bandit_tables import entrant_of, read_tables
from orchestrator.simulation.ranking import TrialJob, run_job, value_of
from orchestrator.simulation.trials import TrialSetting
from orchestrator.simulation.worlds import find_world
from tests.shares import share

WITHIN = {"auc": 0.01, "final": 0.04, "worst": 0.04, "steps": 12, "traps": 0.04, "forgetting": 0.04}
ROWS = [
    ("skills", "uniform", 2),
    ("skills", "SEC raw |A|, τ=.1", 3),
    ("skills", "easy→hard", 2),
    ("skills", "oracle (greedy)", 2),
    ("traps", "SEC τ=.2, floor .2", 3),
    ("traps", "SEC × LP gate", 3),
    ("switching", "D-UCB γ=.995, 0.5·sqrt(.5 ln n/N)", 1),
    ("stages", "round robin, ρ=.2", 2),
    ("stages", "mixed, uniform over all 12, no stages", 2),
    ("heterogeneous", "blocks ρ=.2", 2),
]


@pytest.mark.parametrize(("world", "policy", "num_seeds"), share(ROWS, 5))
def test_published_rows_are_reproduced(world: str, policy: str, num_seeds: int) -> None:
    table = next(table for table in read_tables() if table["world"] == world)
    row = next(row for row in table["rows"] if row["policy"] == policy)
    setting = TrialSetting(find_world(world).num_steps, row.get("replay_share", 0.2))
    trials = [run_job(TrialJob(world, entrant_of(row), seed, setting)) for seed in range(num_seeds)]
    for metric, published in row["published"].items():
        expected = published[0] if isinstance(published, list) else published
        mean = sum(trial.numbers[metric] for trial in trials) / num_seeds
        assert mean == pytest.approx(expected, abs=WITHIN.get(metric, 0.2 * expected)), metric


def test_every_row_of_the_tables_can_be_read() -> None:
    rows = [(table, row) for table in read_tables() for row in table["rows"]]
    assert len(rows) == 73
    for table, row in rows:
        assert entrant_of(row)
        assert set(row["published"]) <= {metric.name for metric in find_world(table["world"]).metrics}
        assert set(row["published"]) <= set(table["tolerance"])


def test_an_interval_is_students() -> None:
    import numpy as np

    found = value_of(np.array([1.0, 2.0, 3.0]))
    assert found.mean == 2
    assert found.half == pytest.approx(4.302653 / 3**0.5)
    assert not found.is_off_zero
    assert value_of(np.array([1.0])).half is None
