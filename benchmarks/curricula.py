"""What a study of bandits over word lengths shows, from its ledger: the words alone, whatever else was among the arms.

    evergreen study examples/study_curricula.yaml --home HOME
    python -m benchmarks.curricula curricula --home HOME

Accuracy is held-out, at temperature 1, averaged over the word lengths: after the last step; over the run (mean of the
boundaries after the first); and of the four longest lengths, out of reach at first. Then how many of the groups a coin
got, where there is one, and the accuracy before the first step.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from benchmarks import study_tables
from store.ledger.queries import Reading

WORDS = "words"
LONG = ("7", "8", "9", "10")


def of_run(reading: Reading, run: str) -> dict[str, float]:
    """Every measure of one run."""
    cells = [cell for cell in reading.matrix(run, "pass_1") if cell.environment == WORDS and cell.category]
    last = max(cell.after_stage for cell in cells)
    after = {
        stage: {cell.category: cell.value for cell in cells if cell.after_stage == stage} for stage in range(last + 1)
    }
    picked = [pick.environment for pick in reading.picks(run)]
    return {
        "final": _mean(after[last].values()),
        "over the run": _mean([_mean(after[stage].values()) for stage in range(1, last + 1)]),
        "longest": _mean([after[last][length] for length in LONG]),
        "on the coin": sum(name != WORDS for name in picked) / len(picked),
        "at first": _mean(after[0].values()),
    }


def _mean(values: Iterable[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))


if __name__ == "__main__":
    measures = ("final", "over the run", "longest")
    study_tables.main(__doc__, of_run, measures, ("on the coin", "at first"), against="uniform")
