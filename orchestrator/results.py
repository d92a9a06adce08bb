"""What runs left behind, read from Python: a home, its runs, and comparisons of them. Nothing here loads torch.

Tables are pandas data frames where pandas is installed, else lists of dictionaries, a row each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import UserError
from orchestrator.runs.catalog import find_run, opened
from store import carryover
from store import comparison as comparisons
from store.comparison import Comparison, ComparisonRequest
from store.comparison import sentences as verdicts

if TYPE_CHECKING:
    from store.ledger import Reading

MATRICES = {"accuracy": "pass_1", "entropy": "entropy_token"}  # what one says, and what it is called at boundaries
Table = Any  # a pandas.DataFrame, or a list of dictionaries


@dataclass(frozen=True)
class RunResult:
    """A run of a home, finished or not; every call reads what the ledger holds by then."""

    home: Path
    name: str

    def summary(self) -> dict[str, Any]:
        """Everything that `evergreen show --json` tells: status, stages, matrices, forgetting, digests."""
        from store.run_summary import facts_with_digests

        with opened(self.home, self.name) as (place, ledger):
            return facts_with_digests(ledger, place, self.name)

    def spec(self) -> dict[str, Any]:
        """The resolved spec, as plain data."""
        with opened(self.home, self.name) as (_, ledger):
            return ledger.reading.spec(self.name)

    def series(self, metric: str, environment: str | None = None, category: str | None = None) -> Table:
        """A metric of training over the steps: columns step, value and n, the observations behind a value."""
        return self._table(lambda reading: reading.series(self.name, metric, environment, category))

    def matrix(self, metric: str = "pass_1", split: str | None = None) -> Table:
        """A metric of evaluation: a row for every stage after which, and environment and category on which.

        "accuracy" is `pass_1` here, and "entropy" `entropy_token`.
        """
        asked = MATRICES.get(metric, metric)
        return self._table(lambda reading: reading.matrix(self.name, asked, split))

    def carryover(self) -> Table:
        """Every number of carry-over at every boundary: columns after_stage, name, value, num_terms and of_terms.

        Of the run up to that boundary, or (`switch/...`) of the stage before it alone; null: not defined.
        """
        with opened(self.home, self.name) as (_, ledger):
            found = ledger.reading.carry_over(self.name)
        columns = ("after_stage", "name", "value", "num_terms", "of_terms")
        return _frame(dict(zip(columns, one, strict=True)) for one in carryover.of_course(found))

    def probes(self) -> Table:
        """The curves of the probes, a row a point: what a copy of the policy learnt that was trained and thrown away.

        Columns: after_stage (0: the base), kind, task, seed, step (of the copy's optimiser), metric, value.
        """
        return self._table(lambda reading: reading.probe_points(self.name))

    def network(self, metric: str | None = None) -> Table:
        """Numbers of the network: a row for every boundary and layer (-1: the whole model), of one metric or of all."""
        return self._table(lambda reading: reading.network(self.name, metric))

    def turnover(self) -> Table:
        """Held-out tasks gained, lost and repaired: a row for every environment and pair of boundaries."""
        return self._table(lambda reading: reading.turnover(self.name))

    def interventions(self) -> Table:
        """What changed the policy between stages, in order, with its trigger and the checkpoints before and after."""
        return self._table(lambda reading: reading.interventions(self.name))

    def evaluations(self) -> Table:
        """Held-out accuracy and entropy by environment: a row for every boundary and environment.

        Columns: after_stage (0: before training), trained (that stage's environment), environment, accuracy (0 to 1),
        stderr of it, entropy (nats a token).
        """
        with opened(self.home, self.name) as (_, ledger):
            found = ledger.reading.carry_over(self.name)
        return _frame(
            {
                "after_stage": stage,
                "trained": found.stages[stage - 1] if 0 < stage <= len(found.stages) else None,
                "environment": environment,
                "accuracy": accuracy,
                "stderr": found.errors.get((stage, environment)),
                "entropy": found.entropy.get((stage, environment)),
            }
            for (stage, environment), accuracy in found.accuracy.items()
        )

    def samples(self, environment: str | None = None, failed: bool = False, limit: int = 20) -> Table:
        """Completions that were kept, the newest step first; `failed`: only those that are not correct."""
        return self._table(lambda reading: reading.samples(self.name, environment, failed, limit=limit))

    def events(self) -> Table:
        """Decisions and incidents, in their order."""
        return self._table(lambda reading: reading.events(self.name))

    def _table(self, ask: Callable[[Reading], Iterable[Any]]) -> Table:
        with opened(self.home, self.name) as (_, ledger):
            return _table(ask(ledger.reading))


@dataclass(frozen=True)
class ComparisonResult(Comparison):
    """Runs compared by setting; its fields are those of `evergreen compare --json`."""

    def sentences(self) -> list[str]:
        """What the seeds allow to say, a sentence each."""
        return [sentence for _, sentence in verdicts.sentences(self)]

    def scores(self) -> Table:
        """A row a run and what it was scored on: columns setting, seed, run, of (environment or stage), score."""
        return _frame(
            {"setting": one.label, "seed": run.seed, "run": run.run, "of": of, "score": score}
            for one in self.settings
            for run in one.runs
            for of, score in run.strata.items()
        )

    def differences(self) -> Table:
        """A row a pair of settings: their difference (of ratios the quotient), its 95 % interval, p, and the verdict.

        Interval and p are corrected for the number of pairs; where there are too few seeds there is no interval.
        """
        return _frame(
            {
                "setting": pair.setting,
                "baseline": pair.baseline,
                "seeds": len(pair.seeds),
                "difference": pair.mean,
                "low": pair.interval and pair.interval.low,
                "high": pair.interval and pair.interval.high,
                "p_corrected": pair.p_corrected,
                "verdict": pair.verdict,
            }
            for pair in self.pairs
        )


@dataclass(frozen=True)
class RunHome:
    """A folder of runs."""

    path: Path

    def runs(self) -> Table:
        """All runs, a row each."""
        with opened(self.path) as (_, ledger):
            return _table(ledger.reading.runs())

    def run(self, name: str) -> RunResult:
        """One run. Raises UserError where there is none of this name."""
        with opened(self.path, name) as (_, ledger):
            find_run(ledger, name)
        return RunResult(self.path, name)


def open_home(path: str | Path | None = None) -> RunHome:
    """Open a folder of runs for reading; default: that of EVERGREEN_HOME, else ./runs.

    Raises an error that names the folder where it is none.
    """
    with opened(path) as (place, _):
        return RunHome(place.path)


def compare(
    *names: str,
    home: str | Path | None = None,
    by: Sequence[str] = (),
    metric: str | None = None,
    last: int | None = None,
    baseline: str | None = None,
    pairs: Literal["baseline", "all"] = "baseline",
    environments: Sequence[str] = (),
) -> ComparisonResult:
    """Compare runs, or a study's settings, paired by seed: as `evergreen compare`, whose options these are."""
    if not names:
        raise UserError("name the runs to compare, or a study")
    with opened(home, names[0]) as (place, ledger):
        asked = ComparisonRequest(names, by, metric, last, baseline, pairs, environments=environments)
        return ComparisonResult(**vars(comparisons.compare(ledger.reading, place, asked)))


def _table(rows: Iterable[Any]) -> Table:
    return _frame(asdict(row) for row in rows)


def _frame(rows: Iterable[dict[str, Any]]) -> Table:
    plain = list(rows)
    try:
        import pandas
    except ImportError:
        return plain
    return pandas.DataFrame(plain)
