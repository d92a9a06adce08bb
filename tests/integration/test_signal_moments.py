"""Signals while a command loads, measures, goes from a run to its twin; and a terminal that goes."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.cli import main
from orchestrator.cli.app import VerbGroup
from orchestrator.os_signals import Interrupted
from orchestrator.runs.api import resume
from policies.launchers import SIGNALS
from tests.conftest import Evergreen
from tests.integration.moments import wait_for
from tests.integration.processes import Process, evergreen
from tests.integration.runs import told
from tests.orchestrator.specs import alone, written
from tests.shares import share

MIND = "tests.integration.moments:create"


def watched(folder: Path, waits: str, seconds: float = 30.0, **changes: Any) -> Path:
    environment = {"type": MIND, "folder": str(folder), "waits": waits, "seconds": seconds}
    return written(folder, alone() | {"environments": {"one": environment}} | changes)


@pytest.mark.parametrize("number", SIGNALS)
def test_before_there_is_a_run_a_signal_ends_the_command_in_one_line_and_leaves_nothing(
    tmp_path: Path, number: int
) -> None:
    process = Process(tmp_path, "run", watched(tmp_path, "built-1"), "--home", tmp_path / "home")
    wait_for(tmp_path / "built-1")
    process.signal(number)
    exit_code, output = process.end()
    assert exit_code == 128 + number
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    assert output.splitlines() == [f"error: ended by {name} before anything was begun"]
    assert [path.name for path in (tmp_path / "home").iterdir() if path.is_dir()] == []


def test_a_command_that_is_to_be_repeated_says_so_before_there_is_a_run(tmp_path: Path) -> None:
    spec = watched(tmp_path, "built-1", 20)
    process = Process(tmp_path, "run", spec, "--home", tmp_path / "home", "--resume-if-there")
    wait_for(tmp_path / "built-1")
    process.signal(signal.SIGTERM)
    exit_code, output = process.end()
    assert exit_code == 75
    again = f"evergreen run {spec} --home {tmp_path / 'home'} --resume-if-there"
    said = f"error: ended by SIGTERM before the run began or went on. Do so with: {again}"
    assert output.split() == said.split()
    assert [path.name for path in (tmp_path / "home").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("is_swallowed", [False, True])
def test_a_command_that_is_repeated_leaves_its_run_as_it_is_when_it_ends_before_it_goes_on(
    tmp_path: Path, is_swallowed: bool
) -> None:
    spec = written(tmp_path, alone())
    words = ("run", spec, "--home", tmp_path, "--resume-if-there")
    assert Process(tmp_path, *words, "--until-step", 1).end()[0] == 75
    exit_code, output = Process(tmp_path, is_swallowed, *words, call=ended_as_it_looks_for_its_run).end()
    assert exit_code == 75, output
    said = " ".join(output.split())
    if is_swallowed:
        assert "error: SIGTERM, before alone went on; it is as it was. Go on with: evergreen resume alone" in said
    else:
        assert said.startswith("error: ended by SIGTERM before the run began or went on. Do so with: evergreen run ")
    assert (told(tmp_path, "alone")["status"], told(tmp_path, "alone")["num_steps"]) == ("stopped", 1)
    assert Process(tmp_path, *words).end()[0] == 0


def ended_as_it_looks_for_its_run(is_swallowed: bool, *words: object) -> None:
    """Be a command that hears SIGTERM as it reads the spec."""
    from orchestrator.runs import api

    find = api.find_run

    class Dying:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def find_run(*given: Any) -> Any:
        if is_swallowed:
            sys.unraisablehook = lambda _: None
            Dying()
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        return find(*given)

    api.find_run = find_run
    evergreen(*words)


@pytest.mark.parametrize("number", share([signal.SIGINT, signal.SIGHUP], 1))
def test_while_a_resumed_run_loads_a_signal_leaves_it_resumable(tmp_path: Path, number: int) -> None:
    spec = watched(tmp_path, "built-2")
    assert Process(tmp_path, "run", spec, "--home", tmp_path, "--until-step", 1).end()[0] == 75
    process = Process(tmp_path, "resume", "alone", "--home", tmp_path)
    wait_for(tmp_path / "built-2")
    process.signal(number)
    exit_code, output = process.end()
    assert exit_code == 75
    assert f", before alone went on; it is as it was. Go on with: evergreen resume alone --home {tmp_path}" in output
    assert told(tmp_path, "alone")["status"] == "stopped"
    assert resume("alone", home=tmp_path).status == "finished"


@pytest.mark.parametrize("number", [signal.SIGHUP])
def test_while_a_boundary_is_measured_a_signal_waits_for_it(tmp_path: Path, number: int) -> None:
    process = Process(tmp_path, "run", watched(tmp_path, "scored", 0.3), "--home", tmp_path)
    wait_for(tmp_path / "scored")
    process.signal(number)
    assert process.end()[0] == 75
    story = told(tmp_path, "alone")
    assert (story["status"], story["num_steps"], story["num_boundaries"]) == ("stopped", 0, 1)
    assert resume("alone", home=tmp_path).status == "finished"


@pytest.mark.parametrize("number", [signal.SIGTERM])
@pytest.mark.slow
def test_between_a_run_and_its_twin_a_signal_leaves_both_resumable(tmp_path: Path, number: int) -> None:
    spec = watched(tmp_path, "built-2", 0.5, baseline="uniform")
    process = Process(tmp_path, "run", spec, "--home", tmp_path)
    wait_for(tmp_path / "built-2")
    process.signal(number)
    exit_code, output = process.end()
    assert exit_code == 75
    assert "Traceback" not in output
    assert told(tmp_path, "alone")["status"] == "finished"
    assert told(tmp_path, "alone-uniform")["status"] == "stopped"
    assert resume("alone", home=tmp_path).status == "finished"
    assert told(tmp_path, "alone-uniform")["status"] == "finished"


def test_a_terminal_that_hangs_up_stops_a_run_that_saves(tmp_path: Path) -> None:
    process = Process(tmp_path, written(tmp_path, alone(steps=500)), tmp_path, call=without_anyone_who_reads)
    process.wait_for_step(tmp_path, "alone", 2)
    process.signal(signal.SIGHUP)
    assert process.end()[0] == 75
    story = told(tmp_path, "alone")
    assert story["status"] == "stopped"
    assert story["events"][-1]["text"] == "SIGHUP"
    step = story["num_steps"]
    assert resume("alone", home=tmp_path, until_step=step + 1).reason == f"--until-step {step + 1}"


def without_anyone_who_reads(spec: Path, home: Path) -> None:
    """Run a spec with stdout and stderr as pipes that nobody reads any more."""
    from orchestrator.cli import main

    for descriptor in (1, 2):
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, descriptor)
    sys.argv = ["evergreen", "run", str(spec), "--home", str(home)]
    main()


def test_a_reader_that_leaves_ends_no_run(tmp_path: Path) -> None:
    process = Process(tmp_path, written(tmp_path, alone()), tmp_path, call=without_anyone_who_reads)
    assert process.end()[0] == 0
    assert told(tmp_path, "alone")["status"] == "finished"


@pytest.mark.slow
def test_a_study_whose_terminal_hangs_up_can_be_gone_on_with(tmp_path: Path) -> None:
    spec = written(tmp_path, alone(steps=500))
    study = tmp_path / "both.yaml"
    study.write_text(f"spec: {spec.name}\nseeds: 1\nworkers: 1\n")
    process = Process(tmp_path, "study", study, "--home", tmp_path)
    process.wait_for_step(tmp_path, "both.base.s0", 1)
    process.signal(signal.SIGHUP)
    exit_code, output = process.end()
    assert exit_code == 75
    assert f"Go on with: evergreen study {study}" in output
    assert told(tmp_path, "both.base.s0")["status"] == "stopped"


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_a_signal_while_a_finished_run_is_told_changes_no_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evergreen: Evergreen, verb: str
) -> None:
    def interrupted(*_: object) -> None:
        raise Interrupted(signal.SIGTERM)

    if verb == "resume":
        assert orchestrator.run(alone(), home=tmp_path, until_step=1).status == "stopped"
    monkeypatch.setattr("orchestrator.cli.run.print_ending", interrupted)
    result = evergreen(verb, written(tmp_path, alone()) if verb == "run" else "alone", "--home", tmp_path)
    assert result.exit_code == 0
    assert "ended by SIGTERM; alone is finished, and evergreen show alone" in " ".join(result.stderr.split())


def test_a_signal_before_a_resumed_run_is_looked_for_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["evergreen", "resume", "a", "--home", "my runs"])
    said, exit_code = Interrupted(signal.SIGHUP).at_start()
    assert exit_code == 75
    assert said.endswith("it is as it was. Go on with: evergreen resume a --home 'my runs'")
    monkeypatch.setattr(sys, "argv", ["evergreen", "run", "a.yaml", "--resume-if-there"])
    said, exit_code = Interrupted(signal.SIGHUP).at_start()
    assert exit_code == 75
    assert said.endswith("began or went on. Do so with: evergreen run a.yaml --resume-if-there")
    monkeypatch.setattr(sys, "argv", ["evergreen", "run", "resume"])
    assert Interrupted(signal.SIGHUP).at_start() == ("ended by SIGHUP before anything was begun", 129)


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["ls"], 128 + signal.SIGTERM), (["resume", "a"], 75), (["run", "a", "--resume-if-there"], 75)],
)
def test_a_signal_while_the_command_line_is_read_is_told_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: list[str], expected: int
) -> None:
    def interrupted(*_: object) -> None:
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(VerbGroup, "resolve_command", interrupted)
    monkeypatch.setattr(sys, "argv", ["evergreen", *words])
    monkeypatch.setattr("orchestrator.cli.outlast", lambda: None)
    monkeypatch.setattr("orchestrator.os_signals.end_by_signals", lambda: None)
    thresholds = gc.get_threshold()
    with pytest.raises(SystemExit) as end:
        main()
    gc.enable()
    gc.set_threshold(*thresholds)
    assert end.value.code == expected
    assert "error: ended by SIGTERM before" in capfd.readouterr().err
