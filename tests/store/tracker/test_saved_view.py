"""What MLflow opens on: a view of ours beside those that people saved."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from store import report
from store.ledger.query_rows import RunRow
from store.tracker import names, saved_view
from store.tracker.daemon import TrackerJob, send_now
from store.tracker.record import MlflowRecord, Target, mind_manners
from store.tracker.saved_view import TAG, of_charts, of_run, of_runs, tag
from store.tracker.sync import catch_up
from tests.store.tracker.conftest import Copy
from tests.store.tracker.content import PATTERNS

THEIRS = {"mlflow.sharedViewState.0f3a": '{"name": "mine", "createdAt": 1, "state": "{}"}', "team": "red"}


@pytest.fixture(params=[False, True], ids=["plain", "with trainability"])
def state(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """What MLflow's pages read out of the tag."""
    return dict(json.loads(json.loads(tag(request.param))["state"]))


@cache
def pages() -> str:
    """MLflow's own pages, as they are installed."""
    mind_manners()
    import mlflow

    scripts = Path(str(mlflow.__file__)).parent / "server/js/build/static/js"
    return "".join(path.read_text() for path in scripts.glob("*.js"))


def tags(record: MlflowRecord) -> dict[str, str]:
    return dict(record.client.get_experiment(record.experiment_id).tags)


def test_mlflow_takes_the_tag_and_its_pages_read_what_is_in_it(state: Mapping[str, Any]) -> None:
    mind_manners()
    from mlflow.utils.validation import _validate_experiment_tag

    _validate_experiment_tag(TAG, tag())
    envelope = json.loads(tag())
    words = {"viewStateShareKey", "compareRunsMode", "workflowType", "machine_learning", "mlflow.runColor"}
    words |= {TAG.removesuffix(saved_view.KEY), *envelope, *state, *state["groupBy"], state["runsHiddenMode"]}
    words |= {key for part in ("compareRunSections", "compareRunCharts") for one in state[part] for key in one}
    words |= {chart["type"] for chart in state["compareRunCharts"]}
    assert [word for word in sorted(words) if not re.search(rf"\b{re.escape(word)}", pages())] == []


def test_columns_and_charts_are_of_what_is_sent(both: MlflowRecord, state: Mapping[str, Any]) -> None:
    run = next(run for run in both.client.search_runs([both.experiment_id]) if run.info.run_name == "small")
    sent = {f"metrics.`{name}`" for name in run.data.metrics} | {f"params.`{name}`" for name in run.data.params}
    sent |= {f"tags.`{name}`" for name in run.data.tags}
    assert set(state["selectedColumns"]) <= sent
    assert set(state["selectedColumns"]) <= set(state["columnOrder"])
    for chart in state["compareRunCharts"]:
        shown = [axis["key"] for axis in (chart.get("xaxis"), chart.get("yaxis")) if axis]
        shown += [*chart.get("selectedMetrics", ()), *filter(None, [chart.get("metricKey")])]
        assert {f"metrics.`{name}`" for name in shown} <= sent
        assert {f"params.`{name}`" for name in chart.get("selectedParams", ())} <= sent


def test_no_column_is_a_number_that_was_set(both: MlflowRecord, state: Mapping[str, Any]) -> None:
    """In a group's row MLflow shows the mean of a numeric param: seeds 0 and 1 as .5."""
    (run,) = [run for run in both.client.search_runs([both.experiment_id]) if run.info.run_name == "small"]
    numbers = {f"params.`{name}`" for name, value in run.data.params.items() if re.fullmatch(r"[-\d.e]+", value)}
    assert "params.`seed`" in numbers
    assert not numbers & set(state["columnOrder"])
    assert f"tags.`{names.SEED}`" in state["columnOrder"]


def test_every_section_has_its_place(state: Mapping[str, Any]) -> None:
    """MLflow makes one for every beginning of a name; one that we do not know would stand unfolded at the end."""
    ours, courses, *others = [section["name"] for section in state["compareRunSections"]]
    charted = {chart["metricKey"] for chart in state["compareRunCharts"] if "metricKey" in chart}
    patterns = {*PATTERNS} - charted - {names.TRAINABILITY}
    named = {pattern.partition("/")[0] for pattern in patterns}
    assert {name for name in named if "<" not in name} <= set(others)
    assert len(others) == len(set(others))
    assert [section["name"] for section in state["compareRunSections"] if section["display"]] == [
        *(ours, courses),
        *others[:2],
    ]
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == {ours, courses}


def test_the_view_is_written_once_and_what_others_saved_stays(target: Target) -> None:
    record = MlflowRecord(target)
    for key, value in THEIRS.items():
        record.client.set_experiment_tag(record.experiment_id, key, value)
    before = tags(record)
    assert before[TAG] == tag()
    again = MlflowRecord(target)
    again.client.set_experiment_tag = pytest.fail  # of this client alone
    assert again.has_view
    assert again._offer_view(again.client.get_experiment(again.experiment_id))
    assert tags(again) == before


def test_the_view_has_trainability_once_a_run_has(source_of: Copy, target: Target) -> None:
    """And keeps it, whatever is sent later."""
    assert tags(MlflowRecord(target))[TAG] == tag()
    catch_up(source_of(), MlflowRecord(target))
    assert tags(MlflowRecord(target))[TAG] == tag(has_trainability=True) != tag()
    catch_up(source_of("flat"), MlflowRecord(target))
    assert tags(MlflowRecord(target))[TAG] == tag(has_trainability=True)


def test_a_view_of_an_earlier_version_is_replaced(target: Target) -> None:
    record = MlflowRecord(target)
    for key, value in {**THEIRS, TAG: "{}"}.items():
        record.client.set_experiment_tag(record.experiment_id, key, value)
    MlflowRecord(target)
    assert THEIRS.items() <= tags(record).items()
    assert tags(record)[TAG] == tag()


def test_a_view_of_an_earlier_version_with_trainability_is_replaced_by_ours_with_it(target: Target) -> None:
    record = MlflowRecord(target)
    record.client.set_experiment_tag(record.experiment_id, TAG, tag(has_trainability=True).replace("seed", "lr"))
    assert tags(MlflowRecord(target))[TAG] == tag(has_trainability=True)


def test_where_mlflow_takes_no_view_the_record_is_sent_all_the_same(
    source_of: Copy, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def refuse(*args: object) -> None:
        raise MlflowException("PERMISSION_DENIED")

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    source, said = source_of(), list[str]()
    link = send_now(TrackerJob(source.run, str(source.folder), str(source.ledger.engine.url), target), said.append)
    assert link is not None
    assert "viewStateShareKey" not in link.runs + link.charts
    assert re.fullmatch(r"small: \d+ values sent", said[0])
    assert said[1] == "small: MLflow does not take the view with our columns and charts; its plain list is shown"


def test_addresses() -> None:
    face = "workflowType=machine_learning"
    assert of_runs("7", True) == f"/#/experiments/7/runs?{face}&viewStateShareKey=evergreen"
    assert of_charts("7", True) == f"/#/experiments/7/runs?{face}&viewStateShareKey=evergreen&compareRunsMode=CHART"
    assert of_charts("7", False) == f"/#/experiments/7/runs?{face}&compareRunsMode=CHART"
    assert of_run("7", "abc") == f"/#/experiments/7/runs/abc?{face}"


# --- groups and their colours ---


def test_runs_of_a_setting_share_a_group_and_a_colour(source_of: Copy) -> None:
    one = replace(source_of().read.run("small"), bandit="sec", scheduler="uniform", objective="repo_r")
    other_seed, other = replace(one, name="b", seed=4), replace(one, name="c", objective="rloo")
    flat = replace(one, name="d", scheduler=None)
    of_study = [replace(one, study="trial", setting=label) for label in ("lr=0.1", "lr=0.2", "lr=0.1")]
    runs = [one, other_seed, other, flat, *of_study]

    def looks(run: RunRow) -> tuple[str, str]:
        found = names.looks(run, runs)
        return found[names.SETTING], found[names.COLOUR]

    colours = list(names.COLOURS.values())
    alone = [("repo_r, sec, uniform", colours[0])] * 2 + [("rloo, sec, uniform", colours[1])]
    assert [looks(run) for run in runs[:4]] == [*alone, ("repo_r, sec", colours[2])]
    assert [looks(run) for run in of_study] == [("lr=0.1", colours[0]), ("lr=0.2", colours[1]), ("lr=0.1", colours[0])]


def test_beyond_as_many_settings_as_there_are_colours_they_are_grey(source_of: Copy) -> None:
    one = source_of().read.run("small")
    runs = [replace(one, name=str(number), study="trial", setting=f"lr={number}") for number in range(10)]
    colours = [names.looks(run, runs)[names.COLOUR] for run in runs]
    assert (len(set(colours[:8])), set(colours[8:])) == (8, {names.COLOURS["c0"]})
    assert not {*colours[:8]} & {*colours[8:]}


def test_the_colours_are_those_of_our_pages() -> None:
    css = (Path(str(report.__file__)).parent / "report.css").read_text()
    light = css.partition("@media")[0]
    assert dict(re.findall(r"--(c[0-8]): (#\w{6})", light)) == names.COLOURS


def test_a_record_of_an_earlier_version_gets_its_group_and_keeps_the_colour_that_somebody_chose(
    source_of: Copy, target: Target
) -> None:
    source, record = source_of(), MlflowRecord(target)
    catch_up(source, record)
    entry = record.curriculum(source.read.run("small").uid)
    assert entry is not None
    record.client.set_tag(entry.id, names.COLOUR, "#123456")
    for lost in (names.SETTING, names.SEED):
        record.client.delete_tag(entry.id, lost)
        catch_up(source, record)
        now = record.client.get_run(entry.id).data.tags
        assert (now[names.COLOUR], now[names.SETTING]) == ("#123456", "repo_r, headroom, uniform")
        assert now[names.SEED] == record.client.get_run(entry.id).data.params["seed"]
