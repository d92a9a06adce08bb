"""Studies as processes: interrupted, killed, failing, resumed; in the end the same runs as one by one."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import orchestrator
from orchestrator.callbacks import Callback
from orchestrator.cli.study import StudyScreen
from orchestrator.runs.catalog import opened
from store.lock import holder, request_stop
from tests.conftest import Evergreen
from tests.integration.processes import PATIENCE_S, Process
from tests.integration.runs import ending, told
from tests.orchestrator.specs import alone, small
from tests.orchestrator.studies.studies import made_study, written_study

SLOW = alone("base", character="slow", steps=6, stages=2)  # .2 s a step: there is time to interrupt it
QUICK = alone("base", character="learnable", steps=6, stages=2)  # the same scores at once
BANDITS = {"grid": {"curriculum.bandit": ["uniform", "sec"]}, "workers": 2}


def pid_of(folder: Path) -> int:
    """Find the process that holds a run."""
    who = holder(folder)
    assert who is not None
    return int(who.split()[1])


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def same_as_alone(home: Path, folder: Path, num_runs: int, **content: Any) -> None:
    """Compare the first runs of a study with those of the same spec that nobody disturbed."""
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir()
    for run in made_study(undisturbed, **content).runs[:num_runs]:
        orchestrator.run(run.spec, home=undisturbed, name=run.name)
        assert ending(home, run.name) == ending(undisturbed, run.name), run.name


@pytest.mark.slow  # 40 s
def test_a_study_interrupted_and_with_a_run_killed_ends_as_if_nothing_had_happened(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    home, file = tmp_path / "home", written_study(tmp_path, spec=SLOW, **BANDITS)
    first, second = home / "trial.uniform.s0", home / "trial.uniform.s1"
    process = Process(tmp_path, "study", file, "--home", home)
    process.wait_for_step(home, second.name, 1)
    process.wait_for_step(home, first.name, 1)
    os.kill(pid_of(first), signal.SIGKILL)
    process.signal(signal.SIGINT)
    exit_code, output = process.end()
    assert exit_code == 75
    assert "0 of 4 runs finished" in output
    assert "4 to go on with" in output
    assert f"Go on with: evergreen study {file} --home {home}" in " ".join(output.split())
    assert told(home, second.name)["status"] == "stopped"
    assert not (home / "trial.sec.s0").exists(), "nobody starts after Ctrl-C"

    done = evergreen("study", file, "--home", home)
    assert done.exit_code == 0, done.output
    assert "4 of 4 runs finished" in done.stdout
    assert f"evergreen compare trial --home {home}" in " ".join(done.stdout.split())
    same_as_alone(home, tmp_path, 4, spec=QUICK, **BANDITS)
    with opened(home) as (_, ledger):
        members = ledger.reading.members("trial")
        assert {(one.setting, one.seed) for one in members} == {(b, s) for b in ("uniform", "sec") for s in (0, 1)}
        assert all(one.changes == {"curriculum.bandit.type": one.setting} for one in members)
        assert ledger.reading.study("trial").plan["seeds"] == [0, 1]
        assert all(ledger.reading.host(one.run)["threads"] == 1 for one in members)

    again = evergreen("study", file, "--home", home, "--json")
    assert again.exit_code == 0, again.output
    assert {run["status"] for run in json.loads(again.stdout)["runs"]} == {"finished"}


@pytest.mark.slow
def test_a_run_that_fails_is_tried_twice_and_reported_and_the_others_go_on(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    """`crashing` ends its trainer, `raising` lets no sample be scored: a run stops by itself then."""
    home = tmp_path / "home"
    characters = {"grid": {"environments.one.character": ["crashing", "raising", "noisy"]}}
    file = written_study(tmp_path, spec=alone("base", stages=1), seeds=1, workers=1, **characters)
    result = evergreen("study", file, "--home", home)
    assert result.exit_code == 1
    said = " ".join(result.stdout.split())
    crashing, raising, noisy = (f"trial.character-{name}.s0" for name in ("crashing", "raising", "noisy"))
    assert said.count(f"{crashing} is tried again") == 1
    assert f"{crashing} failed twice (exit code 7): " in said
    assert f"{raising} is tried again" not in said
    assert f"{raising} stopped: " in said
    assert "no answer can be scored, in any environment" in said
    assert f"evergreen show {crashing} --events --home {home}" in said
    assert "1 of 3 runs finished, 1 failed, 1 to go on with" in said
    assert told(home, noisy)["status"] == "finished"
    log = home / "studies" / "trial" / "logs" / f"{crashing}.txt"
    assert str(log) in said
    assert log.read_text().count("finding the held-out tasks") == 2


def test_nothing_is_begun_where_an_environment_of_one_setting_cannot_be_built(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    colours = {"grid": {"environments.one": [{"type": "tests.environments.fakes:create", "colour": "red"}, "codebook"]}}
    refused = evergreen("study", written_study(tmp_path, **colours), "--home", tmp_path / "home")
    assert refused.exit_code == 2
    assert "cannot take the options ['colour']" in refused.stderr
    assert not list((tmp_path / "home").glob("trial.*"))


def test_a_dry_run_says_what_would_run_and_writes_nothing(tmp_path: Path, evergreen: Evergreen) -> None:
    file, home = written_study(tmp_path, **BANDITS), tmp_path / "home"
    told_ = evergreen("study", file, "--dry-run", "--home", home)
    assert told_.exit_code == 0
    said = " ".join(told_.stdout.split())
    assert "study trial: 2 settings x 2 seeds = 4 runs; seeds 0, 1" in said
    assert "to do: 4 runs, 2 at a time; 24 steps, 12 evaluations" in said
    assert "disk: about " in said
    assert not home.exists()
    facts = json.loads(evergreen("study", file, "--dry-run", "--json", "--home", home).stdout)
    assert [run["run"] for run in facts["runs"]][:2] == ["trial.uniform.s0", "trial.sec.s0"]
    assert facts["cost"]["num_left"] == 4
    assert not home.exists()


@pytest.mark.slow
def test_the_runs_of_a_killed_study_die_with_it_and_a_second_ctrl_c_kills(tmp_path: Path, evergreen: Evergreen) -> None:
    home, file = tmp_path / "home", written_study(tmp_path, spec=SLOW, **BANDITS)
    first = home / "trial.uniform.s0"
    process = Process(tmp_path, "study", file, "--home", home)
    process.wait_for_step(home, first.name, 1)
    busy = evergreen("study", file, "--home", home)
    assert busy.exit_code == 2
    assert "study trial is in use by process" in busy.stderr
    process.signal(signal.SIGKILL)
    process.end()
    wait_until(lambda: holder(first) is None, "the run outlives its study")

    process = Process(tmp_path, "study", file, "--home", home)
    wait_until(lambda: holder(first) is not None, "the run did not go on")
    process.signal(signal.SIGINT)
    wait_until(lambda: "Ctrl-C again kills" in process.output.read_text(), "nothing was heard")
    process.signal(signal.SIGINT)
    exit_code, output = process.end()
    assert exit_code == 130
    assert "killed; go on with: " in output
    assert holder(first) is None
    assert evergreen("study", file, "--home", home).exit_code == 0
    same_as_alone(home, tmp_path, 4, spec=QUICK, **BANDITS)


class Sharing(Callback):
    """Hears the phases of a run; in the first batch of its warm start it starts another run and lets it wait."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.phases: list[str] = []
        self._meanwhile = meanwhile

    def phase(self, text: str) -> None:
        self.phases.append(text)

    def warm_start(self, batch: int, num_batches: int, loss: float) -> None:
        if batch == 1:
            self._meanwhile()


@pytest.mark.slow
def test_of_two_runs_that_want_the_same_warm_start_one_makes_it_and_one_waits(tmp_path: Path) -> None:
    waiting = Sharing()
    other = threading.Thread(
        target=orchestrator.run,
        args=(small("other", objective="rloo"),),
        kwargs={"home": tmp_path, "watcher": waiting},
    )

    def meanwhile() -> None:
        other.start()
        wait_until(lambda: any("waiting for it" in phase for phase in waiting.phases), "it does not wait")

    making = Sharing(meanwhile)
    orchestrator.run(small(), home=tmp_path, watcher=making)
    other.join()
    assert making.phases[0].startswith("warm start: 24 supervised batches")
    assert waiting.phases[:2] == [
        "warm start: another run is making the same one; waiting for it",
        "warm start: taken from the cache",
    ]
    assert len(list((tmp_path / "warm_starts").iterdir())) == 1
    orchestrator.run(small("other", objective="rloo"), home=tmp_path / "undisturbed")
    assert ending(tmp_path, "other") == ending(tmp_path / "undisturbed", "other")


@pytest.mark.slow
def test_one_who_waits_for_a_warm_start_can_be_stopped(tmp_path: Path) -> None:
    class Impatient(Sharing):
        def phase(self, text: str) -> None:
            super().phase(text)
            if "waiting for it" in text:
                request_stop(tmp_path / "other")

    outcomes = []
    making = Sharing(lambda: outcomes.append(orchestrator.run(small("other"), home=tmp_path, watcher=Impatient())))
    assert orchestrator.run(small(), home=tmp_path, watcher=making).status == "finished"
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("stopped", "asked to stop")]
    assert orchestrator.resume("other", home=tmp_path).status == "finished"


@pytest.mark.slow
def test_when_the_process_that_runs_are_forked_from_dies_all_go_on_in_another(tmp_path: Path) -> None:
    home, file = tmp_path / "home", written_study(tmp_path, spec=SLOW, seeds=1, **BANDITS)
    first = home / "trial.uniform.s0"
    process = Process(tmp_path, "study", file, "--home", home)
    process.wait_for_step(home, first.name, 1)
    status = Path(f"/proc/{pid_of(first)}/status").read_text()
    (parent,) = [line.split()[1] for line in status.splitlines() if line.startswith("PPid:")]
    os.kill(int(parent), signal.SIGKILL)
    exit_code, output = process.end()
    assert exit_code == 0
    assert output.count("is tried again") == 2
    same_as_alone(home, tmp_path, 2, spec=QUICK, seeds=1, **BANDITS)


@pytest.mark.slow
def test_every_run_of_a_study_has_its_twin_and_a_ledger_elsewhere_works(tmp_path: Path, evergreen: Evergreen) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    file = written_study(tmp_path, spec=alone("base") | {"baseline": "uniform", "ledger": {"url": url}})
    home = tmp_path / "home"
    assert evergreen("study", file, "--home", home).exit_code == 0
    with opened(home, "trial.base.s0") as (_, ledger):
        assert len(ledger.reading.members("trial")) == 2
        twins = [run.baseline_of for run in ledger.reading.runs() if run.baseline_of]
    assert sorted(twins) == ["trial.base.s0", "trial.base.s1"]
    assert not (home / "evergreen.db").exists()


@pytest.mark.parametrize(("code", "words"), [(7, "exit code 7"), (-9, "killed by signal 9")])
def test_a_run_that_a_signal_killed_is_told_so_while_the_study_goes_on(code: int, words: str) -> None:
    said = io.StringIO()
    StudyScreen(Console(file=said)).failed_once("a", code)
    assert f"! a failed ({words})" in said.getvalue()


def test_what_a_guard_stopped_a_study_leaves_stopped_until_a_person_goes_on_with_it(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    """Given again, the study trained on by as many steps as the guard waits for, and in the end compared the run."""
    stop = {"guards": [{"when": "response_len > 0", "steps": 2, "action": "stop"}]}
    settings = [{"label": "good"}, {"label": "bad", **stop}, {"label": "beside", "baseline": stop}]
    file, home = written_study(tmp_path, seeds=1, workers=1, list=settings), tmp_path / "home"
    bad, beside = "trial.bad.s0", "trial.beside.s0"
    first = evergreen("study", file, "--home", home)
    stopped_at = ending(home, bad)
    with opened(home) as (_, ledger):
        twin = ledger.reading.baseline(beside)
    for result in (first, evergreen("study", file, "--home", home)):
        said = " ".join(result.stdout.split())
        assert "1 of 3 runs finished, 2 stopped by a guard" in said
        assert f"{bad}: a guard stopped it: " in said
        assert f"`evergreen resume {bad} --home {home}`" in said
        assert f"`evergreen resume {twin} --home {home}`" in said
        assert "Go on with: evergreen study" not in result.output
        assert (result.exit_code, ending(home, bad)) == (75, stopped_at)
    states = {run["run"]: run["state"] for run in planned(evergreen, file, home)["runs"]}
    assert states == {"trial.good.s0": "finished", bad: "held", beside: "held"}
    assert planned(evergreen, file, home)["cost"]["num_left"] == 0
    statuses = json.loads(evergreen("study", file, "--json", "--home", home).stdout)["runs"]
    assert [run["status"] for run in statuses] == ["finished", "stopped", "stopped"]
    orchestrator.resume(bad, home=home)
    assert ending(home, bad) != stopped_at


def planned(evergreen: Evergreen, file: Path, home: Path) -> Any:
    """Ask for a study's plan."""
    return json.loads(evergreen("study", file, "--dry-run", "--json", "--home", home).stdout)
