"""Questions to the ledger, by subject. Answers are small frozen rows, by name; a run may be writing meanwhile."""

from __future__ import annotations

from store.ledger.queries.all_runs import AllRunsQueries
from store.ledger.queries.choices import ChoiceQueries
from store.ledger.queries.metrics import MetricQueries
from store.ledger.queries.plasticity import PlasticityQueries
from store.ledger.queries.runs import RunQueries


class Reading(RunQueries, ChoiceQueries, MetricQueries, PlasticityQueries, AllRunsQueries):
    """A ledger open for reading. A method takes the run's name; an unknown one is a `LedgerError`."""
