"""How runs are related: forks of one another, members of studies, twins with another bandit."""

from __future__ import annotations

from sqlalchemy import Connection, Label, Select, insert, select

from store.ledger import tables as t
from store.records import RunRecord


def enter(connection: Connection, run_id: int, record: RunRecord) -> None:
    """Enter what a new run was forked from, its place in its study, and whose twin it is."""
    if record.lineage is not None:
        parent = select(t.run.c.run_id).where(t.run.c.name == record.lineage.parent).scalar_subquery()
        row = {"parent_id": parent, "parent_stage": record.lineage.stage}
        connection.execute(insert(t.lineage).values(run_id=run_id, **row))
    if record.member is not None:
        study = select(t.study.c.study_id).where(t.study.c.name == record.member.study).scalar_subquery()
        row = {"setting": record.member.setting, "changes": dict(record.member.changes)}
        connection.execute(insert(t.member).values(run_id=run_id, study_id=study, **row))
    if record.baseline_of is not None:
        other = select(t.run.c.run_id).where(t.run.c.name == record.baseline_of).scalar_subquery()
        connection.execute(insert(t.twin).values(run_id=run_id, of_id=other))


def relatives() -> tuple[Label[object], ...]:
    """Columns that name a run's relatives, to be selected beside those of `run`."""
    run, lineage, member, twin = t.run.c, t.lineage.c, t.member.c, t.twin.c
    parent, other = t.run.alias("parent"), t.run.alias("other")
    forked = select(lineage.parent_stage).where(lineage.run_id == run.run_id)
    placed = select(member.setting).where(member.run_id == run.run_id)
    twins = select(other.c.name).join(t.twin, other.c.run_id == twin.of_id).where(twin.run_id == run.run_id)
    return (
        forked.scalar_subquery().label("parent_stage"),
        forked.join(parent, parent.c.run_id == lineage.parent_id)
        .with_only_columns(parent.c.name)
        .scalar_subquery()
        .label("parent"),
        placed.scalar_subquery().label("setting"),
        placed.join(t.study).with_only_columns(t.study.c.name).scalar_subquery().label("study"),
        twins.scalar_subquery().label("baseline_of"),
    )


def members(study: str) -> Select[tuple[object, ...]]:
    """The runs of a study, in the order in which they were started."""
    columns = (
        t.study.c.name.label("study"),
        t.member.c.setting,
        t.member.c.changes,
        t.run.c.name.label("run"),
        t.run.c.seed,
        t.run.c.status,
    )
    source = t.member.join(t.study).join(t.run)
    return select(*columns).select_from(source).where(t.study.c.name == study).order_by(t.run.c.run_id)


def baseline(run: str) -> Select[str]:
    """The name of a run's twin, the newest if there are several."""
    other = t.run.alias("other")
    query = select(t.run.c.name).join(t.twin, t.twin.c.run_id == t.run.c.run_id)
    query = query.join(other, other.c.run_id == t.twin.c.of_id)
    return query.where(other.c.name == run).order_by(t.run.c.run_id.desc()).limit(1)
