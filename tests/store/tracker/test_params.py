"""What people filter and compare by."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, update

from store.ledger import tables as t
from store.records import StudyRecord
from store.tracker import names
from store.tracker.record import MlflowRecord, Target
from store.tracker.sync import catch_up, is_complete
from tests.store.tracker.conftest import Copy
from tests.store.tracker.content import ms, rows

SMALL = {"small", "01 book (small)", "02 noise (small)", "03 numbers (small)"}
ONLY_CURRICULA = " and tags.`evergreen.kind` = 'curriculum'"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("params.objective = 'repo_r'", SMALL),
        ("params.objective = 'repo'" + ONLY_CURRICULA, {"flat"}),
        ("params.scheduler = 'none'" + ONLY_CURRICULA, {"flat"}),
        ("params.seed = '3' and params.group_size = '4'" + ONLY_CURRICULA, {"small", "flat"}),
        ("params.env = 'noise'", {"02 noise (small)"}),
        ("params.env_family = 'codebook'", {"01 book (small)"}),
        ("params.stage_idx = '3'", {"03 numbers (small)", "03 all (flat)"}),
        ("tags.`evergreen.status` = 'finished'", {"small", "flat"}),
        ("attributes.status = 'FINISHED' and metrics.`cl/acc` >= 0", {"small", "flat"}),
        ("attributes.run_name = '01 book (small)'", {"01 book (small)"}),
    ],
)
def test_mlflow_s_filters_find_runs(both: MlflowRecord, query: str, found: set[str]) -> None:
    runs = both.client.search_runs([both.experiment_id], query)
    assert {run.info.run_name for run in runs} == found


def test_stages_hang_under_their_curriculum(both: MlflowRecord) -> None:
    runs = {run.info.run_name: run for run in both.client.search_runs([both.experiment_id])}
    for name in ("small", "flat"):
        parents = {n: run.data.tags.get("mlflow.parentRunId") for n, run in runs.items() if name in n}
        assert parents.pop(name) is None
        assert list(parents.values()) == [runs[name].info.run_id] * 3


def test_times_are_those_of_the_ledger(both: MlflowRecord, source_of: Copy) -> None:
    read = source_of().read
    runs = {run.info.run_name: run.info for run in both.client.search_runs([both.experiment_id])}
    run, stage = read.run("small"), read.stages("small")[1]
    assert (runs["small"].start_time, runs["small"].end_time) == (ms(run.created_at), ms(run.ended_at))
    of_stage = runs["02 noise (small)"]
    assert (of_stage.start_time, of_stage.end_time) == (ms(stage.started_at), ms(stage.ended_at))


def test_a_forked_run_names_its_parent(source_of: Copy, target: Target) -> None:
    source = source_of()
    with source.ledger.engine.begin() as connection:
        flat = {"run_id": source.read.run_id("small"), "parent_id": source.read.run_id("flat")}
        connection.execute(insert(t.lineage).values(parent_stage=2, **flat))
    catch_up(source, MlflowRecord(target))
    assert rows(target, "SELECT value FROM tags WHERE key = 'evergreen.forked_from'") == [("flat after stage 2",)]


def test_stages_that_a_fork_inherits_have_the_params_that_they_were_trained_with(
    source_of: Copy, target: Target
) -> None:
    source = source_of()
    with source.ledger.engine.begin() as connection:
        lineage = {"run_id": source.read.run_id("small"), "parent_id": source.read.run_id("flat"), "parent_stage": 2}
        connection.execute(insert(t.lineage).values(lineage))
        spec = {**source.read.spec("flat"), "learner": {"lr": 0.75}}
        connection.execute(update(t.run).where(t.run.c.name == "flat").values(spec=spec))
    record = MlflowRecord(target)
    stages = record.stages(catch_up(source, record).entry)
    told = {number: (stage.params["objective"], stage.params["lr"]) for number, stage in stages.items()}
    own = ("repo_r", str(source.read.spec("small")["learner"]["lr"]))
    assert told == {1: ("repo", "0.75"), 2: ("repo", "0.75"), 3: own}
    inherited = {number: stage.tags.get("evergreen.inherited_from") for number, stage in stages.items()}
    assert inherited == {1: "flat", 2: "flat", 3: None}


def test_a_run_of_a_study_names_it_and_its_setting(source_of: Copy, target: Target) -> None:
    source = source_of()
    source.ledger.start_study(StudyRecord("trial", {}))
    with source.ledger.engine.begin() as connection:
        study = {"run_id": source.read.run_id("small"), "study_id": 1}
        connection.execute(insert(t.member).values(setting="lr=0.1", changes={}, **study))
    catch_up(source, MlflowRecord(target))
    tags = rows(target, "SELECT key, value FROM tags WHERE key IN ('evergreen.study', 'evergreen.setting')")
    assert dict(tags) == {"evergreen.study": "trial", "evergreen.setting": "lr=0.1"}


def test_a_run_that_was_lengthened_keeps_its_params_and_has_another_hash(source_of: Copy, target: Target) -> None:
    source, record = source_of(), MlflowRecord(target)
    catch_up(source, record)
    before, hashes = rows(target, "SELECT * FROM params"), [names.config_hash(source.read.spec("small"))]
    assert tag(target, names.HASH) == hashes
    (run,) = (one for one in source.read.runs() if one.name == "small")
    entry, at = record.curriculum(run.uid), source.read.all_boundary_times()["small"]
    assert entry is not None
    spec = source.read.spec("small")
    assert is_complete(entry, run, at, spec, source)
    spec["curriculum"]["stages"] = 12
    with source.ledger.engine.begin() as connection:
        connection.execute(update(t.run).where(t.run.c.name == "small").values(spec=spec))
    assert not is_complete(entry, run, at, spec, source)
    catch_up(source, record)
    assert rows(target, "SELECT * FROM params") == before
    assert tag(target, names.HASH) == [names.config_hash(spec)] != hashes


def test_a_copied_home_names_its_own_ledger(source_of: Copy, target: Target) -> None:
    source, copied, record = source_of(), source_of(), MlflowRecord(target)
    catch_up(source, record)
    assert tag(target, "evergreen.store_uri") == [source.url]
    run, at = copied.read.run("small"), copied.read.all_boundary_times()["small"]
    entry, spec = record.curriculum(run.uid), copied.read.spec("small")
    assert entry is not None
    assert not is_complete(entry, run, at, spec, copied)
    catch_up(copied, record)
    assert tag(target, "evergreen.store_uri") == [copied.url] != [source.url]


def tag(target: Target, name: str) -> list[str]:
    return [value for (value,) in rows(target, f"SELECT value FROM tags WHERE key = '{name}'")]


def test_runs_that_differ_in_seed_and_name_only_share_a_hash() -> None:
    spec = {"name": "a", "seed": 1, "step": {"groups": 4}, "tracker": {"type": "mlflow"}}
    same = {**spec, "name": "b", "seed": 2, "tracker": {"type": "none"}}
    assert names.config_hash(spec) == names.config_hash(same)
    assert names.config_hash(spec) != names.config_hash({**spec, "step": {"groups": 8}})


def test_a_note_is_one_line_and_no_markup(source_of: Copy) -> None:
    run = source_of().read.run("small")
    hostile = type(run)(**{**vars(run), "model": "x`\n# [a](http://b) `y"})
    note = names.note(hostile, {"environments": {"`\n<b>": {}}})
    assert note.startswith("`x' # [a](http://b) 'y` on `' <b>`; scheduler uniform")
