from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import orchestrator
from orchestrator.callbacks import Callback
from orchestrator.progress import Progress
from orchestrator.runs.catalog import SPEC_FILE, inventory
from store.ledger import Ledger
from store.overview import INDEX_FILE, write
from store.records import BoundaryRecord
from tests.conftest import Evergreen
from tests.orchestrator.specs import alone
from tests.store.report.pages import Page


def page_in(home: Path) -> Page:
    return Page((home / INDEX_FILE).read_text("utf-8"))


def test_the_page_has_the_runs_that_ls_lists_with_their_numbers(
    finished: Path, tmp_path: Path, evergreen: Evergreen
) -> None:
    path = tmp_path / "runs.html"
    result = evergreen("ls", "--html", "-o", path, "--home", finished)
    assert result.exit_code == 0, result.stderr
    assert str(path) in result.stdout
    assert not (finished / INDEX_FILE).exists()
    page = Page(path.read_text("utf-8"))
    rows = {row[0]: row for row in page.body("newest")}
    listed = json.loads(evergreen("ls", "--json", "--home", finished).stdout)
    assert rows.keys() >= {run["name"] for run in listed if run["parent"] is None and run["baseline_of"] is None}
    story = json.loads(evergreen("show", "small", "--json", "--home", finished).stdout)
    mean = sum(of["accuracy_end"] for of in story["environments"].values()) / 3
    assert float(rows["small"][2].split("\u2192")[1]) == pytest.approx(mean, abs=0.006)
    assert rows["small"][3] == f"{story['carry_over']['entropy_left']:.0%}"
    assert rows["small"][1] == "finished9 steps"
    report = next(link for link in page.links if link.endswith("small/report.html"))
    assert (tmp_path / report).resolve() == (finished / "small" / "report.html").resolve()
    assert page.tags["script"] == 0
    assert "writes it again" not in page.text


def test_a_run_that_ends_writes_the_page_again_where_there_is_one(tmp_path: Path, evergreen: Evergreen) -> None:
    orchestrator.run(alone("first", stages=1), home=tmp_path)
    assert not (tmp_path / INDEX_FILE).exists()
    assert evergreen("ls", "--html", "--home", tmp_path).exit_code == 0
    orchestrator.run(alone("second"), home=tmp_path, until_step=4)
    assert "every run that ends writes it again" in page_in(tmp_path).text
    rows = page_in(tmp_path).body("newest")
    assert [(row[0], row[1]) for row in rows] == [
        ("second", "stopped4 of 6 steps--until-step 4"),
        ("first", "finished3 steps"),
    ]
    orchestrator.resume("second", home=tmp_path)
    assert page_in(tmp_path).body("newest")[0][1] == "finished6 steps"


def test_a_run_in_progress_says_how_far_it_is(tmp_path: Path) -> None:
    told: list[str] = []

    class Looks(Callback):
        def boundary(self, at: Progress, record: BoundaryRecord) -> None:
            write(inventory(tmp_path), tmp_path, tmp_path / "now.html")
            told.append(Page((tmp_path / "now.html").read_text("utf-8")).body("newest")[0][1])

    orchestrator.run(alone(), home=tmp_path, watcher=Looks())
    assert told == [f"running{step} of 6 steps" for step in (0, 3, 6)]


def test_the_page_and_the_facts_can_be_had_at_once(finished: Path, tmp_path: Path, evergreen: Evergreen) -> None:
    result = evergreen("ls", "--json", "-o", tmp_path / "page.html", "--home", finished)
    assert "small" in [run["name"] for run in json.loads(result.stdout)]
    assert str(tmp_path / "page.html") in result.stderr


def test_a_page_that_cannot_be_written_costs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Told(Callback):
        def event(self, texts: object) -> None:
            told.extend(texts)  # type: ignore[call-overload]

    def refuse(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    (tmp_path / INDEX_FILE).write_text("older")
    monkeypatch.setattr("store.overview.write_text", refuse)
    outcome = orchestrator.run(alone(stages=1), home=tmp_path, watcher=Told())
    assert outcome.status == "finished"
    assert [text for text in told if INDEX_FILE in text and "`evergreen ls --html` tries again" in text]
    assert (tmp_path / INDEX_FILE).read_text() == "older"


def test_what_cannot_be_read_stands_on_the_page(tmp_path: Path, evergreen: Evergreen) -> None:
    orchestrator.run(alone("here", stages=1), home=tmp_path)
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / SPEC_FILE).write_text("ledger: {url: 'oracle://me:hush@host/db'}")
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray" / SPEC_FILE).write_text("name: stray")
    assert evergreen("ls", "--html", "--home", tmp_path).exit_code == 0
    page = page_in(tmp_path)
    assert "oracle://***@host/db" in page.text
    assert "hush" not in (tmp_path / INDEX_FILE).read_text()
    assert "Not in the ledger, though the folder is here: stray." in page.text
    assert [row[0] for row in page.body("newest")] == ["here"]


def test_a_home_without_runs_has_a_page_that_says_how_to_begin(tmp_path: Path, evergreen: Evergreen) -> None:
    Ledger.open(f"sqlite:///{tmp_path / 'evergreen.db'}").close()
    assert evergreen("ls", "--html", "--home", tmp_path).exit_code == 0
    assert "evergreen init writes a curriculum to begin with" in page_in(tmp_path).text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "/nowhere/page.html"], "there is no folder /nowhere to write the index into"),
        (["-o", "{folder}"], "is a folder: name a file with -o, such as {folder}/index.html"),
    ],
)
def test_what_cannot_be_done_is_told(
    finished: Path, tmp_path: Path, evergreen: Evergreen, words: list[str], message: str
) -> None:
    result = evergreen("ls", "--html", *(word.format(folder=tmp_path) for word in words), "--home", finished)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message.format(folder=tmp_path) in result.stderr


def test_a_page_of_some_runs_wants_a_file_of_its_own(finished: Path, tmp_path: Path, evergreen: Evergreen) -> None:
    refused = evergreen("ls", "--html", "-n", 1, "--home", finished)
    assert refused.exit_code == 2
    assert "name a file for some of them with -o" in refused.stderr
    target = tmp_path / "some.html"
    assert evergreen("ls", "--html", "-n", 1, "-o", target, "--home", finished).exit_code == 0
    newest = evergreen("ls", "--home", finished).stdout.splitlines()[1].split()[0]
    assert f"{newest}" in Page(target.read_text()).text
    assert "1 finished" in Page(target.read_text()).text
