"""What runs left behind, read from Python: a home, its runs, and comparisons of them. Nothing here loads torch.

Tables are pandas data frames where pandas is installed, else lists of dictionaries, a row each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.runs.catalog import find_run, opened

if TYPE_CHECKING:
    from store.comparison import Comparison
    from store.ledger import Reading

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
        """A metric of evaluation: a row for every stage after which, and environment and category on which."""
        return self._table(lambda reading: reading.matrix(self.name, metric, split))

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
) -> Comparison:
    """Compare runs, or a study's settings, paired by seed: as `evergreen compare`, whose options these are."""
    from orchestrator.errors import UserError
    from store.comparison import ComparisonRequest
    from store.comparison import compare as compared

    if not names:
        raise UserError("name the runs to compare, or a study")
    with opened(home, names[0]) as (place, ledger):
        return compared(ledger.reading, place, ComparisonRequest(names, by, metric, last, baseline, pairs))


def _table(rows: Iterable[Any]) -> Table:
    plain = [asdict(row) for row in rows]
    try:
        import pandas
    except ImportError:
        return plain
    return pandas.DataFrame(plain)
