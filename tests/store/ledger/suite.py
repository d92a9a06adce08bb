"""What every ledger must do in one process."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from sqlalchemy import event, select

from store.errors import LedgerError, UnknownMetric
from store.ledger import tables
from store.ledger.ledger import Ledger
from store.records import (
    DIVERGENCE,
    INTERVENTION,
    BoundaryRecord,
    CategoryRecord,
    CellRecord,
    EnvironmentRecord,
    EventRecord,
    Gaps,
    HoldoutRecord,
    LineageRecord,
    MeasurementRecord,
    MetricRecord,
    RunRecord,
)
from tests.shares import share
from tests.store.ledger import example
from tests.store.ledger.changes import LEFT_OUT, MEASURED, TRAINED, at_step_2, first, with_spread
from tests.store.ledger.example import Change, unchanged
from tests.store.ledger.lineage import LineageSuite
from tests.store.ledger.schema import SchemaSuite

# every database must find the same; a change of the canonical form shows here
GOLDEN = {
    "digest": "de09af63c79d0216f4099f20ae4d0af50a00eb8c862f29dc51868708fb37eea1",
    "digest_all": "0f6edbf228fbb51a35d234bd23a70ec37f42561d0117cfccebbf37c7d67bfed8",
}
# of the same run where nothing is measured but accuracy and entropy, as it was before there was more to measure
GOLDEN_WITHOUT_PLASTICITY = "9032c74a734a2747b537430608a0d5720e227aea38899b45e13728f440adf17d"

_TIMES = ("created_at", "started_at", "ended_at", "last_step_at")


def facts(ledger: Ledger, name: str) -> dict[str, Any]:
    """Everything that can be read of a run, but its name and the times."""
    ask = ledger.reading
    rows: dict[str, Any] = {
        "stages": ask.stages(name),
        "boundaries": ask.boundaries(name),
        "matrix": ask.matrix(name, "accuracy"),
        "series": ask.series(name, "accuracy"),
        "last": ask.last_metrics(name),
        "arms": ask.arms(name),
        "samples": ask.samples(name, limit=1000),
        "events": ask.events(name),
        "checkpoints": ask.checkpoints(name),
        "network": ask.network(name),
        "probes": ask.probes(name),
        "probe points": ask.probe_points(name),
        "interventions": ask.interventions(name),
        "measurements": ask.measurements(name),
        "holdout queries": ask.holdout_queries(name),
    }
    plain = {what: [_timeless(asdict(row)) for row in answer] for what, answer in rows.items()}
    plain["allocation"] = [row._asdict() for row in ask.allocation(name)]
    plain["unscorable"] = ask.unscorable(name)
    return {**plain, "digest": ask.digest(name, "w"), "digest_all": ask.digest_all(name, "w")}


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in _TIMES}


class LedgerSuite(LineageSuite, SchemaSuite):
    """One process. Every test gets an empty database."""

    # --- forks ---------------------------------------------------------------------------------------

    def test_a_fork_begins_with_its_parents_history_up_to_a_boundary(self, ledger: Ledger) -> None:
        parent = example.write(ledger, "puzzles")
        record = replace(example.run_record("fork"), lineage=LineageRecord("puzzles", 1))
        (checkpoint,) = [c for c in ledger.checkpoints(parent) if c.num_boundaries == 2]
        run = ledger.fork_run(record, checkpoint)
        ledger.rewind(parent, checkpoint.step, checkpoint.num_boundaries)
        assert facts(ledger, "fork") == facts(ledger, "puzzles") | {"checkpoints": facts(ledger, "fork")["checkpoints"]}
        assert ledger.checkpoints(run) == [checkpoint]
        told = ledger.reading.run("fork")
        assert (told.parent, told.parent_stage, told.num_boundaries) == ("puzzles", 1, 2)
        assert (ledger.reading.run("puzzles").parent, ledger.reading.run("puzzles").parent_stage) == (
            None,
            None,
        )

    def test_how_its_parent_ended_is_not_told_of_a_fork(self, ledger: Ledger) -> None:
        parent = example.write(ledger, "puzzles")
        record = replace(example.run_record("fork"), lineage=LineageRecord("puzzles", 1))
        (checkpoint,) = [c for c in ledger.checkpoints(parent) if c.num_boundaries == 2]
        ledger.record_event(parent, checkpoint.step, EventRecord("stopped", "asked to stop"))
        ledger.fork_run(record, checkpoint)
        assert ledger.reading.all_last_events(["stopped"]) == {"puzzles": "asked to stop"}

    def test_a_fork_and_its_parent_go_separate_ways(self, ledger: Ledger) -> None:
        parent = example.write(ledger, "puzzles")
        before = facts(ledger, "puzzles")
        record = replace(example.run_record("fork"), lineage=LineageRecord("puzzles", 0))
        (checkpoint,) = [c for c in ledger.checkpoints(parent) if c.num_boundaries == 1]
        run = ledger.fork_run(record, checkpoint)
        ledger.record_event(run, 0, EventRecord("note", "only here"))
        ledger.rewind(run, 0, 0)
        assert facts(ledger, "puzzles") == before

    def test_environments_may_join_a_boundary_that_is_there(self, ledger: Ledger) -> None:
        run = example.write(ledger, "puzzles")
        joined = EnvironmentRecord("new", "codebook", "1", True, {}, [CategoryRecord("2", True, {})])
        ledger.declare(run, [joined])
        ledger.record_holdouts(run, [HoldoutRecord("new", "2", "own", "abc", 2)])
        cells = [CellRecord("new", "2", "accuracy", 0.5, None, 2, 4, "own")]
        record = example.without_plasticity(example.boundary_record(1))
        ledger.record_joined(run, replace(record, cells=cells, items=[], samples=[], events=[]))
        matrix = ledger.reading.matrix("puzzles", "accuracy")
        wholes = ledger.reading.matrix("puzzles", "accuracy", by_category=False)
        assert wholes == [cell for cell in matrix if cell.category is None]
        assert 0 < len(wholes) < len(matrix)
        assert [(c.after_stage, c.value) for c in matrix if c.environment == "new"] == [(1, 0.5)]

    def test_a_run_may_go_on_with_another_spec(self, ledger: Ledger) -> None:
        run = example.write(ledger, "puzzles")
        ledger.set_spec(run, {"curriculum": {"stages": 9}})
        assert ledger.reading.spec("puzzles") == {"curriculum": {"stages": 9}}

    # --- plasticity ----------------------------------------------------------------------------------

    def test_what_was_measured_of_the_policy_comes_back_as_it_was(self, ledger: Ledger) -> None:
        run = example.write(ledger, "puzzles")
        example.intervene(ledger, run)
        ask, told = ledger.reading, [example.boundary_record(after) for after in range(3)]
        network = [(row.after_stage, row.metric, row.layer, row.value) for row in ask.network("puzzles", "own_rank")]
        assert network == [(b.after_stage, one.metric, one.layer, one.value) for b in told for one in b.network]
        assert len({probe.sha256 for probe in ask.probes("puzzles")}) == 1
        probes = {(p.after_stage, p.kind, p.task, p.seed): (p.protocol, p.seconds) for p in ask.probes("puzzles")}
        assert probes == {
            (b.after_stage, p.kind, p.task, p.seed): (p.protocol, p.seconds) for b in told for p in b.probes
        }
        points = [(p.after_stage, p.seed, p.step, p.value) for p in ask.probe_points("puzzles", "probe_loss")]
        assert points == [(b.after_stage, p.seed, at.step, at.value) for b in told for p in b.probes for at in p.points]
        assert ask.probe_points("puzzles", "probe_score") == []
        assert [asdict(row) for row in ask.interventions("puzzles")] == [asdict(example.intervention_record())]
        cost = [(row.after_stage, row.name, row.passes, row.seconds) for row in ask.measurements("puzzles")]
        assert cost == [(b.after_stage, one.name, one.passes, one.seconds) for b in told for one in b.measurements]
        asked = [(row.after_stage, row.environment, row.asker, row.value) for row in ask.holdout_queries("puzzles")]
        assert asked == [(b.after_stage, one.environment, one.asker, one.value) for b in told for one in b.queries]

    def test_a_fork_inherits_interventions_but_not_that_of_the_boundary_it_begins_at(self, ledger: Ledger) -> None:
        run = example.write(ledger, "puzzles")
        example.intervene(ledger, run, lambda record: replace(record, after_stage=1, step=3))
        example.intervene(ledger, run)
        record = replace(example.run_record("fork"), lineage=LineageRecord("puzzles", 2))
        ledger.fork_run(record, ledger.checkpoints(run)[0])
        earlier, later = ledger.reading.interventions("puzzles")
        assert (earlier.after_stage, later.after_stage) == (1, 2)
        assert ledger.reading.interventions("fork") == [earlier]
        ledger.rewind(run, 6, 2)
        assert ledger.reading.interventions("puzzles") == [earlier]
        ledger.remove_run(ledger.reading.run("fork").uid)

    def test_what_an_intervention_was_found_to_do_goes_with_it_when_it_is_to_be_done_again(
        self, ledger: Ledger
    ) -> None:
        """Each time a run was killed between the two, the record kept what evaluating had found once more."""
        run, found = example.write(ledger, "puzzles"), EventRecord("unscorable", "8 samples in evaluation")
        done = BoundaryRecord(2, 6, 0.0, {}, events=[EventRecord(INTERVENTION, "shrink"), found])

        def told(name: str) -> list[tuple[int | None, str]]:
            return [(one.after_stage, one.kind) for one in ledger.reading.events(name)]

        before = told("puzzles")
        ledger.record_intervention(run, [], replace(done, after_stage=1, step=3))
        earlier = told("puzzles")
        ledger.record_intervention(run, [], done)
        assert told("puzzles") != earlier
        ledger.fork_run(
            replace(example.run_record("fork"), lineage=LineageRecord("puzzles", 2)), example.checkpoint_record(6, 3)
        )
        ledger.rewind(run, 6, 3, is_before_intervening=True)
        assert told("puzzles") == told("fork") == earlier
        assert len(earlier) == len(before) + 2
        ledger.remove_run(ledger.reading.run("fork").uid)

    def test_a_divergence_at_the_step_that_a_run_goes_back_to_is_forgotten(self, ledger: Ledger) -> None:
        """The evaluation after an intervention is at its boundary's step; a fork begins there too."""
        run = example.write(ledger, "puzzles")

        def divergences(name: str) -> list[int]:
            return [one.step for one in ledger.reading.events(name) if one.kind == DIVERGENCE]

        ledger.record_event(run, 6, EventRecord(DIVERGENCE, "not finite", {"version": 7}))
        record = replace(example.run_record("fork"), lineage=LineageRecord("puzzles", 2))
        ledger.fork_run(record, example.checkpoint_record(6, 3))
        assert (divergences("puzzles"), divergences("fork")) == ([6], [])
        ledger.rewind(run, 6, 3)
        assert divergences("puzzles") == []
        ledger.remove_run(ledger.reading.run("fork").uid)

    def test_many_categories_are_entered_in_as_many_statements_as_few(self, ledger: Ledger) -> None:
        counted = []
        for name, num in (("first", 3), ("few", 3), ("many", 300)):
            asked: list[str] = []
            event.listen(ledger.engine, "before_cursor_execute", lambda *call, asked=asked: asked.append(call[2]))
            categories = [CategoryRecord(str(k), True, {}) for k in range(num)]
            wide = EnvironmentRecord(name, "codebook", "1", True, {}, categories)
            run = ledger.start_run(replace(example.run_record(name), environments=[wide]))
            sets = [HoldoutRecord(name, one.name, "own", f"sha256 of {one.name}", 2) for one in categories]
            for _ in range(2):  # as a resumed run says them again
                ledger.record_holdouts(run, sets)
            counted.append(len(asked))
            assert len({run.holdout(name, one.name, "own") for one in categories}) == num
        assert counted[1] == counted[2]  # the first run enters the metrics too

    def test_categories_are_in_the_order_in_which_the_ledger_was_first_told_of_them(self, ledger: Ledger) -> None:
        words, gcd = example.environments()

        def told(is_trainable: bool) -> Change:
            own = [CategoryRecord("4", is_trainable, {}), CategoryRecord("3", True, {})]
            environments = [replace(words, categories=own), gcd]
            return lambda one: replace(one, environments=environments) if isinstance(one, RunRecord) else one

        example.write(ledger, "first", told(is_trainable=False))
        example.write(ledger, "second", told(is_trainable=True))
        assert [tuple(row[:2]) for row in ledger.reading.categories("first")] == [("words", "3"), ("gcd", "easy")]
        found = [tuple(row[:2]) for row in ledger.reading.categories("second")]
        assert found == [("words", "4"), ("words", "3"), ("gcd", "easy")]

    def test_environments_that_join_a_boundary_add_to_what_it_cost(self, ledger: Ledger) -> None:
        run = example.write(ledger, "puzzles")
        joined = EnvironmentRecord("new", "codebook", "1", True, {}, [CategoryRecord("2", True, {})])
        ledger.declare(run, [joined])
        ledger.record_holdouts(run, [HoldoutRecord("new", "2", "own", "abc", 2)])
        cells = [CellRecord("new", "2", "accuracy", 0.5, None, 2, 4, "own")]
        cost = [MeasurementRecord("evaluation", 4.0, 0.5)]
        record = replace(example.without_plasticity(example.boundary_record(1)), cells=cells, measurements=cost)
        ledger.record_joined(run, replace(record, items=[], samples=[], events=[]))
        found = {
            (one.after_stage, one.name): (one.passes, one.seconds) for one in ledger.reading.measurements("puzzles")
        }
        assert found[1, "evaluation"] == (20.0, 1.75)
        assert found[1, "probe"] == (48.0, 0.25)

    # --- writing -------------------------------------------------------------------------------------

    def test_a_run_is_listed_with_what_it_has_done(self, ledger: Ledger) -> None:
        run = example.write(ledger, "puzzles")
        ledger.set_status(run, "finished")
        (listed,) = ledger.reading.runs()
        assert listed == ledger.reading.run("puzzles")
        assert (listed.name, listed.status, listed.seed) == ("puzzles", "finished", 7)
        assert (listed.num_steps, listed.num_boundaries) == (6, 3)
        assert listed.created_at <= str(listed.last_step_at) <= str(listed.ended_at)

    def test_a_run_that_has_not_measured_anything_yet_lacks_nothing(self, ledger: Ledger) -> None:
        run = example.begin(ledger, "puzzles")
        assert not ledger.reading.gaps("puzzles")
        ledger.record_checkpoint(run, example.checkpoint_record(3, 2))
        assert ledger.reading.gaps("puzzles") == Gaps(steps=((1, 3),), boundaries=((0, 1),))

    def test_spec_and_host_come_back_as_they_were(self, ledger: Ledger) -> None:
        run = example.run_record("puzzles")
        ledger.start_run(run)
        assert ledger.reading.spec("puzzles") == run.spec
        assert ledger.reading.host("puzzles") == run.host

    def test_a_name_is_used_once(self, ledger: Ledger) -> None:
        ledger.start_run(example.run_record("puzzles"))
        with pytest.raises(LedgerError, match="'puzzles' clashes"):
            ledger.start_run(replace(example.run_record("puzzles"), uid="another"))
        assert len(ledger.reading.runs()) == 1

    def test_an_unknown_run_is_an_error_with_the_nearest_name(self, ledger: Ledger) -> None:
        ledger.start_run(example.run_record("puzzles"))
        with pytest.raises(LedgerError, match=r"no run 'puzles'.*'puzzles'"):
            ledger.reading.stages("puzles")

    def test_a_step_is_written_wholly_or_not_at_all(self, ledger: Ledger) -> None:
        run = example.begin(ledger, "puzzles")
        good = example.step_record(1)
        unknown = [MetricRecord("acuracy", 1.0)]
        with pytest.raises(UnknownMetric, match="'accuracy'"):
            ledger.record_step(run, replace(good, metrics=unknown))
        with pytest.raises(LedgerError, match="no category 'words / 5'"):
            ledger.record_step(run, replace(good, groups=first(good.groups, category="5")))
        assert ledger.reading.run("puzzles").num_steps == 0
        ledger.record_step(run, good)
        before = facts(ledger, "puzzles")
        with pytest.raises(LedgerError, match="Step 1 of run 'puzzles' clashes"):
            ledger.record_step(run, good)
        assert facts(ledger, "puzzles") == before

    def test_what_is_not_finite_is_null(self, ledger: Ledger) -> None:
        run = example.begin(ledger, "puzzles")
        values = {"loss": float("nan"), "grad_norm": float("inf"), "lr": None, "clip_frac": -0.5}
        metrics = [MetricRecord(name, value) for name, value in values.items()]
        ledger.record_step(run, replace(example.step_record(1), metrics=metrics))
        found = {row.metric: row.value for row in ledger.reading.last_metrics("puzzles")}
        assert found == {"loss": None, "grad_norm": None, "lr": None, "clip_frac": -0.5}

    def test_completions_may_hold_any_character(self, ledger: Ledger) -> None:
        run = example.begin(ledger, "puzzles")
        step = example.step_record(1)
        odd = first(step.samples, completion="a\0b\ud800c🌲", messages=[{"role": "user", "content": "\0\ud800"}])
        ledger.record_step(run, replace(step, samples=odd))
        (sample,) = ledger.reading.samples("puzzles")
        assert sample.completion == "a␀b?c🌲"
        assert sample.messages[0]["content"] == "\0\ud800"

    def test_categories_may_appear_while_a_run_goes_on(self, ledger: Ledger) -> None:
        run = example.begin(ledger, "puzzles")
        words, _ = example.environments()
        grown = replace(words, categories=[*words.categories, CategoryRecord("5", True, {})])
        ledger.declare(run, [grown])
        step = example.step_record(1)
        ledger.record_step(run, replace(step, groups=first(step.groups, category="5")))
        assert {row.category for row in ledger.reading.allocation("puzzles")} == {"3", "4", "5"}

    def test_one_name_may_mean_two_environments_in_two_runs(self, ledger: Ledger) -> None:
        example.begin(ledger, "first")
        example.begin(ledger, "second")
        other = [replace(record, options={"seed": 4}) for record in example.environments()]
        ledger.start_run(replace(example.run_record("third"), environments=other))
        with ledger.engine.connect() as connection:
            names = list(connection.scalars(select(tables.environment.c.name)))
        assert sorted(names) == ["*", "gcd", "gcd", "words", "words"]

    def test_more_than_200_arms_are_not_kept_step_by_step(self, ledger: Ledger) -> None:
        run = example.begin(ledger, "puzzles")
        step = example.step_record(1)
        for num_arms in (200, 201):
            arms = [replace(step.arms[0], arm=str(i)) for i in range(num_arms)]
            ledger.record_step(run, replace(step, step=num_arms, arms=arms))
        assert [arm.step for arm in ledger.reading.arms("puzzles")] == [200] * 200

    def test_a_cell_needs_its_holdout(self, ledger: Ledger) -> None:
        run = ledger.start_run(example.run_record("puzzles"))
        with pytest.raises(LedgerError, match="no holdout 'words / 3 / anchor'"):
            ledger.record_boundary(run, example.boundary_record(0))

    # --- reading -------------------------------------------------------------------------------------

    def test_matrices_are_read_by_stage_environment_and_category(self, ledger: Ledger) -> None:
        example.write(ledger, "puzzles")
        cells = ledger.reading.matrix("puzzles", "accuracy", "anchor")
        assert [(c.after_stage, c.environment, c.category) for c in cells[:5]] == [
            (0, "words", None),
            (0, "words", "3"),
            (0, "words", "4"),
            (0, "gcd", None),
            (0, "gcd", "easy"),
        ]
        assert [c.value for c in cells if c.category == "easy"] == [1 / 7, 2 / 7, 3 / 7]
        assert ledger.reading.matrix("puzzles", "accuracy", "final") == []

    def test_series_are_read_at_every_level(self, ledger: Ledger) -> None:
        example.write(ledger, "puzzles")
        read = ledger.reading.series
        assert [p.value for p in read("puzzles", "accuracy")] == [1 / (2 + s) for s in range(1, 7)]
        assert [p.step for p in read("puzzles", "accuracy", "gcd")] == [4, 5, 6]
        assert [(p.value, p.n) for p in read("puzzles", "accuracy", "gcd", "easy")][-1] == (1 / 9, 4.0)

    def test_a_span_of_steps_is_read_at_once(self, ledger: Ledger) -> None:
        example.write(ledger, "puzzles")
        ask = ledger.reading
        assert ask.numbers("puzzles", after=5) == ask.last_metrics("puzzles")
        assert {number.step for number in ask.numbers("puzzles", 1, 3)} == {2, 3}
        assert {arm.step for arm in ask.arms("puzzles", None, 1, 3)} == {2, 3}
        picks = ask.picks("puzzles", until=3)
        assert [(p.step, p.level) for p in picks if p.level == "scheduler"] == [
            (0, "scheduler"),
            (3, "scheduler"),
        ]
        assert [p.slot for p in picks if p.step == 2] == list(range(example.GROUPS_A_STEP))
        assert ask.picks("puzzles") == [*picks, *ask.picks("puzzles", after=3)]

    def test_where_the_samples_went(self, ledger: Ledger) -> None:
        example.write(ledger, "puzzles")
        rows = ledger.reading.allocation("puzzles")
        assert [(r.stage, r.environment, r.category, r.num_groups, r.num_samples, r.num_scored) for r in rows] == [
            (1, "words", "3", 6, 12, 11),
            (1, "words", "4", 6, 12, 12),
            (2, "gcd", "easy", 12, 24, 24),
        ]
        assert rows[2].value_sum == pytest.approx(3 * (1 + 1 / 2 + 1 / 3 + 1 / 4))
        assert rows[2].num_correct == 3

    def test_groups_with_a_signal_are_counted_by_what_the_objective_reads(self, ledger: Ledger) -> None:
        """By verdict: in the first slot one of two is correct. By value: all but the share that had no spread."""
        example.write(ledger, "puzzles", with_spread)
        told = {
            reward: [
                (row.environment, row.category, row.num_groups, row.num_taught)
                for row in ledger.reading.taught("puzzles", reward)
            ]
            for reward in ("value", "correct")
        }
        assert told == {
            "value": [("words", "3", 6, 3), ("words", "4", 6, 3), ("gcd", "easy", 12, 9)],
            "correct": [("words", "3", 6, 0), ("words", "4", 6, 2), ("gcd", "easy", 12, 3)],
        }

    def test_unscorable_samples_are_counted_by_reason(self, ledger: Ledger) -> None:
        example.write(ledger, "puzzles")
        counted = {"environment": "words", "reason": "timed out", "num_samples": 1}
        assert ledger.reading.unscorable("puzzles") == [counted]

    def test_samples_are_chosen_by_environment_stage_and_failure(self, ledger: Ledger) -> None:
        right = at_step_2("samples", correct=True, value=1.0)
        example.write(ledger, "puzzles", right)
        read = ledger.reading.samples
        assert [s.step for s in read("puzzles", stage=2)] == [6, 5, 4]
        assert [s.step for s in read("puzzles", "words", failed=True, stage=1)] == [3, 1]
        assert [s.after_stage for s in read("puzzles", "words", limit=1)] == [2]

    # --- going back ----------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("step", "num_boundaries", "num_records"),
        share([(0, 0, 0), (0, 1, 2), (1, 1, 3), (3, 1, 5), (3, 2, 7), (5, 2, 9), (6, 2, 10), (6, 3, 11)], 4),
    )
    def test_going_back_is_as_if_nothing_later_was_written(
        self, ledger: Ledger, step: int, num_boundaries: int, num_records: int
    ) -> None:
        course = list(example.course())
        short = example.begin(ledger, "short")
        for what in course[:num_records]:
            example.record(ledger, short, what)
        run = example.write(ledger, "puzzles")
        whole = facts(ledger, example.write(ledger, "whole").name)

        ledger.rewind(run, step, num_boundaries)

        assert facts(ledger, "puzzles") == facts(ledger, "short")
        resumed = ledger.open_run("puzzles", example.environments())
        ledger.record_holdouts(resumed, example.holdout_records())
        for what in course[num_records:]:
            example.record(ledger, resumed, what)
        assert facts(ledger, "puzzles") == whole

    def test_a_lone_event_goes_with_the_steps_before_it(self, ledger: Ledger) -> None:
        run = example.begin(ledger, "puzzles")
        for step in (1, 2):
            ledger.record_event(run, step, EventRecord("stopped", f"by a signal after step {step}"))
        ledger.rewind(run, 1, 0)
        assert [event.step for event in ledger.reading.events("puzzles")] == [1]

    def test_starting_a_stage_again_changes_nothing(self, ledger: Ledger) -> None:
        run = example.begin(ledger, "puzzles")
        for _ in range(2):
            ledger.start_stage(run, example.stage_record(1))
        ledger.start_stage(example.begin(ledger, "once"), example.stage_record(1))
        assert facts(ledger, "puzzles") == facts(ledger, "once")

    def test_a_deleted_checkpoint_is_not_offered(self, ledger: Ledger) -> None:
        run = example.begin(ledger, "puzzles")
        first, second = example.checkpoint_record(0, 1), example.checkpoint_record(3, 2)
        for record in (first, second, replace(first, sha256="new")):
            ledger.record_checkpoint(run, record)
        assert ledger.checkpoints(run) == [second, replace(first, sha256="new")]
        ledger.forget_checkpoint(run, second)
        assert ledger.checkpoints(run) == [replace(first, sha256="new")]

    # --- digests -------------------------------------------------------------------------------------

    def test_digests_are_the_same_on_every_database(self, ledger: Ledger) -> None:
        example.write(ledger, "puzzles")
        found = facts(ledger, "puzzles")
        assert {key: found[key] for key in GOLDEN} == GOLDEN

    def test_what_is_not_measured_is_not_in_a_digest(self, ledger: Ledger) -> None:
        found = _digests(ledger, "plain", example.without_plasticity)
        assert found == (GOLDEN["digest"], GOLDEN_WITHOUT_PLASTICITY)

    def test_only_digest_all_sees_an_intervention(self, ledger: Ledger) -> None:
        run = example.write(ledger, "puzzles")
        seen = [(ledger.reading.digest("puzzles", "w"), ledger.reading.digest_all("puzzles", "w"))]
        example.intervene(ledger, run)
        seen.append((ledger.reading.digest("puzzles", "w"), ledger.reading.digest_all("puzzles", "w")))
        assert seen[0][0] == seen[1][0], "of training; the weights that it leaves are hashed beside it"
        assert seen[0][1] != seen[1][1]

    def test_digests_leave_out_keys_names_times_order_and_hosts(self, ledger: Ledger) -> None:
        plain = _digests(ledger, "plain", unchanged)
        assert {what: _digests(ledger, what, change) for what, change in LEFT_OUT.items()} == dict.fromkeys(
            LEFT_OUT, plain
        )

    def test_both_digests_see_what_was_trained(self, ledger: Ledger) -> None:
        trained, everything = _digests(ledger, "plain", unchanged)
        found = {what: _digests(ledger, what, change) for what, change in TRAINED.items()}
        assert [what for what in found if found[what][0] == trained] == []
        assert [what for what in found if found[what][1] == everything] == []

    def test_only_digest_all_sees_what_was_measured(self, ledger: Ledger) -> None:
        trained, everything = _digests(ledger, "plain", unchanged)
        found = {what: _digests(ledger, what, change) for what, change in MEASURED.items()}
        assert [what for what in found if found[what][0] != trained] == []
        assert [what for what in found if found[what][1] == everything] == []

    def test_digests_see_the_weights(self, ledger: Ledger) -> None:
        example.begin(ledger, "puzzles")
        for read in (ledger.reading.digest, ledger.reading.digest_all):
            assert read("puzzles", "w") != read("puzzles", "other")


def _digests(ledger: Ledger, name: str, change: Change) -> tuple[str, str]:
    example.write(ledger, name, change)
    return ledger.reading.digest(name, "w"), ledger.reading.digest_all(name, "w")
