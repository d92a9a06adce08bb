"""The page of a home says what its ledger says, leads to what is there, and shows what others wrote as text."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from store import comparison, overview
from store.carryover import left
from store.courses import Inventory, courses
from store.ledger import Ledger
from store.ledger.queries import Reading
from store.overview.page import UNFOLDED, render
from store.records import EventRecord, LineageRecord, MemberRecord, StudyRecord
from store.sentences import number
from store.tracker.outlets import Link
from tests.store.report import runs as made_up
from tests.store.report.pages import Page
from tests.store.report.runs import Shape, accuracy, entropy, written
from tests.store.report.test_page import HOSTILE

SERVER = {"type": "mlflow", "uri": "http://me:hush@mlflow.lab:5000/ml"}


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger.open("sqlite://") as opened:
        yield opened


def page_of(ledger: Ledger, home: Path, path: Path | None = None, **more: object) -> Page:
    studies = {study.name: study for study in ledger.reading.studies()}
    found = Inventory(courses(ledger.reading)[::-1], studies, **more)  # type: ignore[arg-type]
    return Page(render(found, home, path or home / overview.INDEX_FILE))


def test_a_course_is_what_the_boundaries_measured(ledger: Ledger, tmp_path: Path) -> None:
    shape = Shape(stages=3, boundaries=3)
    ledger.set_status(written(ledger, shape, "one"), "stopped")
    (course,) = courses(ledger.reading)
    assert (course.planned_stages, course.planned_steps, course.num_steps) == (3, 12, 8)
    mean = {stage: (accuracy(stage, 0) + accuracy(stage, 1)) / 2 for stage in range(3)}
    assert course.accuracy == pytest.approx(mean)
    shares = left(ledger.reading.carry_over("one"))
    assert course.entropy[0] == pytest.approx(1.0)
    assert course.entropy[2] == pytest.approx((shares["book"] * shares["words"]) ** 0.5)  # type: ignore[operator]
    (row,) = page_of(ledger, tmp_path).body("newest")
    assert row[0] == "one"
    assert row[1] == "stopped8 of 12 steps"
    assert row[2] == f"{number(mean[0])} \u2192{number(mean[2])}"
    assert row[3] == f"{course.entropy[2]:.0%}"
    assert row[4] == "repo_rbandit sec, scheduler round_robintiny, seed 7"
    assert row[6] == "evergreen resume one"


def test_an_environment_counts_in_what_is_left_from_its_second_look_on(ledger: Ledger) -> None:
    written(ledger, Shape(looked_at={1: ["book"], 3: ["book"]}), "part")
    (course,) = courses(ledger.reading)
    book, words = ([entropy(i, place) / entropy(0, place) for i in range(4)] for place in range(2))
    means = [1.0, book[1], (book[2] * words[2]) ** 0.5, (book[3] * words[2]) ** 0.5]
    assert list(course.entropy.values()) == pytest.approx(means)


def test_a_thousand_runs_are_as_few_queries_as_one(ledger: Ledger) -> None:
    counts = []
    for names in (["a"], [f"b{i}" for i in range(20)]):
        for name in names:
            written(ledger, Shape(stages=1), name)
        asked: list[str] = []
        event.listen(ledger.engine, "before_cursor_execute", lambda *call, asked=asked: asked.append(call[2]))
        assert len(courses(ledger.reading)) == len(courses(ledger.reading, None))
        counts.append(sum(text.startswith("SELECT") for text in asked) / 2)
    assert counts[0] == counts[1] == 5


def test_links_lead_to_what_is_there_from_where_the_page_is(ledger: Ledger, tmp_path: Path) -> None:
    for name in ("with", "without"):
        ledger.set_status(written(ledger, Shape(spec={"tracker": SERVER}), name), "finished")
        (tmp_path / name).mkdir()
    (tmp_path / "with" / "report.html").write_text("")
    Link("/#/experiments/1/runs", "/#/experiments/1/charts", "/#/experiments/1/runs/abc").keep(tmp_path / "with")
    there = {"with/report.html", "http://mlflow.lab:5000/ml", "http://mlflow.lab:5000/ml/#/experiments/1/runs/abc"}
    assert set(page_of(ledger, tmp_path).links) == there
    (tmp_path / "pages").mkdir()
    assert "../with/report.html" in page_of(ledger, tmp_path, tmp_path / "pages" / "mine.html").links
    assert "hush" not in render(Inventory(courses(ledger.reading), {}), tmp_path, tmp_path / "x.html")


def test_a_home_whose_path_is_no_text_and_a_server_that_is_none_have_a_page(ledger: Ledger, tmp_path: Path) -> None:
    home = tmp_path / os.fsdecode(b"h\xff")
    (home / "one").mkdir(parents=True)
    (home / "one" / "report.html").touch()
    written(ledger, Shape(spec={"tracker": {"type": "mlflow", "uri": "http://[::1:5000"}}), "one")
    page = tmp_path / "page.html"
    overview.write(Inventory(courses(ledger.reading), {}), home, page)
    assert set(Page(page.read_text("utf-8")).links) == {"h%FF/one/report.html"}


def test_commands_can_be_pasted_for_a_home_with_a_space(ledger: Ledger, tmp_path: Path) -> None:
    written(ledger, Shape(), "one")
    home = tmp_path / "my runs"
    assert f"export EVERGREEN_HOME='{home}'" in page_of(ledger, home).text


def test_the_record_in_the_home_is_a_command(ledger: Ledger, tmp_path: Path) -> None:
    ledger.set_status(written(ledger, Shape(spec={"tracker": {"type": "mlflow", "uri": None}}), "one"), "finished")
    page = page_of(ledger, tmp_path)
    assert page.body("newest")[0][-1] == "evergreen ui one"
    assert "thick line" not in page.text, "no study"


def test_a_study_is_told_by_setting_and_leads_to_its_comparison(ledger: Ledger, tmp_path: Path) -> None:
    plan = {"settings": [{"label": "<b>plain</b>"}, {"label": "kept"}], "seeds": [0, 1, 2]}
    ledger.start_study(StudyRecord("trial", plan))
    for label, seeds in (("kept", 3), ("<b>plain</b>", 2)):
        for seed in range(seeds):
            record = made_up._run(Shape(stages=1), f"trial.{'kept' if label == 'kept' else 'plain'}.s{seed}")
            run = ledger.start_run(dataclasses.replace(record, member=MemberRecord("trial", label, {})))
            ledger.set_status(run, "finished" if seed else "stopped")
    page = page_of(ledger, tmp_path)
    assert "2 settings, 5 runs: 3 finished and 2 stopped; 1 run not begun" in page.text
    assert [row[:2] for row in page.body("settings-trial")] == [["<b>plain</b>", "2"], ["kept", "3"]]
    assert len(page.body("runs-trial")) == 5
    assert "newest" not in page.tables
    assert "evergreen compare trial" in page.text
    assert "A thick line is a setting's mean, thin ones its seeds." in page.text
    (tmp_path / comparison.file_name("trial")).write_text("")
    assert "comparison-trial.html" in page_of(ledger, tmp_path).links


def test_forks_and_twins_name_where_they_come_from_and_the_newest_is_first(ledger: Ledger, tmp_path: Path) -> None:
    written(ledger, Shape(stages=1), "parent")
    for name, more in (
        ("child", {"lineage": LineageRecord("parent", 1)}),
        ("twin", {"baseline_of": "parent"}),
    ):
        ledger.start_run(dataclasses.replace(made_up._run(Shape(stages=1), name), **more))
    page = page_of(ledger, tmp_path)
    assert [row[0] for row in page.body("newest")] == [
        "twinthe baseline ofparent",
        "childforked fromparent after stage 1",
        "parent",
    ]
    assert page.links.count("#run-parent") == 2


def test_runs_that_are_not_over_or_ended_badly_say_so(ledger: Ledger, tmp_path: Path) -> None:
    ledger.set_status(written(ledger, Shape(boundaries=0), "lost"), "running")  # and nobody holds it
    failed = written(ledger, Shape(events=[EventRecord("failed", "cannot read http://me:hush@host/x")]), "failed")
    ledger.set_status(failed, "failed")
    done = written(ledger, Shape(events=[EventRecord("stopped", "asked to stop")]), "done")
    ledger.set_status(done, "finished")
    page = page_of(ledger, tmp_path)
    rows = {row[0]: row for row in page.body("newest")}
    assert rows["lost"][1:4] == ["killed0 of 12 steps", "not measured yet", "not measured yet"]
    assert rows["failed"][1] == "failed12 of 12 stepscannot read http://***@host/x"
    assert rows["done"][1] == "finished12 steps"


def test_an_empty_home_and_one_that_cannot_be_read_are_told_apart(ledger: Ledger, tmp_path: Path) -> None:
    assert "No runs yet. evergreen init writes a curriculum to begin with" in page_of(ledger, tmp_path).text
    page = page_of(
        ledger, tmp_path, problems=["The ledger postgresql://me:hush@db/x is away."], strays={"lost": None, "s.a": "s"}
    )
    assert "The ledger postgresql://***@db/x is away." in page.text
    assert "though the folder is here: lost. evergreen resume RUN enters it again." in page.text
    assert "though the folder is here: s.a. evergreen study FILE enters it again, with its study s." in page.text
    assert "No runs yet" not in page.text


def test_many_runs_are_folded(ledger: Ledger, tmp_path: Path) -> None:
    (one,) = [*courses_of(ledger)]
    many = [dataclasses.replace(one, name=f"run-{i}") for i in range(UNFOLDED + 5)]
    page = Page(render(Inventory(many, {}), tmp_path, tmp_path / "index.html"))
    assert (len(page.body("newest")), len(page.body("older"))) == (UNFOLDED, 5)
    assert "5 older runs" in page.text


def courses_of(ledger: Ledger) -> list[overview.RunCourse]:
    written(ledger, Shape(stages=1), "one")
    return courses(ledger.reading)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_shown_as_text(ledger: Ledger, tmp_path: Path, text: str) -> None:
    def told(what: str) -> str:
        one = dataclasses.replace(
            base, objective=what, model=what, bandit=what, setting=what, end=what, status="failed"
        )
        study = dataclasses.replace(one, name="member", status="failed", study="trial")
        return render(Inventory([one, study], {}, [what]), tmp_path, tmp_path / "index.html")

    (base,) = courses_of(ledger)
    plain, page = Page(told("x" * len(text))), Page(html := told(text))
    assert html.encode().decode() == html
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]", html)
    assert page.tags == plain.tags
    assert page.attributes == plain.attributes
    assert page.tags["script"] == page.tags["img"] == 0


def test_only_the_runs_that_are_wanted_are_read(ledger: Ledger) -> None:
    for name in ("a", "b", "c"):
        written(ledger, Shape(stages=1), name)
    read: Reading = ledger.reading
    assert [(one.name, bool(one.accuracy)) for one in courses(read, ["c", "a"])] == [("a", True), ("c", True)]
