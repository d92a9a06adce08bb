"""Questions about runs as such: how they stand and are related, their studies, checkpoints and digests."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from sqlalchemy import Table, func, select
from sqlalchemy.sql import ColumnElement

from store.errors import LedgerError
from store.ledger import tables as t
from store.ledger.digest import digest, digest_all
from store.ledger.queries.base import Queries, columns_of
from store.ledger.query_rows import MemberRow, Pulse, RunRow, StudyRow
from store.records import CheckpointRecord, Gaps, Span

# every run with the one that it was forked from, its place in a study, and the one whose twin it is
_PARENT, _OTHER = t.run.alias("parent"), t.run.alias("other")
_RELATED = (
    t.run.outerjoin(t.lineage, t.lineage.c.run_id == t.run.c.run_id)
    .outerjoin(_PARENT, _PARENT.c.run_id == t.lineage.c.parent_id)
    .outerjoin(t.member, t.member.c.run_id == t.run.c.run_id)
    .outerjoin(t.study, t.study.c.study_id == t.member.c.study_id)
    .outerjoin(t.twin, t.twin.c.run_id == t.run.c.run_id)
    .outerjoin(_OTHER, _OTHER.c.run_id == t.twin.c.of_id)
)
_STUDY = t.study.c.name.label("study")
_LAST = select(t.step.c.step).where(t.step.c.run_id == t.run.c.run_id).order_by(t.step.c.step.desc()).limit(1)
_MEASURED = select(func.max(t.boundary.c.after_stage)).where(t.boundary.c.run_id == t.run.c.run_id)
_RUNS = select(
    *columns_of(
        RunRow,
        t.run,
        func.coalesce(_LAST.scalar_subquery(), 0).label("num_steps"),
        _LAST.with_only_columns(t.step.c.created_at).scalar_subquery().label("last_step_at"),
        func.coalesce(_MEASURED.scalar_subquery() + 1, 0).label("num_boundaries"),
        _PARENT.c.name.label("parent"),
        t.lineage.c.parent_stage,
        _STUDY,
        t.member.c.setting,
        _OTHER.c.name.label("baseline_of"),
    )
).select_from(_RELATED)


class RunQueries(Queries):
    """Runs and studies."""

    def runs(self) -> list[RunRow]:
        """All runs, oldest first."""
        return self.ask(RunRow, _RUNS.order_by(t.run.c.run_id))

    def run(self, name: str) -> RunRow:
        """One run."""
        return self.ask(RunRow, _RUNS.where(t.run.c.run_id == self.run_id(name)))[0]

    def spec(self, name: str) -> dict[str, Any]:
        """Return the resolved spec that a run started with."""
        return self._json(t.run.c.spec, name)

    def host(self, name: str) -> dict[str, Any]:
        """Return what a run was made on: versions, threads, device."""
        return self._json(t.run.c.host, name)

    def _json(self, column: ColumnElement[Any], name: str) -> dict[str, Any]:
        query = select(column).where(t.run.c.run_id == self.run_id(name))
        return dict(self.access.read(lambda connection: connection.execute(query).scalar_one()))

    def baseline(self, name: str) -> str | None:
        """Name a run's twin with another bandit, if it has one; the newest of several."""
        query = select(t.run.c.name).select_from(_RELATED).where(_OTHER.c.name == name)
        newest = query.order_by(t.run.c.run_id.desc()).limit(1)
        return self.access.read(lambda connection: connection.scalar(newest))

    def studies(self) -> list[StudyRow]:
        """All studies, oldest first."""
        return self.ask(StudyRow, select(*columns_of(StudyRow, t.study)).order_by(t.study.c.study_id))

    def study(self, name: str) -> StudyRow:
        """One study."""
        known = {study.name: study for study in self.studies()}
        if name not in known:
            raise LedgerError(
                f"The ledger {self.engine.url!r} has no study {name!r}; it has: {', '.join(known) or 'none'}."
            )
        return known[name]

    def members(self, study: str) -> list[MemberRow]:
        """The runs of a study, in the order in which they were started."""
        columns = (_STUDY, t.member.c.setting, t.member.c.changes, t.run.c.name.label("run"))
        query = select(*columns_of(MemberRow, t.run, *columns)).select_from(_RELATED)
        return self.ask(
            MemberRow, query.where(t.study.c.name == self.study(study).name).order_by(t.run.c.run_id)
        )

    def pulse(self, name: str) -> Pulse:
        """Where a run stands, in one row, small enough to be asked every second."""
        run_id = self.run_id(name)

        def of(table: Table, what: ColumnElement[Any]) -> Any:
            return select(what).where(table.c.run_id == run_id).scalar_subquery()

        query = select(
            t.run.c.status,
            of(t.step, func.coalesce(func.max(t.step.c.step), 0)).label("num_steps"),
            of(t.stage, func.count()).label("num_stages"),
            of(t.boundary, func.count()).label("num_boundaries"),
            of(t.event, func.count()).label("num_events"),
        )
        return self.ask(Pulse, query.where(t.run.c.run_id == run_id))[0]

    def checkpoints(self, name: str) -> list[CheckpointRecord]:
        """The checkpoints that still exist, newest first."""
        row = t.checkpoint.c
        query = self.rows_of(name, CheckpointRecord, t.checkpoint).where(row.deleted_at.is_(None))
        newest_first = (row.step.desc(), row.num_boundaries.desc(), row.checkpoint_id.desc())
        return self.ask(CheckpointRecord, query.order_by(*newest_first))

    def gaps(self, name: str) -> Gaps:
        """What the record of a run lacks; nothing, usually, and then it is cheap."""
        run_id, checkpoint = self.run_id(name), t.checkpoint.c
        covered = (
            func.coalesce(func.max(checkpoint.step), 0),
            func.coalesce(func.max(checkpoint.num_boundaries), 0),
        )
        step = select(t.step.c.step).where(t.step.c.run_id == run_id)
        boundary = select(t.boundary.c.after_stage).where(t.boundary.c.run_id == run_id)
        extent = select(func.count(), func.coalesce(func.max(t.step.c.step), 0)).where(
            t.step.c.run_id == run_id
        )
        with self.engine.connect() as connection:
            num_steps, num_boundaries = connection.execute(
                select(*covered).where(checkpoint.run_id == run_id)
            ).one()
            count, last = connection.execute(extent).one()
            is_whole = count == max(last, num_steps)
            return Gaps(
                () if is_whole else _missing(connection.scalars(step), 1, num_steps),
                _missing(connection.scalars(boundary), 0, num_boundaries - 1),
            )

    def digest(self, name: str, weights_sha256: str) -> str:
        """Hash what was trained: see `store.ledger.digest`."""
        run_id = self.run_id(name)
        return self.access.read(lambda connection: digest(connection, run_id, weights_sha256))

    def digest_all(self, name: str, weights_sha256: str) -> str:
        """Hash what was trained and what was measured."""
        run_id = self.run_id(name)
        return self.access.read(lambda connection: digest_all(connection, run_id, weights_sha256))


def _missing(found: Iterable[int], first: int, last: int) -> tuple[Span, ...]:
    """List the stretches of numbers that are not there, up to `last` or the last that is."""
    there = sorted(found)
    ends = [first - 1, *there, max(last, there[-1] if there else 0) + 1]
    return tuple((a + 1, b - 1) for a, b in pairwise(ends) if b > a + 1)
