"""Only what a run cannot lose any more is sent."""

from __future__ import annotations

from sqlalchemy import delete, update

from store.ledger import tables as t
from store.lock import run_lock
from store.tracker.pages import Cursor, covered
from store.tracker.record import MlflowRecord, Target
from store.tracker.sync import Source, catch_up
from tests.store.tracker.conftest import Copy
from tests.store.tracker.content import everything, names, rows, series

STATUSES = "SELECT name, status FROM runs ORDER BY name"


def as_if_killed_after(source: Source, step: int, num_boundaries: int) -> Source:
    """Leave a run's rows, and of its checkpoints those up to there: so a run looks whose process was killed."""
    row, run_id = t.checkpoint.c, source.read.run_id(source.run)
    later = (row.step > step) | (row.num_boundaries > num_boundaries)
    with source.ledger.engine.begin() as connection:
        connection.execute(delete(t.checkpoint).where(row.run_id == run_id, later))
        change = update(t.run).where(t.run.c.run_id == run_id)
        connection.execute(change.values(status="running", ended_at=None))
    return source


def test_what_no_checkpoint_covers_is_not_sent(source_of: Copy, target: Target) -> None:
    catch_up(as_if_killed_after(source_of(), 5, 2), MlflowRecord(target))  # a periodic one, in the second stage
    sent = series(target)
    steps = {step for own in sent.values() for points in own.values() for step, _, _ in points}
    assert steps == {0, 1, 2, 3, 4, 5}
    for name in ("R_pass_1/book", "net/own_rank_last"):
        assert [step for step, _, _ in sent["small"][name]] == [0, 3]
    assert [step for step, _, _ in sent["02 noise (small)"]["train/loss"]] == [4, 5]


def test_a_killed_run_s_stages_have_the_status_they_reached(source_of: Copy, target: Target) -> None:
    catch_up(as_if_killed_after(source_of(), 5, 2), MlflowRecord(target))
    assert rows(target, STATUSES) == [
        ("01 book (small)", "FINISHED"),
        ("02 noise (small)", "KILLED"),
        ("small", "KILLED"),
    ]


def test_a_run_that_goes_on_is_running(source_of: Copy, target: Target) -> None:
    source = as_if_killed_after(source_of(), 5, 2)
    catch_up(source, MlflowRecord(target))
    with run_lock(source.folder):
        catch_up(source, MlflowRecord(target))
    assert [status for _, status in rows(target, STATUSES)] == ["FINISHED", "RUNNING", "RUNNING"]


def test_while_a_run_goes_on_a_boundary_is_certain_once_the_next_stage_has_begun(source_of: Copy) -> None:
    """Until then environments may join there, and the policy may be changed."""
    source = as_if_killed_after(source_of(), 3, 2)
    assert covered(source.read, "small") == Cursor(3, 2)
    with source.ledger.engine.begin() as connection:
        connection.execute(delete(t.stage).where(t.stage.c.stage > 1))
    assert covered(source.read, "small") == Cursor(3, 1)
    source.ledger.set_status(source.ledger.open_run("small"), "stopped")
    assert covered(source.read, "small") == Cursor(3, 2)


def test_without_a_checkpoint_a_run_is_there_but_empty(source_of: Copy, target: Target) -> None:
    catch_up(as_if_killed_after(source_of(), -1, -1), MlflowRecord(target))
    assert (names(target), series(target)) == (["small"], {})


def test_sent_in_parts_or_at_once_is_the_same(source_of: Copy, target: Target, other: Target) -> None:
    """The second part ends between a stage's last step and its boundary."""
    for step, num_boundaries in ((4, 2), (6, 2)):
        catch_up(as_if_killed_after(source_of(), step, num_boundaries), MlflowRecord(target))
    catch_up(source_of(), MlflowRecord(target))
    catch_up(source_of(), MlflowRecord(other))
    assert everything(target) == everything(other)


def test_a_finished_run_is_certain_to_its_end_without_checkpoints(source_of: Copy, target: Target) -> None:
    source = source_of()
    with source.ledger.engine.begin() as connection:
        connection.execute(update(t.checkpoint).values(deleted_at="2026-01-01T00:00:00.000+00:00"))
    catch_up(source, MlflowRecord(target))
    assert [step for step, _, _ in series(target)["small"]["R_pass_1/book"]] == [0, 3, 6, 9]
