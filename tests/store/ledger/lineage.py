"""What every ledger must know of how runs are related: studies and their members, twins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.errors import LedgerError
from store.ledger.ledger import Ledger
from store.records import MemberRecord, StudyRecord
from tests.store.ledger import example

PLAN = {"seeds": [0, 1], "settings": [{"label": "a", "changes": {"learner.lr": 0.1}}]}


class LineageSuite:
    """One process. Every test gets an empty database."""

    def test_a_study_knows_its_runs_in_the_order_of_their_starts(self, ledger: Ledger) -> None:
        ledger.start_study(StudyRecord("s", PLAN))
        ledger.start_study(StudyRecord("other", {}))
        for name in ("b", "a"):
            member = MemberRecord("s", f"setting {name}", {"learner.lr": 0.1, "objective": {"preset": "rloo"}})
            ledger.start_run(replace(example.run_record(name), member=member))
        ledger.start_run(example.run_record("alone"))
        first, second = ledger.reading.members("s")
        assert (first.run, first.setting, first.seed) == ("b", "setting b", example.run_record("b").seed)
        assert first.changes == {"learner.lr": 0.1, "objective": {"preset": "rloo"}}
        assert (second.run, second.status) == ("a", "running")
        assert ledger.reading.members("other") == []
        told = [(run.name, run.study, run.setting) for run in ledger.reading.runs()]
        assert told == [("b", "s", "setting b"), ("a", "s", "setting a"), ("alone", None, None)]

    def test_a_study_may_grow(self, ledger: Ledger) -> None:
        ledger.start_study(StudyRecord("s", PLAN))
        before = ledger.reading.study("s")
        ledger.start_study(StudyRecord("s", {**PLAN, "seeds": [0, 1, 2]}))
        (after,) = ledger.reading.studies()
        assert (before.plan["seeds"], after.plan["seeds"]) == ([0, 1], [0, 1, 2])
        assert after.created_at == before.created_at

    def test_a_study_that_is_not_there_is_an_error_that_lists_those_that_are(self, ledger: Ledger) -> None:
        with pytest.raises(LedgerError, match="no study 's'; it has: none"):
            ledger.reading.members("s")
        ledger.start_study(StudyRecord("t", {}))
        with pytest.raises(LedgerError, match="it has: t"):
            ledger.reading.study("s")

    def test_a_run_knows_its_twin(self, ledger: Ledger) -> None:
        ledger.start_run(example.run_record("run"))
        assert ledger.reading.baseline("run") is None
        ledger.start_run(replace(example.run_record("twin"), baseline_of="run"))
        assert ledger.reading.baseline("run") == "twin"
        assert ledger.reading.run("twin").baseline_of == "run"
        assert ledger.reading.run("run").baseline_of is None

    def test_a_member_of_no_study_and_a_twin_of_no_run_are_refused(self, ledger: Ledger) -> None:
        with pytest.raises(LedgerError):
            ledger.start_run(replace(example.run_record("run"), member=MemberRecord("none", "a", {})))
        with pytest.raises(LedgerError):
            ledger.start_run(replace(example.run_record("run"), baseline_of="nobody"))
        assert ledger.reading.runs() == []

    def test_a_removed_run_leaves_nothing_and_no_other_is_touched(self, ledger: Ledger) -> None:
        ledger.start_study(StudyRecord("s", PLAN))
        for name in ("kept", "gone"):
            example.write(ledger, name)
        uid, before = ledger.reading.run("gone").uid, ledger.reading.num_rows("kept")
        assert ledger.reading.num_rows("gone") == before > 50
        ledger.remove_run(uid)
        ledger.remove_run(uid)
        assert [run.name for run in ledger.reading.runs()] == ["kept"]
        assert ledger.reading.num_rows("kept") == before
        ledger.remove_study("s")
        assert ledger.reading.studies() == []

    def test_a_run_that_others_refer_to_is_not_removed(self, ledger: Ledger) -> None:
        ledger.start_run(example.run_record("run"))
        ledger.start_run(replace(example.run_record("twin"), baseline_of="run"))
        with pytest.raises(LedgerError, match="clashes"):
            ledger.remove_run(ledger.reading.run("run").uid)
        assert {run.name for run in ledger.reading.runs()} == {"run", "twin"}
        for name in ("twin", "run"):
            ledger.remove_run(ledger.reading.run(name).uid)
        assert ledger.reading.runs() == []
