"""The command line grows on purpose only."""

from __future__ import annotations

import pytest

from orchestrator.cli.app import VERBS as LISTED
from orchestrator.cli.app import load_verb
from tests.conftest import Evergreen

VERBS = {
    "run": ["SPEC", "--set", "--home", "--until-step"],
    "resume": ["RUN", "--set", "--home", "--until-step", "--stages"],
    "fork": ["RUN", "--stage", "--spec", "--set", "--home", "--until-step"],
    "study": ["STUDY", "--workers", "--dry-run", "--rehearse", "--home", "--json"],
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
    "serve": ["SPEC", "OPTION", "--set", "--devices", "--home"],
    "stop": ["RUN", "--home"],
    "ls": ["--home", "--json"],
    "show": [
        "RUN",
        "--home",
        "--json",
        "--samples",
        "--failed",
        "--stage",
        "--limit",
        "--events",
        "--follow",
    ],
    "report": ["RUN", "--output", "--home"],
    "compare": [
        "RUN... | STUDY",
        "--by",
        "--metric",
        "--last",
        "--baseline",
        "--pairs",
        "--output",
        "--home",
        "--json",
    ],
    "diff": ["A", "B", "--exit-code", "--home", "--json"],
    "export": ["RUN...", "DIR", "--format", "--home"],
    "ui": ["RUN", "--home", "--port", "--host", "--catch-up-only"],
    "weights": ["RUN", "DIR", "--stage", "--home"],
    "prune": ["[RUN]...", "--boundaries", "--warm-starts", "--dry-run", "--home", "--json"],
    "upgrade": ["--home"],
    "validate": ["SPEC", "--set", "--home", "--strict", "--leaks", "--threshold", "--all", "--json"],
    "methods": ["KIND", "NAME", "--schema", "--json"],
    "check-env": ["SPEC", "ENV", "--set", "--tasks", "--patience", "--json"],
}


def test_verbs_arguments_and_options_are_those_agreed() -> None:
    found = {name: [_word(parameter) for parameter in load_verb(name).params] for name in LISTED}
    assert found == VERBS


@pytest.mark.parametrize("name", LISTED)
def test_the_line_of_a_verb_begins_its_own_help(name: str) -> None:
    words = " ".join(load_verb(name).help.split())
    assert words == LISTED[name] or words.startswith(f"{LISTED[name]} ")


def _word(parameter: object) -> str:
    if getattr(parameter, "param_type_name", "") == "option":
        return str(parameter.opts[0])  # type: ignore[attr-defined]
    return str(getattr(parameter, "metavar", None) or parameter.name.upper())  # type: ignore[attr-defined]


def test_help_tells_every_verb_in_a_line_and_the_exit_codes(evergreen: Evergreen) -> None:
    words = " ".join(evergreen("--help").stdout.split())
    assert all(f" {verb} " in words for verb in VERBS)
    assert "0 done, 1 our fault, 2 your mistake, 75 stopped and resumable, 130 killed" in words


def test_an_unknown_verb_or_option_is_the_users_mistake(evergreen: Evergreen) -> None:
    assert evergreen("runn").exit_code == 2
    assert evergreen("ls", "--hme", "x").exit_code == 2
