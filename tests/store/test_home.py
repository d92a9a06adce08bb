from __future__ import annotations

import os
from pathlib import Path

import pytest

from store.errors import HomeError, NameTaken, RunBusy
from store.home import Home
from store.ledger import Ledger
from store.lock import request_stop, run_lock, stop_requested
from store.tracker.record import Target


def test_a_home_is_made_with_its_parents(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "b")
    assert home.path.is_dir()
    assert home.warm_starts == tmp_path / "a" / "b" / "warm_starts"


@pytest.mark.parametrize("name", ["with space", "what?", "50%", "a%20b", "a#b"])
def test_the_default_databases_lie_in_the_home(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / name)
    Ledger.open(home.ledger_url).close()
    assert (tmp_path / name / "evergreen.db").is_file()
    assert Target(home.mlflow_uri, "e", None).database == tmp_path / name / "mlflow.db"


def test_a_relative_home_does_not_move_with_the_working_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = Home("runs")
    monkeypatch.chdir("/")
    assert home.path == tmp_path / "runs"


def test_without_a_path_it_is_that_of_the_environment_else_runs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVERGREEN_HOME", raising=False)
    assert Home().path == tmp_path / "runs"
    monkeypatch.setenv("EVERGREEN_HOME", "elsewhere")
    assert Home().path == tmp_path / "elsewhere"
    assert Home("named").path == tmp_path / "named"


@pytest.mark.parametrize("below", ["file", "file/runs"])
def test_a_home_that_cannot_be_made_says_what_to_do(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match=r"cannot be made: .*--home.*EVERGREEN_HOME"):
        Home(tmp_path / below)


def test_a_home_that_cannot_be_written_to_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # as on a read-only mount; root ignores modes
    with pytest.raises(HomeError, match=r"cannot be written to\..*--home"):
        Home(tmp_path)


def test_looking_for_a_home_does_not_make_one(tmp_path: Path) -> None:
    message = r"no home folder .*\. Runs are kept in `runs` of the folder where they were started: cd there, or"
    with pytest.raises(HomeError, match=message):
        Home(tmp_path / "runs", create=False)
    assert list(tmp_path.iterdir()) == []


def test_the_first_free_name_is_taken(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for expected, taken in (("puzzles", ()), ("puzzles-2", ()), ("puzzles-4", ["puzzles-3"])):
        with home.new_run_folder("puzzles", taken) as folder:
            assert folder.name == expected
            (folder / "spec.yaml").touch()
    with pytest.raises(NameTaken), home.new_run_folder("puzzles", is_exact=True):
        pass


def test_what_a_killed_process_left_empty_is_taken_over_and_what_another_makes_is_not(tmp_path: Path) -> None:
    home = Home(tmp_path)
    folder = home.make_run_folder("puzzles")
    with run_lock(folder), home.new_run_folder("puzzles") as beside:
        assert beside.name == "puzzles-2"
        with pytest.raises(RunBusy), home.new_run_folder("puzzles", is_exact=True):
            pass
    (folder / ".aside-1-spec.yaml").touch()
    request_stop(folder)
    with home.new_run_folder("puzzles") as taken_over:
        assert taken_over == folder
        assert not stop_requested(folder), "it was asked of the one before"
    (folder / "notes.txt").touch()
    with home.new_run_folder("puzzles") as beside:
        assert beside.name == "puzzles-2", "nothing of anybody's is touched"


def test_a_run_folder_is_made_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.make_run_folder("puzzles") == home.run_folder("puzzles")
    with pytest.raises(HomeError, match="is there already"):
        home.make_run_folder("puzzles")


@pytest.mark.parametrize(
    "name",
    [
        *("", "Puzzles", "a b", "a/b", "é", "..", ".hidden", "warm_starts"),
        *("evergreen.db", "evergreen.db-journal", "evergreen.db-wal", "mlflow.db-shm"),
    ],
)
def test_names_that_cannot_be_a_run_s_are_refused(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path)
    for use in (home.run_folder, home.make_run_folder):
        with pytest.raises(HomeError, match="cannot name a run"):
            use(name)
    with pytest.raises(HomeError, match="cannot name a run"), home.new_run_folder(name):
        pass


@pytest.mark.parametrize("name", ["lock", "stop", "backup.json"])
def test_names_of_a_backup_s_files_are_refused_to_new_runs_alone(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path)
    with pytest.raises(HomeError, match="cannot name a run: a backup has a file"), home.new_run_folder(name):
        pass
    assert home.run_folder(name) == tmp_path / name


def test_a_run_does_not_take_a_name_that_a_database_of_the_users_needs(tmp_path: Path) -> None:
    (tmp_path / "mine.db").touch()
    with pytest.raises(HomeError, match=r"SQLite needs it for mine\.db"):
        Home(tmp_path).make_run_folder("mine.db-journal")
    assert Home(tmp_path).make_run_folder("yours.db-journal").is_dir()


@pytest.mark.parametrize("create", [True, False])
def test_a_path_that_no_url_can_name_is_refused(tmp_path: Path, create: bool) -> None:
    with pytest.raises(HomeError, match=r"bad\\udcffname.*is not UTF-8\..*--home"):
        Home(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xffname"), create=create)
