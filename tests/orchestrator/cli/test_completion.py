"""What a shell proposes after TAB: asked as bash, zsh and fish ask."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.cli.app import VERBS, app
from store.ledger import Ledger
from store.records import StudyRecord


def ask(shell: str, line: str) -> Result:
    words = shlex.split(line)
    if shell == "bash":
        current = len(words) if line.endswith(" ") else len(words) - 1
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(current)}
    else:
        asked = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return CliRunner().invoke(app, [], prog_name="evergreen", env={"_EVERGREEN_COMPLETE": f"complete_{shell}", **asked})


def proposed(line: str) -> list[str]:
    result = ask("bash", line)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.split()


def runs_in(home: Path, beginning: str) -> list[str]:
    """The names of its runs that begin so: other tests add some."""
    with Ledger.open(f"sqlite:///{home / 'evergreen.db'}") as ledger:
        return [run.name for run in ledger.reading.runs() if run.name.startswith(beginning)]


def test_verbs_are_proposed() -> None:
    assert proposed("evergreen ") == list(VERBS)
    assert proposed("evergreen s") == ["stop", "study", "serve", "show", "simulate"]


@pytest.mark.parametrize("verb", ["show", "resume", "fork", "stop", "report", "weights", "ui", "prune", "rm", "diff"])
def test_runs_are_proposed(finished: Path, verb: str) -> None:
    found = proposed(f"evergreen {verb} --home {finished} s")
    assert "small" in found
    assert set(found) == set(runs_in(finished, "s"))


def test_studies_are_proposed_where_one_may_stand_and_no_run_twice(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'evergreen.db'}") as ledger:
        ledger.start_study(StudyRecord("trial", {}))
    (tmp_path / "train").mkdir()
    (tmp_path / "studies").mkdir()
    for verb in ("compare", "export", "rm"):
        assert proposed(f"evergreen {verb} --home {tmp_path} t") == ["train", "trial"]
    assert proposed(f"evergreen compare --home {tmp_path} train t") == ["trial"]
    assert proposed(f"evergreen ls --home {tmp_path} --study ") == ["trial"]
    assert proposed(f"evergreen show --home {tmp_path} t") == ["train"]


def test_statuses_kinds_and_methods_are_proposed() -> None:
    assert proposed("evergreen ls --status f") == ["finished", "failed"]
    assert proposed("evergreen ls --status finished,k") == ["finished,killed"]
    assert proposed("evergreen methods ban") == ["bandits"]
    assert "gated_sec" in proposed("evergreen methods bandits ")
    assert proposed("evergreen show --sam") == ["--samples"]


def test_a_home_that_is_not_there_or_damaged_proposes_nothing_and_says_nothing(tmp_path: Path) -> None:
    assert proposed(f"evergreen show --home {tmp_path / 'none'} ") == []
    (tmp_path / "evergreen.db").write_text("no database")
    assert proposed(f"evergreen show --home {tmp_path} ") == []
    assert proposed("evergreen methods no_such_kind ") == []


def test_zsh_and_fish_get_what_they_ask_for(finished: Path) -> None:
    assert '"small"' in ask("zsh", f"evergreen show --home {finished} sm").stdout
    assert '"ls":"List the runs' in ask("zsh", "evergreen l").stdout
    assert ask("zsh", "evergreen run ").stdout == "_files\n", "a spec is a file"
    assert "small" in ask("fish", f"evergreen show --home {finished} sm").stdout.splitlines()


@pytest.mark.skipif(shutil.which("bash") is None, reason="has no bash")
def test_the_script_for_bash_fills_in_what_is_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # the shell is named instead
    script = CliRunner().invoke(app, ["--show-completion", "bash"], prog_name="evergreen").stdout
    assert "complete_bash" in script
    program = tmp_path / "evergreen"
    program.write_text('#!/bin/sh\necho "$_EVERGREEN_COMPLETE:$COMP_CWORD:$COMP_WORDS"\n')
    program.chmod(0o755)
    asked = "COMP_WORDS=(evergreen show sm); COMP_CWORD=2; _evergreen_completion evergreen; echo ${COMPREPLY[*]}"
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{asked}"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "complete_bash:2:evergreen show sm\n"
