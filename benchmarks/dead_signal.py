"""Whether stages that end early once their groups have no signal pay, from the ledger of a study.

    evergreen study benchmarks/dead_signal.yaml --home HOME
    python -m benchmarks.dead_signal dead_signal --home HOME
    evergreen study benchmarks/dead_signal_rare.yaml --home HOME
    python -m benchmarks.dead_signal dead_signal_rare --home HOME

Accuracy is held-out, averaged over the environments: after as many stages as the setting `budget` has, which the rule
shortens; and at as many steps, at the last boundary that lies within them, so that steps saved are given to further
stages. Then the steps up to each of the two boundaries; accuracy by environment and the share of groups whose samples
did not all earn the same, at as many steps.
"""

from __future__ import annotations

from statistics import fmean

from benchmarks import study_tables
from store.ledger.queries import Reading

STAGES = 9  # of the setting `budget`


def of_run(reading: Reading, run: str) -> dict[str, float]:
    """Every measure of one run."""
    section = reading.spec(run)["curriculum"]
    budget = STAGES * section["stage"]["steps"]
    reached = {boundary.after_stage: boundary.step for boundary in reading.boundaries(run)}
    fair = max(stage for stage, step in reached.items() if step <= budget)
    cells = [cell for cell in reading.matrix(run, "pass_1") if cell.category is None]
    after = {
        stage: {str(c.environment): float(c.value or 0) for c in cells if c.after_stage == stage}
        for stage in (STAGES, fair)
    }
    even = [point for point in reading.series(run, "zero_var_groups") if point.step <= reached[fair]]
    return {
        "as many stages": fmean(after[STAGES].values()),
        "as many steps": fmean(after[fair].values()),
        **dict.fromkeys(("far", "rare"), 0.0),  # a study has one of them
        **after[fair],
        "steps, stages": reached[STAGES],
        "steps, steps": reached[fair],
        "signal": 1 - sum((p.value or 0) * p.n for p in even) / sum(p.n for p in even),
    }


if __name__ == "__main__":
    told = ("steps, stages", "steps, steps", "short", "long", "far", "rare", "signal")
    study_tables.main(__doc__, of_run, ("as many stages", "as many steps"), told, against="budget")
