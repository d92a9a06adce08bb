from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

import orchestrator
from orchestrator.callbacks import Callback
from orchestrator.progress import Progress
from orchestrator.recording import recorder
from store.report import REPORT_FILE
from store.sentences import in_words
from tests.conftest import Evergreen
from tests.orchestrator.specs import alone, small
from tests.store.report.pages import Page


@pytest.mark.parametrize("name", ["small", "flat"])
def test_report_writes_one_file_and_says_where(finished: Path, tmp_path: Path, evergreen: Evergreen, name: str) -> None:
    path = tmp_path / "page.html"
    result = evergreen("report", name, "-o", path, "--home", finished)
    assert result.exit_code == 0, result.stderr
    assert str(path) in result.stdout
    assert list(tmp_path.iterdir()) == [path]
    page = Page(path.read_text("utf-8"))
    assert "9 of 9 steps" in page.text
    assert page.classes["chart"] >= 5


def test_a_device_is_written_into_and_a_link_is_written_through(
    finished: Path, tmp_path: Path, evergreen: Evergreen
) -> None:
    link = tmp_path / "link.html"
    link.symlink_to("page.html")
    for path in (Path("/dev/null"), link):
        result = evergreen("report", "small", "-o", path, "--home", finished)
        assert result.exit_code == 0, result.stderr
        assert str(path) in result.stdout + result.stderr
    assert Path("/dev/null").is_char_device()
    assert link.is_symlink()
    assert "9 of 9 steps" in Page((tmp_path / "page.html").read_text("utf-8")).text


def test_the_page_has_the_numbers_that_show_prints(finished: Path, tmp_path: Path, evergreen: Evergreen) -> None:
    story = json.loads(evergreen("show", "small", "--json", "--home", finished).stdout)
    evergreen("report", "small", "-o", tmp_path / "page.html", "--home", finished)
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    rows = {row[0].removesuffix("tasks it trains on"): row for row in page.tables["glance"][2:]}
    assert rows.keys() == story["environments"].keys()
    for name, facts in story["environments"].items():
        assert float(rows[name][2]) == pytest.approx(facts["accuracy_start"], abs=0.006)
        assert float(rows[name][5]) == pytest.approx(facts["entropy_start"], abs=0.006)
    shown = " ".join(evergreen("show", "small", "--home", finished).stdout.split())
    for sentence in in_words(story).values():
        assert sentence in page.text
        assert sentence in shown


@pytest.mark.parametrize("name", ["small", "flat"])
def test_a_run_writes_its_own_page_at_its_boundaries(finished: Path, name: str) -> None:
    page = Page((finished / name / REPORT_FILE).read_text("utf-8"))
    assert "finished 9 of 9 steps" in page.text
    assert len(page.body("matrix-accuracy")) == 4


def test_the_page_of_a_run_that_was_stopped_tells_its_last_boundary(tmp_path: Path, evergreen: Evergreen) -> None:
    assert orchestrator.run(alone(), home=tmp_path, until_step=4).status == "stopped"
    written = Page((tmp_path / "alone" / REPORT_FILE).read_text("utf-8"))
    assert re.search("running [34] of 6 steps", written.text)
    assert len(written.body("matrix-accuracy")) == 2
    assert evergreen("report", "alone", "--home", tmp_path).exit_code == 0
    now = Page((tmp_path / "alone" / REPORT_FILE).read_text("utf-8"))
    assert "stopped 4 of 6 steps" in now.text
    assert "--until-step 4" in now.text


@pytest.mark.parametrize(("first", "share", "num_pages"), [(0, 1e-9, 2), (0, 1e9, 3), (60, 1e9, 1)])
def test_pages_on_the_way_take_a_share_of_the_time_and_the_last_is_always_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: float, share: float, num_pages: int
) -> None:
    written = []
    monkeypatch.setattr(recorder, "FIRST_REPORT", first)
    monkeypatch.setattr(recorder, "REPORT_SHARE", share)
    monkeypatch.setattr(recorder.report, "write", lambda *_: written.append(time.sleep(0.001)))
    orchestrator.run(alone(), home=tmp_path)
    assert len(written) == num_pages


class Failing(Callback):
    """Fails once a boundary is behind it whose page was put off."""

    def stage(self, at: Progress) -> None:
        if at.stage == 2:
            raise RuntimeError("a defect")


def test_a_run_that_fails_leaves_a_page_with_all_its_boundaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "REPORT_SHARE", 1e-9)
    with pytest.raises(RuntimeError, match="a defect"):
        orchestrator.run(alone(stages=2), home=tmp_path, watcher=Failing())
    page = Page((tmp_path / "alone" / REPORT_FILE).read_text("utf-8"))
    assert len(page.body("matrix-accuracy")) == 2


class InTheWay(Callback):
    """Puts a folder where the page should go, as soon as the run has a folder."""

    def begin(self, name: str, folder: str) -> None:
        (Path(folder) / REPORT_FILE).mkdir()


def test_a_page_that_cannot_be_written_is_an_event_and_the_run_goes_on(tmp_path: Path, evergreen: Evergreen) -> None:
    outcome = orchestrator.run(alone(), home=tmp_path, watcher=InTheWay())
    assert outcome.status == "finished"
    events = json.loads(evergreen("show", "alone", "--json", "--home", tmp_path).stdout)["events"]
    told = [event["text"] for event in events if event["kind"] == "report"]
    assert "the report was not written" in told[0]
    assert "`evergreen report alone` tries again" in told[0]


def test_the_page_has_no_part_in_what_is_learnt(tmp_path: Path, evergreen: Evergreen) -> None:
    digests = []
    for name, watcher in (("with", Callback()), ("without", InTheWay())):
        orchestrator.run(alone(name), home=tmp_path, watcher=watcher)
        story = json.loads(evergreen("show", name, "--json", "--home", tmp_path).stdout)
        digests.append((story["digest"], story["digest_all"]))
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_a_resumed_run_writes_on(tmp_path: Path) -> None:
    orchestrator.run(small(), home=tmp_path, until_step=4)
    orchestrator.resume("small", home=tmp_path)
    assert "finished 9 of 9 steps" in Page((tmp_path / "small" / REPORT_FILE).read_text("utf-8")).text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smal"], "there is no run 'smal'; there are: small, flat"),
        (["small", "-o", "/nowhere/page.html"], "there is no folder /nowhere to write the report into"),
        (["small", "-o", "{folder}"], "is a folder: name a file with -o, such as {folder}/report.html"),
    ],
)
def test_what_cannot_be_done_is_told(
    finished: Path, tmp_path: Path, evergreen: Evergreen, words: list[str], message: str
) -> None:
    given = [word.format(folder=tmp_path) for word in words]
    result = evergreen("report", *given, "--home", finished)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message.format(folder=tmp_path) in result.stderr
