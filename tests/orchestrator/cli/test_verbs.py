"""The command line grows on purpose only."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from safetensors import SafetensorError

from orchestrator.cli.app import GROUPS, in_words, load_verb, words_of
from orchestrator.cli.app import VERBS as LISTED
from orchestrator.cli.options import DEFAULT_HOME, in_home
from orchestrator.cli.screen import Screen
from orchestrator.errors import DIVERGED, YOUR_MISTAKE
from store.home import Home
from store.ledger import Ledger
from tests.conftest import Evergreen
from tests.source_lines import place

VERBS = {
    "init": ["FOLDER", "--example", "--list"],
    "new-env": ["NAME", "--dir", "--many-turns"],
    "run": ["SPEC", "--set", "--home", "--until-step", "--resume-if-there", "--ranks"],
    "resume": ["RUN", "--set", "--home", "--until-step", "--stages", "--ranks", "--from"],
    "fork": ["RUN", "--stage", "--spec", "--set", "--home", "--until-step"],
    "study": ["STUDY", "--workers", "--dry-run", "--rehearse", "--on", "--address", "--home", "--json"],
    "simulate": [
        "WORLD",
        "--bandit",
        "--scheduler",
        "--file",
        "--seeds",
        "--first-seed",
        "--steps",
        "--replay-share",
        "--against",
        "--workers",
        "--plot",
        "--replay",
        "--json",
        "--home",
    ],
    "launch": [
        "SPEC",
        "--on",
        "--set",
        "--home",
        "--nodes",
        "--gpus",
        "--cpus",
        "--memory",
        "--hours",
        "--restarts",
        "--partition",
        "--image",
        "--claim",
        "--dry-run",
    ],
    "serve": ["SPEC", "OPTION", "--set", "--devices", "--home"],
    "stop": ["RUN", "--home"],
    "ls": ["--home", "--study", "--status", "--limit", "--html", "--output", "--json"],
    "show": [
        "RUN",
        "--home",
        "--json",
        "--samples",
        "--failed",
        "--stage",
        "--limit",
        "--events",
        "--time",
        "--all",
        "--follow",
    ],
    "report": ["RUN", "--output", "--home"],
    "backup": ["FOLDER", "--home"],
    "restore": ["FOLDER", "--home"],
    "compare": [
        "RUN... | STUDY",
        "--by",
        "--metric",
        "--last",
        "--baseline",
        "--pairs",
        "--pool",
        "--environment",
        "--output",
        "--home",
        "--json",
    ],
    "final": ["STUDY", "--again", "--home"],
    "diff": ["A", "B", "--exit-code", "--home", "--json"],
    "export": ["RUN...", "DIR", "--format", "--home"],
    "ui": ["RUN", "--home", "--port", "--host", "--catch-up-only", "--no-open"],
    "weights": ["RUN", "DIR", "--stage", "--adapter", "--home"],
    "prune": ["[RUN]...", "--boundaries", "--warm-starts", "--dry-run", "--home", "--json"],
    "rm": ["RUN", "--yes", "--keep-mlflow", "--dry-run", "--home"],
    "upgrade": ["--home"],
    "validate": ["SPEC", "--set", "--home", "--strict", "--leaks", "--threshold", "--all", "--plan", "--gpu", "--json"],
    "methods": ["KIND", "NAME", "--schema", "--json"],
    "check-env": ["SPEC", "ENV", "--set", "--tasks", "--patience", "--json"],
    "profile": [
        "SPEC",
        "ENV",
        "--set",
        "--policy",
        "--text",
        "--run",
        "--by",
        "--count",
        "--samples",
        "--tasks",
        "--train-only",
        "--seed",
        "--output",
        "--home",
        "--json",
    ],
    "play": [
        "SPEC",
        "ENV",
        "--set",
        "--policy",
        "--text",
        "--tasks",
        "--seed",
        "--run",
        "--home",
        "--json",
    ],
    "doctor": ["RUN", "--home", "--json"],
}


def test_verbs_arguments_and_options_are_those_agreed() -> None:
    found = {name: [_word(parameter) for parameter in load_verb(name).params] for name in LISTED}
    assert found == VERBS


@pytest.mark.parametrize("name", LISTED)
def test_the_line_of_a_verb_begins_its_own_help(name: str) -> None:
    words = " ".join(load_verb(name).help.split())
    assert words.startswith(LISTED[name])
    assert words[len(LISTED[name])] in " ,.:;"


def _word(parameter: object) -> str:
    if getattr(parameter, "param_type_name", "") == "option":
        return str(parameter.opts[0])  # type: ignore[attr-defined]
    return str(getattr(parameter, "metavar", None) or parameter.name.upper())  # type: ignore[attr-defined]


def test_help_tells_every_verb_in_one_whole_line_of_80_columns_and_the_exit_codes(evergreen: Evergreen) -> None:
    printed = evergreen("--help").stdout
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 80
    for verb, said in LISTED.items():
        assert [line.split(maxsplit=1) for line in lines].count([verb, said]) == 1
    assert [line for line in lines if line.endswith(":")][-len(GROUPS) :] == [f"{title}:" for title in GROUPS]
    words = " ".join(printed.split())
    assert "0 done, 1 our fault, 2 your mistake, 75 stopped and resumable, 130 killed" in words


def test_an_unknown_verb_or_option_is_the_users_mistake(evergreen: Evergreen) -> None:
    assert evergreen("runn").exit_code == 2
    assert evergreen("ls", "--hme", "x").exit_code == 2


@pytest.mark.parametrize("word", ["\ud800", "--home=\udfff\ud800"])
def test_half_a_character_is_the_users_mistake(evergreen: Evergreen, word: str) -> None:
    done = evergreen("study", word)
    assert done.exit_code == 2
    assert "holds half a character" in " ".join(done.output.split())


QUICK = """
import sys
sys.modules["torch"] = None  # importing it fails from here on
from orchestrator.cli import main
sys.argv = ["evergreen", *sys.argv[1:]]
try:
    main()
finally:
    loaded = [name for name in sys.modules if name.startswith(("orchestrator.", "store.", "sqlalchemy", "pydantic"))]
    print(*loaded, file=sys.stderr)
"""


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_no_verb(option: str) -> None:
    done = subprocess.run([sys.executable, "-c", QUICK, option], capture_output=True, text=True, check=True)
    assert done.stdout
    assert set(done.stderr.split()) <= {
        *("orchestrator.package_names", "orchestrator.cli", "orchestrator.cli.app", "orchestrator.os_signals"),
        *("orchestrator.errors", "store.secrets"),
    }


def test_a_list_of_runs_loads_no_spec_and_no_measurements(tmp_path: Path) -> None:
    with Ledger.open(Home(tmp_path).ledger_url):
        pass
    command = [sys.executable, "-c", QUICK, "ls", "--home", str(tmp_path)]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stderr.split())
    assert "store.courses" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {"pydantic", "pydantic_core"}
    assert not loaded & {"orchestrator.registry", "store.run_summary", "store.plasticity"}


def test_version_names_what_a_report_of_a_fault_needs(evergreen: Evergreen) -> None:
    said = evergreen("--version").stdout
    assert re.fullmatch(
        rf"evergreen \S+.*, Python {platform.python_version()}, torch {re.escape(version('torch'))}\n", said
    )


def test_a_disk_that_takes_no_more_is_no_traceback_where_safetensors_finds_it() -> None:
    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    said = "No space left on device. Mend that, or name another place; what was written before is whole"
    assert words_of(error) == (said, YOUR_MISTAKE)
    assert words_of(SafetensorError("Error while deserializing header: incomplete metadata")) is None


def test_a_command_that_a_message_advises_names_the_home(evergreen: Evergreen, finished: Path) -> None:
    idle = evergreen("stop", "small", "--home", finished)
    assert f"`evergreen resume small --home {finished}` would go on with it" in idle.stderr.replace("\n", "")
    assert (
        in_home("`evergreen run SPEC`, `evergreen ls --home x`", finished)
        == "`evergreen run SPEC`, `evergreen ls --home x`"
    )
    assert in_home("`evergreen ls`", DEFAULT_HOME) == "`evergreen ls`"


def test_a_run_that_diverged_is_not_sent_through_the_same_steps(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Screen(tmp_path).end("demo", "stopped", f"{DIVERGED} 3")
    said = " ".join(capsys.readouterr().err.split())
    assert f"evergreen show demo --events --home {tmp_path} says from where a fork goes on" in said
    assert "Go on with" not in said


def test_a_verb_that_foreign_code_ends_is_not_taken_for_a_finished_one(capsys: pytest.CaptureFixture[str]) -> None:
    def size() -> None:
        raise SystemExit(0)

    with pytest.raises(typer.Exit) as end:
        in_words(size)()
    assert end.value.exit_code == YOUR_MISTAKE
    assert f"SystemExit: 0{place(size)}; mend that code" in " ".join(capsys.readouterr().err.split())
