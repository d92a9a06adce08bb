"""Whatever happens between two passes, every value ends up in MLflow once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from store.errors import TrackerError
from store.ledger import tables as t
from store.records import (
    BoundaryRecord,
    CategoryRecord,
    CellRecord,
    EnvironmentRecord,
    HoldoutRecord,
    MeasurementRecord,
)
from store.tracker import pages
from store.tracker.names import MISSING, TASKS_CHANGED
from store.tracker.pages import position
from store.tracker.record import REACH, MlflowRecord, Target
from store.tracker.sync import Source, catch_up
from tests.shares import share
from tests.store.tracker.conftest import Copy
from tests.store.tracker.content import everything, ms, names, num_rows, series
from tests.store.tracker.test_covered import as_if_killed_after

ALL = ["01 book (small)", "02 noise (small)", "03 numbers (small)", "small"]
REWRITTEN = "2027-01-01T00:00:00.000+00:00"


class Killed(Exception):
    """Stands for a process that is killed there."""


def killed_at(call: Callable[..., Any], number: int) -> Callable[..., Any]:
    """Die in place of one call."""
    numbers = iter(range(1, 10_000))

    def dying(*args: Any) -> Any:
        if next(numbers) == number:
            raise Killed
        return call(*args)

    return dying


def rewrite_steps(source: Source, after: int) -> None:
    """As if the run had gone back and done these steps again."""
    with source.ledger.engine.begin() as connection:
        connection.execute(update(t.step).where(t.step.c.step > after).values(created_at=REWRITTEN))


def go_back(source: Source, to: int) -> None:
    """As if the run had gone back to this step and done other steps from there on."""
    rewrite_steps(source, after=to)
    with source.ledger.engine.begin() as connection:
        metric = t.step_metric.c
        connection.execute(update(t.step_metric).where(metric.step > to).values(value=metric.value + 1))


def join(source: Source) -> None:
    """Have an environment join at the last boundary."""
    run = source.ledger.open_run(source.run)
    source.ledger.declare(run, [EnvironmentRecord("new", "rows", "1", False, {}, [CategoryRecord("c", True, {})])])
    source.ledger.record_holdouts(run, [HoldoutRecord("new", "c", "anchor", "s", 2)])
    cells = [
        CellRecord("new", category, metric, 0.5, 0.01, 2, 4)
        for category in (None, "c")
        for metric in ("pass_1", "entropy_token")
    ]
    last = source.read.boundaries(source.run)[-1]
    cost = [MeasurementRecord("evaluation", 4, 1.0)]
    source.ledger.record_joined(
        run, BoundaryRecord(last.after_stage, last.step, 1.0, last.settings, cells, measurements=cost)
    )


def lose_rows(source: Source, steps: int, boundaries: int) -> None:
    """As if a ledger had been lost, and the run entered again from its checkpoint after so much."""
    with source.ledger.engine.begin() as connection:
        for table in (t.step, t.pick, t.arm_state, t.task_group, t.step_metric):
            connection.execute(delete(table).where(table.c.step <= steps))
        for table in (t.boundary, t.eval_cell, t.eval_item):
            connection.execute(delete(table).where(table.c.after_stage < boundaries))
        connection.execute(delete(t.stage).where(t.stage.c.stage < boundaries))


def test_what_a_lost_ledger_took_along_stays_in_mlflow(source_of: Copy, target: Target) -> None:
    source = source_of()
    catch_up(source, MlflowRecord(target))
    before = series(target)
    sent = position(5, 2, source.read.steps("small"), source.read.boundaries("small"))
    lose_rows(source, steps=5, boundaries=2)
    history = pages.HistoryPages(source.read, source.read.run("small"))
    assert history.has(sent), "its rows are lost, and no others are in their place"
    assert not history.has(replace(sent, step=8))
    assert catch_up(source, MlflowRecord(target)).num_values == 0
    assert series(target) == before


def test_boundaries_after_lost_ones_are_sent(source_of: Copy, target: Target, other: Target) -> None:
    source = source_of()
    catch_up(source, MlflowRecord(other))
    lose_rows(source, steps=5, boundaries=2)
    catch_up(source, MlflowRecord(target))
    sent = [at for at in series(other)["small"]["R_pass_1/book"] if at[0] > 5]
    assert series(target)["small"]["R_pass_1/book"] == sent
    assert len(sent) == 2


def test_what_adds_up_over_a_run_is_not_told_behind_what_was_lost(
    source_of: Copy, target: Target, other: Target
) -> None:
    """Tokens and hours would begin again at 0."""
    source = source_of()
    catch_up(source, MlflowRecord(other))
    assert max(at[0] for at in series(other)["small"]["progress/tokens"]) == 9
    lose_rows(source, steps=5, boundaries=2)
    catch_up(source, MlflowRecord(target))
    sent = series(target)["small"]
    assert "progress/stage_idx" in sent
    assert not {"progress/tokens", "progress/wall_h"} & set(sent)


def test_what_keeps_numbers_from_telling_of_the_policy_alone_is_a_tag(source_of: Copy, target: Target) -> None:
    """Other held-out tasks, and a ledger that was lost, also where they come after the first pass."""
    source, record = source_of(), MlflowRecord(target)

    def told() -> list[str]:
        entry = record.client.get_run(catch_up(source, record).entry.id)
        return [entry.data.tags[name] for name in (TASKS_CHANGED, MISSING)]

    assert told() == ["no", "nothing"]
    with source.ledger.engine.begin() as connection:
        cell = t.eval_cell.c
        one = connection.execute(select(t.holdout).join(t.environment).where(t.environment.c.name == "book")).first()
        assert one is not None
        others = {**one._mapping, "holdout_id": 1000, "sha256": "of others"}
        connection.execute(insert(t.holdout).values(others))
        changed = (cell.holdout_id == one.holdout_id) & (cell.after_stage == 3)
        connection.execute(update(t.eval_cell).where(changed).values(holdout_id=1000))
    tasks, missing = told()
    assert tasks.startswith("Other held-out tasks than before were measured of book (first after stage 3): changes")
    assert missing == "nothing"
    lose_rows(source, steps=5, boundaries=2)
    assert "steps 1 to 5 and boundaries 0 to 1, which were lost with a ledger" in told()[1]


def test_a_second_pass_writes_nothing(source_of: Copy, target: Target) -> None:
    source = source_of()
    assert catch_up(source, MlflowRecord(target)).num_values > 0
    before, counts = everything(target), num_rows(target)
    assert catch_up(source, MlflowRecord(target)).num_values == 0
    assert (everything(target), num_rows(target)) == (before, counts)


def test_what_joined_at_a_boundary_that_was_sent_is_sent(source_of: Copy, target: Target, other: Target) -> None:
    source = source_of()
    catch_up(source, MlflowRecord(target))
    join(source)
    for record in (target, other):
        catch_up(source, MlflowRecord(record))
    assert [point[0] for point in series(target)["small"]["R_pass_1/new"]] == [9]
    assert everything(target) == everything(other)


@pytest.mark.parametrize("size", share([1, 7], 1))
@pytest.mark.slow
def test_the_size_of_a_page_changes_nothing(
    source_of: Copy, long: Path, target: Target, other: Target, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    source = source_of("alone", long)
    catch_up(source, MlflowRecord(other))
    monkeypatch.setattr(pages, "PAGE", size)
    catch_up(source, MlflowRecord(target))
    assert everything(target) == everything(other)


@pytest.mark.parametrize(
    ("method", "number"),
    share(
        [
            ("move_cursor", 1),  # between the values and the cursor
            ("move_cursor", 4),
            *(("write", number) for number in (1, 2, 6)),  # in the middle of a page
            ("begin", 2),
            ("describe", 2),
            ("attach", 1),
            ("conclude", 2),
            ("tag", 1),
        ],
        3,
    ),
)
def test_a_crash_anywhere_leaves_every_value_single(
    source_of: Copy,
    target: Target,
    other: Target,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    number: int,
) -> None:
    source = source_of()
    monkeypatch.setattr(pages, "PAGE", 2)
    catch_up(source, MlflowRecord(other))
    record = MlflowRecord(target)
    monkeypatch.setattr(record, method, killed_at(getattr(record, method), number))
    with pytest.raises(Killed):
        catch_up(source, record)
    catch_up(source, MlflowRecord(target))
    assert everything(target) == everything(other)
    assert num_rows(target) == num_rows(other)


@pytest.mark.parametrize(
    ("method", "number", "change"),
    share(
        [
            ("move_cursor", 2, partial(go_back, to=5)),
            ("move_cursor", 1, partial(go_back, to=3)),
            ("write", 3, partial(go_back, to=3)),
            ("write", 6, partial(go_back, to=5)),
            ("attach", 1, join),
            ("begin", 4, partial(go_back, to=5)),
        ],
        3,
    ),
)
def test_a_crash_before_the_run_goes_back_leaves_no_mixture(
    source_of: Copy,
    target: Target,
    other: Target,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    number: int,
    change: Callable[[Source], None],
) -> None:
    """The values of a page are there, the cursor is still before them, and what they tell of changes."""
    source, record = source_of(), MlflowRecord(target)
    monkeypatch.setattr(pages, "PAGE", 4)
    monkeypatch.setattr(record, method, killed_at(getattr(record, method), number))
    with pytest.raises(Killed):
        catch_up(source, record)
    change(source)
    for place in (target, other):
        catch_up(source, MlflowRecord(place))
    assert everything(target) == everything(other)


def test_a_pass_that_goes_less_far_forgets_no_reach(
    source_of: Copy, target: Target, other: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest checkpoint went after a pass to there was killed; only then the run goes back."""
    source, record = source_of(), MlflowRecord(target)
    monkeypatch.setattr(record, "move_cursor", killed_at(record.move_cursor, 1))
    with pytest.raises(Killed):
        catch_up(source, record)
    catch_up(as_if_killed_after(source, 5, 2), MlflowRecord(target))
    go_back(source, to=5)
    source.ledger.set_status(source.ledger.open_run("small"), "finished")
    for place in (target, other):
        catch_up(source, MlflowRecord(place))
    assert everything(target) == everything(other)


def test_a_record_of_an_earlier_version_goes_on(source_of: Copy, target: Target, other: Target) -> None:
    source = source_of()
    record = MlflowRecord(target)
    entry = catch_up(as_if_killed_after(source_of(), 5, 2), record).entry
    record.client.delete_tag(entry.id, REACH)
    assert catch_up(source, record).entry.id == entry.id
    catch_up(source, MlflowRecord(other))
    assert everything(target) == everything(other)


def test_a_history_rewritten_behind_the_cursor_is_sent_anew(source_of: Copy, target: Target) -> None:
    source = source_of()
    catch_up(source, MlflowRecord(target))
    before = series(target)
    rewrite_steps(source, after=4)
    catch_up(source, MlflowRecord(target))
    after = series(target)
    assert names(target) == ALL
    assert {run: set(own) for run, own in after.items()} == {run: set(own) for run, own in before.items()}
    losses = [point for run in ALL[:-1] for point in after[run]["train/loss"]]
    assert [step for step, _, _ in losses] == list(range(1, 10))
    assert [step for step, at_ms, _ in losses if at_ms == ms(REWRITTEN)] == [5, 6, 7, 8, 9]


def test_a_boundary_that_was_measured_again_is_noticed_too(source_of: Copy, target: Target) -> None:
    source = source_of()
    catch_up(source, MlflowRecord(target))
    with source.ledger.engine.begin() as connection:
        last = t.boundary.c.after_stage == 3
        connection.execute(update(t.boundary).where(last).values(created_at=REWRITTEN))
    catch_up(source, MlflowRecord(target))
    assert [at_ms for step, at_ms, _ in series(target)["small"]["R_pass_1/book"] if step == 9] == [ms(REWRITTEN)]


@pytest.mark.parametrize("number", share([1, 4], 1))
def test_a_crash_while_an_old_record_is_deleted_leaves_no_mixture(
    source_of: Copy, target: Target, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source, record = source_of(), MlflowRecord(target)
    catch_up(source, record)
    rewrite_steps(source, after=4)
    monkeypatch.setattr(record.client, "delete_run", killed_at(record.client.delete_run, number))
    with pytest.raises(Killed):
        catch_up(source, record)
    catch_up(source, MlflowRecord(target))
    assert names(target) == ALL
    steps = [[step for step, _, _ in points] for own in series(target).values() for points in own.values()]
    assert all(len(of) == len(set(of)) for of in steps)


def test_a_lost_database_is_filled_again(source_of: Copy, target: Target, other: Target) -> None:
    source = source_of()
    catch_up(source, MlflowRecord(target))
    catch_up(source, MlflowRecord(other))
    assert everything(other) == everything(target)


def test_a_curriculum_that_a_person_deleted_in_mlflow_comes_back(source_of: Copy, target: Target) -> None:
    source, record = source_of(), MlflowRecord(target)
    entry = catch_up(source, record).entry
    before = series(target)
    record.forget(entry)
    assert names(target) == []
    catch_up(source, record)
    assert series(target) == before


def test_a_deleted_experiment_is_told_with_the_remedy(target: Target) -> None:
    record = MlflowRecord(target)
    record.client.delete_experiment(record.experiment_id)
    with pytest.raises(TrackerError, match=r"The experiment 'evergreen' at .* was deleted\. Restore it"):
        MlflowRecord(target)
