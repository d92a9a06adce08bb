from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from store import checkpoints
from store.diff import Diff, DiffSide, diff, in_words
from store.diff.sentences import pair, value
from store.ledger import Ledger
from store.ledger import tables as t
from store.plasticity import INTERVENED
from store.records import (
    FINAL,
    BoundaryRecord,
    CellRecord,
    CheckpointRecord,
    EnvironmentRecord,
    HoldoutQueryRecord,
    HoldoutRecord,
    MetricRecord,
    PickRecord,
    RunRecord,
    StageRecord,
    StepRecord,
)
from tests.store.ledger import example
from tests.store.ledger.example import unchanged

Compare = Callable[..., Diff]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger that has the example as `one`."""
    with Ledger.open(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'evergreen.db'}") as opened:
        example.write(opened, "one")
        yield opened


@pytest.fixture
def compared(ledger: Ledger, tmp_path: Path, request: pytest.FixtureRequest) -> Compare:
    """Compare the example, A, with a changed one, B."""

    def compare(change: example.Change = unchanged, other: Ledger = ledger) -> Diff:
        example.write(other, request.node.name, change)
        return diff(DiffSide(ledger.reading, "one", tmp_path), DiffSide(other.reading, request.node.name, tmp_path))

    return compare


def at_step(step: int, change: Callable[[StepRecord], StepRecord]) -> example.Change:
    """Change this step and all after it."""

    def changed(record: Any) -> Any:
        return change(record) if isinstance(record, StepRecord) and record.step >= step else record

    return changed


def of_list(field: str, place: int, **values: Any) -> Callable[[Any], Any]:
    """Change an entry of a record's list."""

    def changed(record: Any) -> Any:
        entries = list(getattr(record, field))
        entries[place] = replace(entries[place], **values)
        return replace(record, **{field: entries})

    return changed


def at_boundary(after_stage: int, change: Callable[[Any], Any]) -> example.Change:
    def changed(record: Any) -> Any:
        is_it = isinstance(record, BoundaryRecord) and record.after_stage == after_stage
        return change(record) if is_it else record

    return changed


def at_stage(index: int, **values: Any) -> example.Change:
    def changed(record: Any) -> Any:
        is_it = isinstance(record, StageRecord) and record.index == index
        return replace(record, **values) if is_it else record

    return changed


REPLAYED = PickRecord(3, "replay", "replay", "words", "words", 0.5, 0.125)
BEFORE_SCORES = ["picks", "probabilities", "tasks", "replies"]


@pytest.mark.parametrize(
    ("change", "when", "facet", "words"),
    [
        (
            at_step(4, of_list("picks", 3, arm="hard")),
            "step 4",
            "picks",
            "slot 3 picked gcd/easy in A and gcd/hard in B",
        ),
        (
            at_step(4, of_list("picks", 3, role="replay")),
            "step 4",
            "picks",
            "slot 3 (gcd/easy) had role main in A and replay in B",
        ),
        (
            at_step(2, of_list("picks", 0, probability=0.3334)),
            "step 2",
            "probabilities",
            "slot 0: words/3 was picked with probability 0.3333 and 0.3334",
        ),
        (
            at_step(4, lambda record: replace(record, picks=[*record.picks, REPLAYED])),
            "step 4",
            "picks",
            "slot 3 of replay is there in B only",
        ),
        (
            at_step(5, of_list("groups", 1, task_key="another", task_index=7)),
            "step 5",
            "tasks",
            "slot 1 drew task 51 of gcd/easy (key of 5) in A and task 7 of gcd/easy (another) in B",
        ),
        (
            at_step(5, of_list("groups", 2, num_tokens=[5, 9])),
            "step 5",
            "replies",
            "slot 2, sample 1: tokens 7 in A and 9 in B",
        ),
        (
            at_step(6, of_list("groups", 2, values=[1 / 3, 0.5])),
            "step 6",
            "scores",
            "slot 2, sample 1: value 0 in A and 0.5 in B",
        ),
        (
            at_step(6, of_list("groups", 1, reasons=[None, "timed out"], values=[0.5, None])),
            "step 6",
            "scores",
            "slot 1, sample 1: value 0 in A and null in B",
        ),
        (
            at_step(3, of_list("picks", 1, signal=0.2)),
            "step 3",
            "signals",
            "slot 1: words/3 earned its bandit 0.1 and 0.2 (relative difference 0.5)",
        ),
        (
            at_step(3, of_list("metrics", 0, value=1 / 3 + 1e-7)),
            "step 3",
            "metrics",
            "metric loss 0.333333333 and 0.333333433 (relative difference 3e-07)",
        ),
        (
            at_step(3, of_list("metrics", 0, value=None)),
            "step 3",
            "metrics",
            "metric loss 0.333333 and null",
        ),
        (
            at_stage(2, num_steps=4),
            "stage 2",
            "stage",
            "num steps 3 in A and 4 in B",
        ),
        (
            at_boundary(0, lambda record: replace(record, eval_config={"temperature": 0.5, "max_tokens": 8})),
            "before training",
            "stage's end",
            "measured with temperature 1 in A and 0.5 in B",
        ),
        (
            at_boundary(1, lambda record: replace(record, stop_reason="mastery")),
            "after stage 1",
            "stage's end",
            "the stage ended by budget in A and mastery in B",
        ),
        (
            at_boundary(1, lambda record: replace(record, signal=0.5)),
            "after stage 1",
            "stage's end",
            "the scheduler was given 0.25 and 0.5 (relative difference 0.5)",
        ),
        (
            at_boundary(2, of_list("cells", 3, value=0.5)),
            "after stage 2",
            "measurements",
            "accuracy of words/3 (anchor) 0.4286 and 0.5 (relative difference 0.1)",
        ),
        (
            at_boundary(1, of_list("network", 2, value=2.0)),
            "after stage 1",
            "network",
            "own_rank of layer 1 2.333 and 2 (relative difference 0.1)",
        ),
        (
            at_boundary(
                2, lambda record: replace(record, probes=list(map(of_list("points", 1, value=0.5), record.probes)))
            ),
            "after stage 2",
            "probes",
            "supervised probe on strings (seed 0) after 10 steps: probe_loss 1.364 and 0.5 (relative difference 0.6); "
            "and 1 more point",
        ),
    ],
)
def test_the_first_difference_is_found_where_it_is(
    compared: Compare, change: example.Change, when: str, facet: str, words: str
) -> None:
    found = compared(change)
    assert found.first is not None
    assert (found.first.when, found.first.facet, found.is_equal) == (when, facet, False)
    assert in_words(found)[0].startswith(f"{when}: {words}")


def test_what_is_equal_before_it_in_its_step_is_named(compared: Compare) -> None:
    found = compared(at_step(4, of_list("metrics", 0, value=9.0)))
    assert found.first is not None
    assert found.first.same == [*BEFORE_SCORES, "scores", "signals"]
    assert in_words(found)[0].endswith("(same picks, probabilities, tasks, replies, scores and signals)")


def test_what_a_replay_rule_chose_is_compared(ledger: Ledger, tmp_path: Path) -> None:
    changes = {"probability": 0.5000001, "signal": 0.25, "arm": "gcd"}
    names = ("replayed", *(f"replayed with another {field}" for field in changes))
    for name, (field, changed) in zip(names, [("slot", 3), *changes.items()], strict=True):
        pick = replace(REPLAYED, **{field: changed})
        example.write(ledger, name, at_step(4, lambda record, pick=pick: replace(record, picks=[*record.picks, pick])))
    first, *others = (DiffSide(ledger.reading, name, tmp_path) for name in names)
    assert [in_words(diff(first, other))[0].partition(" (")[0] for other in others] == [
        "step 4: slot 3 of replay: words was picked with probability 0.5 and 0.5000001",
        "step 4: slot 3 of replay: words earned its bandit 0.125 and 0.25",
        "step 4: slot 3 of replay picked words in A and gcd in B",
    ]


def test_later_steps_and_boundaries_that_differ_are_counted(compared: Compare) -> None:
    def later(record: Any) -> Any:
        if isinstance(record, BoundaryRecord) and record.after_stage == 2:
            return of_list("cells", 0, value=0.0)(record)
        return at_step(4, of_list("metrics", 0, value=9.0))(record)

    found = compared(later)
    assert (found.num_compared_steps, found.num_different_steps) == (6, 3)
    assert (found.num_compared_boundaries, found.num_different_boundaries) == (3, 1)
    assert in_words(found)[1:] == [
        "3 steps before that are equal.",
        "Of 6 steps that both have, 3 differ; of 3 boundaries, 1.",
    ]


def test_other_held_out_tasks_are_told_before_their_numbers(compared: Compare) -> None:
    def other(record: Any) -> Any:
        return replace(record, sha256="others") if isinstance(record, HoldoutRecord) else record

    found = compared(other)
    assert in_words(found)[0].startswith("before training: gcd/easy (anchor) was measured on other tasks; and")


def test_times_names_and_the_order_of_keys_are_no_difference(compared: Compare, tmp_path: Path) -> None:
    """The second ledger met everything in another order, so all its keys are others."""

    def slower(record: Any) -> Any:
        if isinstance(record, StepRecord):
            metrics = [replace(m, value=1.0) if m.name == "tokens_per_s" else m for m in record.metrics]
            return replace(record, seconds=9.0, metrics=metrics[::-1])
        if isinstance(record, RunRecord):
            return replace(record, environments=[backward(e) for e in reversed(record.environments)])
        return record

    def backward(record: EnvironmentRecord) -> EnvironmentRecord:
        return replace(record, categories=list(reversed(record.categories)))

    with Ledger.open(f"sqlite:///{tmp_path / 'other.db'}") as other:
        found = compared(slower, other)
    assert (found.first, found.num_different_steps, found.spec) == (None, 0, [])


def test_the_sign_of_zero_is_no_difference_as_in_digests(compared: Compare) -> None:
    def negative(record: Any) -> Any:
        return of_list("groups", 1, values=[0.5, -0.0])(record)

    assert compared(at_step(1, negative)).first is None


def test_lists_as_an_older_ledger_has_them_are_no_difference(ledger: Ledger, tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'older.db'}") as older:
        example.write(older, "one")
        names = [column.name for column in t.task_group.c if isinstance(column.type, t.Entries)]
        with older.engine.begin() as connection:
            for name in names:
                for row, text in connection.execute(sa.text(f"SELECT rowid, {name} FROM task_group")).all():
                    change = sa.text(f"UPDATE task_group SET {name} = :text WHERE rowid = :row")
                    connection.execute(change, {"text": json.dumps(t.read_entries(text)), "row": row})
        found = diff(DiffSide(ledger.reading, "one", tmp_path), DiffSide(older.reading, "one", tmp_path))
    assert (found.first, found.num_compared_steps) == (None, 6)


def test_a_shorter_run_is_compared_as_far_as_it_goes(ledger: Ledger, tmp_path: Path) -> None:
    run = example.begin(ledger, "short")
    for record in list(example.course())[:8]:  # two boundaries, two stages, four steps
        example.record(ledger, run, record)
    found = diff(DiffSide(ledger.reading, "one", tmp_path), DiffSide(ledger.reading, "short", tmp_path))
    assert (found.first, found.is_equal, found.num_compared_steps) == (None, False, 4)
    assert in_words(found) == [
        "Equal as far as both have come: 4 steps, 2 boundaries. Further than that B is not (running)."
    ]


def test_a_stage_that_ended_early_in_one_run_is_told(ledger: Ledger, tmp_path: Path) -> None:
    """A goes on with stage 1 where B has ended it: no boundary of A's to compare with."""
    start, first = example.boundary_record(0), example.stage_record(1)
    for name, ends in (("long", None), ("early", 2)):
        run = example.begin(ledger, name)
        for record in (start, first, *map(example.step_record, (1, 2, 3))):
            example.record(ledger, run, record)
            if isinstance(record, StepRecord) and record.step == ends:
                end = replace(example.boundary_record(1), step=2, stop_reason="mastery")
                example.record(ledger, run, end)
    found = diff(DiffSide(ledger.reading, "long", tmp_path), DiffSide(ledger.reading, "early", tmp_path))
    assert in_words(found)[0] == "after stage 1: the stage went on in A and ended after step 2 in B"


def test_specs_versions_and_hosts_are_compared_field_by_field(compared: Compare) -> None:
    def other(record: Any) -> Any:
        if not isinstance(record, RunRecord):
            return record
        spec = {
            **record.spec,
            "learner": {"lr": 2e-4, "updates": 2},
            "ledger": {"url": "postgresql://me:secret@host/db"},
        }
        environments = [replace(e, version="2") for e in record.environments]
        return replace(record, spec=spec, host={"threads": 2}, environments=environments)

    found = compared(other)
    assert [(f.name, f.a, f.b) for f in found.spec] == [
        ("learner.lr", 1e-4, 2e-4),
        ("learner.updates", None, 2),
        ("ledger.url", None, "postgresql://***@host/db"),
    ]
    assert [(f.name, f.a, f.b) for f in found.environments] == [("gcd", "1", "2"), ("words", "1", "2")]
    assert [(f.name, f.a, f.b) for f in found.host] == [("threads", 1, 2)]
    assert found.first is None


def test_entropy_of_what_is_drawn_in_another_way_is_told_with_that(ledger: Ledger, tmp_path: Path) -> None:
    def changed(entropy: float, **sampler: Any) -> example.Change:
        def change(record: Any) -> Any:
            if isinstance(record, RunRecord):
                return replace(record, spec={**record.spec, "sampler": {"max_tokens": 8, **sampler}})
            more = [MetricRecord("entropy_token", entropy, n=8)]
            return replace(record, metrics=[*record.metrics, *more]) if isinstance(record, StepRecord) else record

        return change

    changes = (changed(1.0, temperature=1.0), changed(0.5, temperature=0.5), changed(0.6, temperature=1.0))
    for i, change in enumerate(changes):
        example.write(ledger, f"drawn-{i}", change)
    plain, cold, other = (DiffSide(ledger.reading, f"drawn-{i}", tmp_path) for i in range(3))
    said = "Entropy in training is that of what tokens were drawn from, and the runs differ in sampler.temperature."
    assert in_words(diff(plain, cold))[0].startswith("step 1: metric entropy_token 1 and 0.5 (")
    assert said in in_words(diff(plain, cold))
    assert said not in in_words(diff(plain, other))


# --- when nothing differs ------------------------------------------------------------------------------


def save(ledger: Ledger, folder: Path, name: str, weights: bytes) -> DiffSide:
    """Give a written run a whole checkpoint."""

    def write(into: Path) -> None:
        (into / "model").write_bytes(weights)

    saved = checkpoints.save(folder / name, "last", [checkpoints.Component("weights", 1, write)])
    ledger.record_checkpoint(ledger.open_run(name), CheckpointRecord(6, 3, "stop", **vars(saved)))
    return DiffSide(ledger.reading, name, folder / name)


@pytest.mark.parametrize("weights", [b"same", b"other"])
def test_equal_runs_show_their_digests_and_weights_decide(ledger: Ledger, tmp_path: Path, weights: bytes) -> None:
    names = f"a-{weights.decode()}", f"b-{weights.decode()}"
    for name in names:
        example.write(ledger, name)
    a, b = (save(ledger, tmp_path, name, of) for name, of in zip(names, (b"same", weights), strict=True))
    found = diff(a, b)
    (words,) = in_words(found)
    assert found.first is None
    assert found.is_equal is (weights == b"same")
    ours, theirs = found.digests
    assert ours is not None
    assert theirs is not None
    if found.is_equal:
        assert words == f"Equal, bit for bit: digest {ours.digest}, digest_all {ours.digest_all}."
    else:
        expected = f"but the weights at step 6 do: digest {ours.digest} and {theirs.digest}."
        assert words == f"Nothing recorded differs, {expected}"


def test_what_only_the_whole_digest_sees_is_told_as_that(ledger: Ledger, tmp_path: Path) -> None:
    example.write(ledger, "said")
    example.write(ledger, "said-otherwise", at_boundary(1, of_list("samples", 0, completion="other words")))
    found = diff(*(save(ledger, tmp_path, name, b"w") for name in ("said", "said-otherwise")))
    assert (found.first, found.is_equal) == (None, False)
    assert in_words(found)[0].startswith("Trained the same, bit for bit (digest ")


def test_evaluations_inside_stages_are_compared_where_both_runs_have_them(ledger: Ledger, tmp_path: Path) -> None:
    def looked(value: float, *further: MetricRecord) -> example.Change:
        more = [MetricRecord("eval_pass_1", value, n=8), *further]
        return at_step(3, lambda record: replace(record, metrics=[*record.metrics, *more]))

    changes = {
        "not": unchanged,
        "looked": looked(0.25),
        "further": looked(0.25, MetricRecord("eval_pass_4", 0.5)),
        "otherwise": looked(0.5),
    }
    for name, change in changes.items():
        example.write(ledger, f"interim-{name}", change)
    plain, one, more, other = (save(ledger, tmp_path, f"interim-{name}", b"w") for name in changes)
    for found in (diff(plain, one), diff(one, more)):
        assert (found.first, found.num_different_steps, found.is_equal) == (None, 0, False)
        assert in_words(found)[0].startswith("Trained the same, bit for bit (digest ")
    assert in_words(diff(one, other))[0].startswith("step 3: metric eval_pass_1 0.25 and 0.5 (")


def test_what_only_one_of_two_runs_measured_is_no_difference(ledger: Ledger, tmp_path: Path) -> None:
    def more(record: Any) -> Any:
        if not isinstance(record, BoundaryRecord):
            return record
        added = [replace(cell, metric="own_answers") for cell in record.cells if cell.metric == "accuracy"]
        return replace(record, cells=[*record.cells, *added])

    changes = {"plainly": example.without_plasticity, "as ever": unchanged, "further": more}
    for name, change in changes.items():
        example.write(ledger, name, change)
    plain, usual, further = (save(ledger, tmp_path, name, b"w") for name in changes)
    for found in (diff(plain, usual), diff(usual, further)):
        assert (found.first, found.num_different_boundaries, found.is_equal) == (None, 0, False)
        assert in_words(found)[0].startswith("Trained the same, bit for bit (digest ")


def test_an_environment_that_only_one_run_measured_is_no_difference(ledger: Ledger, tmp_path: Path) -> None:
    def of_gcd(record: Any) -> Any:
        return replace(record, cells=[cell for cell in record.cells if cell.environment == "gcd"])

    def otherwise(record: Any) -> Any:
        return replace(record, cells=[replace(cell, value=0.5) for cell in of_gcd(record).cells])

    changes = {"of both": unchanged, "of gcd": at_boundary(1, of_gcd), "of gcd, otherwise": at_boundary(1, otherwise)}
    for name, change in changes.items():
        example.write(ledger, name, change)
    both, one, other = (save(ledger, tmp_path, name, b"w") for name in changes)
    for found in (diff(both, one), diff(one, both)):
        assert (found.first, found.num_different_boundaries) == (None, 0)
        assert in_words(found)[0].startswith("Trained the same, bit for bit (digest ")
    assert in_words(diff(both, other))[0].startswith("after stage 1: accuracy of gcd (anchor) 0.2857 and 0.5 ")


def test_a_final_look_at_one_of_two_runs_is_no_difference(ledger: Ledger, tmp_path: Path) -> None:
    sides = []
    for name, found in {"unseen": None, "seen": 0.5, "seen otherwise": 0.25}.items():
        run = example.write(ledger, name)
        sides.append(save(ledger, tmp_path, name, b"w"))
        if found is not None:
            cell = CellRecord("words", "3", "accuracy", found, 0.01, 2, 4, FINAL)
            look = HoldoutQueryRecord("words", None, FINAL, FINAL, found)
            ledger.record_holdouts(run, [HoldoutRecord("words", "3", FINAL, "sha256 of others", 2)])
            ledger.record_final(run, BoundaryRecord(2, 6, 1.0, {"temperature": 1.0}, [cell], queries=[look]))
    unseen, seen, otherwise = sides
    assert in_words(diff(unseen, seen))[0].startswith("Equal, bit for bit")
    assert in_words(diff(seen, otherwise))[0].startswith("after stage 2: accuracy of words/3 (final) 0.5 and 0.25")


def test_an_intervention_in_one_run_only_is_told(ledger: Ledger, tmp_path: Path) -> None:
    def other(record: Any) -> Any:
        return replace(record, params={"keep": 0.9})

    sides = {}
    for name, change in (("shrunk", unchanged), ("shrunk less", other)):
        example.intervene(ledger, example.write(ledger, name), change)
        sides[name] = DiffSide(ledger.reading, name, tmp_path)
    one = DiffSide(ledger.reading, "one", tmp_path)
    alone, both = diff(one, sides["shrunk"]), diff(*sides.values())
    assert in_words(alone)[0].startswith(
        "after stage 2: shrink was done in B only (own_rank 2.0 < 3) (same held-out tasks"
    )
    assert in_words(both)[0].startswith(
        """after stage 2: shrink was done with params {"keep":0.8} in A and {"keep":0.9} in B"""
    )


def test_what_was_measured_after_interventions_is_told_after_them(ledger: Ledger, tmp_path: Path) -> None:
    def again(value: float) -> example.Change:
        more = CellRecord("words", "3", "accuracy", value, 0.01, 2, 4, INTERVENED)
        return at_boundary(2, lambda record: replace(record, cells=[*record.cells, more]))

    def less(record: Any) -> Any:
        return replace(record, params={"keep": 1.0})

    sides = []
    courses = {
        "kept all": (unchanged, less),
        "kept less": (again(0.5), unchanged),
        "and worse": (again(0.25), unchanged),
    }
    for name, (change, of_it) in courses.items():
        example.intervene(ledger, example.write(ledger, name, change), of_it)
        sides.append(DiffSide(ledger.reading, name, tmp_path))
    all_kept, one, other = sides
    assert in_words(diff(all_kept, one))[0].startswith("after stage 2: shrink was done with params ")
    assert in_words(diff(one, other))[0].startswith("after stage 2: accuracy of words/3 (intervened) 0.5 and 0.25 ")


def test_without_checkpoints_nothing_is_said_of_weights(compared: Compare) -> None:
    found = compared()
    assert (found.is_equal, list(found.digests)) == (False, [None, None])
    assert "weights cannot be compared: neither has a whole checkpoint" in in_words(found)[0]


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (0.1234, 0.1235, "0.1234 and 0.1235 (relative difference 0.0008)"),
        (1.0, 1.0 + 1e-15, "1 and 1.0000000000000011 (relative difference 1e-15)"),
        (0.0, 2.0, "0 and 2 (relative difference 1)"),
        (None, 0.5, "null and 0.5"),
    ],
)
def test_numbers_are_written_as_long_as_they_must_be(a: float | None, b: float | None, text: str) -> None:
    assert pair(a, b) == text


def test_long_values_are_shortened_and_null_is_not_the_word() -> None:
    assert (value(None), value("none"), value([1, "x"])) == ("null", "none", '[1, "x"]')
    assert len(value("x" * 1000)) <= 60
