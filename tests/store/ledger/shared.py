"""What every ledger must do for several processes and threads."""

from __future__ import annotations

import multiprocessing
import os
import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, select

from store.ledger import tables
from store.ledger.ledger import Ledger
from tests.store.ledger import example
from tests.store.ledger.suite import LedgerSuite, facts


class SharedLedgerSuite(LedgerSuite):
    """Several processes."""

    def test_a_later_process_finds_everything(self, url: str) -> None:
        with Ledger.open(url) as ledger:
            example.write(ledger, "puzzles")
            written = facts(ledger, "puzzles")
        with Ledger.open(url, create=False) as ledger:
            assert facts(ledger, "puzzles") == written

    def test_two_processes_may_start_and_write_at_once(self, url: str) -> None:
        names = ("one", "two")
        writers = [_spawn(_write_whole_run, url, name) for name in names]
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0, 0]
        with Ledger.open(url, create=False) as ledger:
            example.write(ledger, "alone")
            assert all(facts(ledger, name) == facts(ledger, "alone") for name in names)

    @pytest.mark.parametrize("num_statements", [1, 4])
    def test_a_crash_inside_a_step_leaves_the_steps_before(self, url: str, num_statements: int) -> None:
        writer = _spawn(_die_in_step_2, url, num_statements)
        writer.join()
        assert writer.exitcode == _DIED
        with Ledger.open(url, create=False) as ledger:
            run = ledger.open_run("puzzles", example.environments())
            ledger.record_step(run, example.step_record(2))
            other = example.begin(ledger, "uninterrupted")
            for step in (1, 2):
                ledger.record_step(other, example.step_record(step))
            assert facts(ledger, "puzzles") == facts(ledger, "uninterrupted")

    def test_reading_does_not_hold_up_writing_and_sees_whole_steps(self, url: str) -> None:
        num_steps = 40
        with Ledger.open(url) as ledger, Ledger.open(url) as other:
            run = example.begin(ledger, "puzzles")
            ledger.start_stage(run, example.stage_record(1))

            def write() -> None:
                for step in range(1, num_steps + 1):
                    ledger.record_step(run, replace(example.step_record(1), step=step))

            writer = threading.Thread(target=write)
            with other.engine.connect() as long_reader:
                long_reader.execute(select(tables.step)).all()
                writer.start()
                seen = []
                while writer.is_alive():
                    seen.append(sum(row.num_groups for row in other.reading.allocation("puzzles")))
                writer.join()
            assert all(num_groups % example.GROUPS_A_STEP == 0 for num_groups in seen)
            assert other.reading.run("puzzles").num_steps == num_steps


_DIED = 9


def _spawn(function: Any, *args: Any) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=function, args=args)
    process.start()
    return process


def _write_whole_run(url: str, name: str) -> None:
    with Ledger.open(url) as ledger:
        example.write(ledger, name)


def _die_in_step_2(url: str, num_statements: int) -> None:
    ledger = Ledger.open(url)
    run = example.begin(ledger, "puzzles")
    ledger.record_step(run, example.step_record(1))
    done = []

    def count(*_: Any) -> None:
        done.append(1)
        if len(done) == num_statements:
            os._exit(_DIED)

    event.listen(ledger.engine, "after_cursor_execute", count)
    ledger.record_step(run, example.step_record(2))
