"""The public face: what `import orchestrator` shows, with which signatures, and docs/python.md as it stands."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.errors import UserError
from tests.conftest import Evergreen
from tests.documents import code
from tests.orchestrator.specs import alone
from tests.shares import slow

SIGNATURES = {
    "run": ("spec", "overrides", "home", "until_step", "watcher", "relations", "name"),
    "resume": ("name", "overrides", "home", "until_step", "watcher", "stages", "relations", "copy"),
    "fork": ("name", "stage", "spec", "overrides", "home", "until_step", "watcher", "relations"),
    "study": ("file", "home", "workers", "watcher", "on", "address"),
    "compare": ("names", "home", "by", "metric", "last", "baseline", "pairs", "environments"),
    "load_spec": ("source", "overrides"),
    "open_home": ("path",),
}
RESULT = {
    "summary": (),
    "spec": (),
    "series": ("metric", "environment", "category"),
    "matrix": ("metric", "split"),
    "carryover": (),
    "probes": (),
    "network": ("metric",),
    "interventions": (),
    "turnover": (),
    "evaluations": (),
    "samples": ("environment", "failed", "limit"),
    "events": (),
}


def test_it_shows_what_a_user_needs_and_nothing_else() -> None:
    assert set(dir(orchestrator)) == {*SIGNATURES, "Callback", "Outcome", "Screen", "Spec", "StudyScreen", "bandits"}
    assert all(hasattr(orchestrator, name) for name in dir(orchestrator))
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = orchestrator.no_such_name


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_public_function_takes_what_it_took(name: str) -> None:
    assert tuple(inspect.signature(getattr(orchestrator, name)).parameters) == SIGNATURES[name]


def test_a_run_takes_what_it_took(finished: Path) -> None:
    run = orchestrator.open_home(finished).run("small")
    public = {name: method for name, method in inspect.getmembers(run, inspect.ismethod) if name[0] != "_"}
    assert {name: tuple(inspect.signature(method).parameters) for name, method in public.items()} == RESULT


def test_every_package_says_that_it_is_typed() -> None:
    root = Path(orchestrator.__file__).parents[1]
    packages = ("orchestrator", "environments", "policies", "store")
    assert all((root / package / "py.typed").is_file() for package in packages)


@pytest.mark.parametrize("has_pandas", [True, slow(False)])
def test_tables_are_frames_or_plain_rows(finished: Path, monkeypatch: pytest.MonkeyPatch, has_pandas: bool) -> None:
    if has_pandas:
        pytest.importorskip("pandas")
    else:
        monkeypatch.setitem(sys.modules, "pandas", None)
    home = orchestrator.open_home(finished)
    run = home.run("small")

    def rows(table: Any) -> list[dict[str, Any]]:
        assert isinstance(table, list) is not has_pandas
        return table if isinstance(table, list) else table.to_dict("records")

    assert {"small", "flat"} <= {row["name"] for row in rows(home.runs())}
    assert [row["step"] for row in rows(run.series("reward"))] == list(range(1, 10))
    assert {row["after_stage"] for row in rows(run.matrix("pass_1"))} == {0, 1, 2, 3}
    assert {row["environment"] for row in rows(run.samples("book", limit=3))} == {"book"}
    measured = {(row["after_stage"], row["environment"]): row["accuracy"] for row in rows(run.evaluations())}
    wholes = [row for row in rows(run.matrix("pass_1")) if not isinstance(row["category"], str)]
    assert measured == {(row["after_stage"], row["environment"]): row["value"] for row in wholes}
    trained = {row["after_stage"]: row["trained"] for row in rows(run.evaluations()) if isinstance(row["trained"], str)}
    assert trained == {stage["stage"]: stage["environment"] for stage in run.summary()["stages"]}
    assert rows(run.matrix("accuracy")) == rows(run.matrix("pass_1")), "a whole row: no value is undefined"
    assert rows(run.matrix("entropy"))[0]["metric"] == "entropy_token"
    carried = {(row["after_stage"], row["name"]): row["value"] for row in rows(run.carryover())}
    assert {stage for stage, _ in carried} == {1, 2, 3}
    assert carried[3, "average"] == run.summary()["carry_over"]["average"]
    assert (list(rows(run.probes())), list(rows(run.interventions()))) == ([], []), "none was asked for"
    assert rows(run.events())
    assert run.summary()["status"] == "finished"
    assert run.spec()["seed"] == 3


def test_a_run_or_a_home_that_is_not_there_is_told(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run 'smal'"):
        orchestrator.open_home(finished).run("smal")
    with pytest.raises(Exception, match=str(tmp_path / "none")):
        orchestrator.open_home(tmp_path / "none")
    with pytest.raises(UserError, match="name the runs to compare"):
        orchestrator.compare(home=finished)


def test_python_and_the_command_line_look_in_the_same_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], evergreen: Evergreen
) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    done = orchestrator.run(alone(stages=1), watcher=orchestrator.Screen())
    assert done.folder == tmp_path / "home" / "alone"
    assert orchestrator.open_home().run("alone").summary()["status"] == "finished"
    assert "alone" in evergreen("ls").stdout
    said = capsys.readouterr().out
    assert said.startswith(f"run alone  {done.folder}\n")
    assert "stage 1 of 1: one" in said


def test_a_screen_says_how_to_go_on_from_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EVERGREEN_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    screen = orchestrator.Screen()
    orchestrator.run(alone(), until_step=1, watcher=screen)
    assert capsys.readouterr().err.endswith("Go on with: evergreen resume alone\n")
    orchestrator.resume("alone", home=tmp_path / "runs", until_step=2, watcher=orchestrator.Screen(Path("elsewhere")))
    assert capsys.readouterr().err.endswith("Go on with: evergreen resume alone --home elsewhere\n")
    orchestrator.run(alone(), home=tmp_path / "my runs", until_step=1, watcher=screen)
    again = f"Go on with: evergreen resume alone --home '{tmp_path / 'my runs'}'"
    assert capsys.readouterr().err.endswith(f"{again}\n"), "a screen may be shown another run"
    orchestrator.StudyScreen().started("trial.a.s0", 1)
    assert capsys.readouterr().out == "  0:00  trial.a.s0 starts\n"


def test_several_watchers_hear_everything_in_their_order_and_stopping_is_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[str] = []

    class Named(orchestrator.Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def step(self, at: Any, record: Any) -> None:
            heard.append(f"{self.name} {at.step}")
            if (self.name, at.step) == ("b", 2):
                os.kill(os.getpid(), signal.SIGINT)

    done = orchestrator.run(alone(stages=1), home=tmp_path, watcher=[Named("a"), Named("b")])
    assert done.reason == "Ctrl-C"
    assert heard == ["a 1", "b 1", "a 2", "b 2"]
    assert capfd.readouterr().err.count("Stopping once this step is saved") == 1


def test_the_documented_examples_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def said(heading: str) -> str:
        exec(compile(code("python.md", heading), heading, "exec"), {"__name__": "example"})
        return capsys.readouterr().out

    assert said("Run a curriculum").startswith("quick finished")
    watched = said("Watch it")
    assert "stage 3 of 3: book\n" in watched
    assert "\nstep 5 reward 0" in watched
    assert "finished" in said("Read what it left")
    assert "entropy_carried" in said("Plasticity")
    assert "hard" in said("A bandit alone")


@pytest.mark.slow
def test_the_documented_study_is_a_script_whose_processes_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code("python.md", "Run a curriculum"), "run", "exec"), {"__name__": "example"})
    kept = yaml.safe_load((tmp_path / "runs" / "quick" / "spec.yaml").read_text())
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(kept))
    grid = {"spec": "base.yaml", "seeds": 1, "list": [{"label": "a"}, {"label": "b", "learner.lr": 0.01}]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(grid))
    (tmp_path / "example.py").write_text(code("python.md", "Study and compare"))
    done = subprocess.run([sys.executable, "example.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["a", "b"]
