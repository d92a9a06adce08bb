"""What a study of objectives over a sequence of environments shows, from its ledger.

    evergreen study examples/study_objectives.yaml --home HOME
    python -m benchmarks.objectives_study objectives --home HOME

Of each run:

    ENVIRONMENT  its accuracy after its own stage, temperature 1; held out but for books, of which all keys are trained
    next         the mean of these over the stages after the first: what was learnt by a policy that had learnt before
    at the end   mean accuracy over all environments after the last stage
    carried      entropy that earlier stages left on the environment about to be trained, against the start (geometric
                 mean over the stages after the first)
    left         entropy after the last stage against the start (geometric mean over the environments)
    groups       played a step, those left out by dynamic sampling among them
"""

from __future__ import annotations

import numpy as np

from benchmarks import study_tables
from store import carryover
from store.ledger.queries import Reading

ENVIRONMENTS = ("words", "book1", "letters", "book2")


def of_run(reading: Reading, run: str) -> dict[str, float]:
    """Every measure of one run."""
    trained = [stage.environment or "" for stage in reading.stages(run)]
    accuracy = matrix(reading, run, "pass_1")
    numbers = carryover.of_run(reading.carry_over(run))
    own = {name: accuracy[stage, name] for stage, name in enumerate(trained, start=1)}
    groups = reading.sums(run, ["groups_generated"]).get("groups_generated")  # with dynamic sampling only
    num_steps = len(reading.steps(run))
    return {
        **own,
        "next": float(np.mean(list(own.values())[1:])),
        "at the end": float(np.mean([accuracy[len(trained), name] for name in own])),
        "carried": numbers["entropy_carried"] or 0.0,
        "left": numbers["entropy_left"] or 0.0,
        "groups": reading.spec(run)["step"]["groups"] if groups is None else groups / num_steps,
    }


def matrix(reading: Reading, run: str, metric: str) -> dict[tuple[int, str], float]:
    """A metric after stage i on environment j, each as a whole."""
    cells = [cell for cell in reading.matrix(run, metric) if cell.category is None and cell.environment]
    return {
        (cell.after_stage, cell.environment): cell.value
        for cell in cells
        if cell.environment is not None and cell.value is not None
    }


if __name__ == "__main__":
    measures = ("next", "at the end", "carried")
    study_tables.main(__doc__, of_run, measures, (*ENVIRONMENTS, "left", "groups"), against="rloo")
