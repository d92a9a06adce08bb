"""A person plays at the terminal; policies that are no model print pass rates, which a run's report draws."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import orchestrator
from orchestrator.cli import play as verb
from orchestrator.cli.app import app
from orchestrator.runs.removal import OWN
from store import floors
from store.intervals import wilson
from tests.conftest import Evergreen
from tests.orchestrator.specs import REPOSITORY, small, written
from tests.shares import slow

ENDLESS = """
from environments import Category, Environment, Episode, Score, Task, Turn

class Steps(Episode):
    def __init__(self, task):
        self.messages = task.messages

    def step(self, completion):
        return Turn(({"role": "user", "content": "go on"},), done=False, score=Score.of(1.0))

class Endless(Environment):
    name, version, scores_in_process, categories = "endless", "1", True, [Category("all")]

    def size(self, category):
        return None

    def task(self, category, index):
        return Task(self.name, category, index, ({"role": "user", "content": f"begin {index}"},))

    def start(self, task):
        return Steps(task)

def create(name):
    return Endless()
"""
GUESS = ("examples.guess:create", "--set", "numbers=[3]")


def by_hand(typed: str, *words: str) -> str:
    result = CliRunner().invoke(app, ["play", *words], input=typed, prog_name="evergreen")
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_person_is_shown_every_turn_and_what_it_was_worth() -> None:
    shown = by_hand("9\n9\n1\n3\n", *GUESS, "--tasks", "2")
    assert "guess a number from 1 to 3" in shown
    assert "user: lower" in shown
    assert "right: 1.00" in shown
    assert "not right: .00; an answer that is right" in shown
    assert shown.count("guess.3, task") == 2
    assert shown.rstrip().endswith("1 of 2 tasks solved")


def test_an_environments_own_number_of_turns_holds_for_a_person_and_for_a_policy(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    guess = {"type": "guess:create", "numbers": [3], "episodes": {"max_turns": 1}}
    resources = {"search_path": str(REPOSITORY / "examples")}
    spec = small(environments={"guess": guess}, warm_start=None, resources=resources)
    file = written(tmp_path, spec)
    shown = by_hand("9\n3\n", str(file), "--tasks", "1")
    assert "user: lower" not in shown
    assert shown.rstrip().endswith("0 of 1 task solved")
    rates = [
        json.loads(evergreen("play", file, "--policy", "random", "--tasks", 50, *more, "--json").stdout)[0]["pass_rate"]
        for more in ((), ("--set", "environments.guess.episodes=null"))
    ]
    assert rates[0] < rates[1]


def test_what_is_cut_off_is_worth_nothing_where_the_spec_says_so(tmp_path: Path, evergreen: Evergreen) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    environment = {"type": "endless:create", "episodes": {"max_turns": 2}}
    resources = {"search_path": str(tmp_path)}
    file = written(tmp_path, small(environments={"endless": environment}, warm_start=None, resources=resources))
    zero = ("--set", "environments.endless.episodes.cut_off=zero", "--tasks", "1")
    assert by_hand("x\nx\n", str(file), "--tasks", "1").rstrip().endswith("1 of 1 task solved")
    assert by_hand("x\nx\n", str(file), *zero).rstrip().endswith("0 of 1 task solved")
    (rate,) = json.loads(evergreen("play", file, "--policy", "constant", "--text", "x", *zero, "--json").stdout)
    assert (rate["pass_rate"], rate["cut_off"]) == (0, 1)


def test_the_end_of_what_is_typed_ends_and_a_backslash_goes_on() -> None:
    shown = by_hand("9\\\n", *GUESS)
    assert "... " in shown
    assert shown.rstrip().endswith("0 of 0 tasks solved")


def test_pass_rates_come_with_intervals_as_a_table_and_as_json(evergreen: Evergreen) -> None:
    words = ("play", *GUESS, "--policy", "random", "--tasks", "50", "--seed", "3")
    (found,) = json.loads(evergreen(*words, "--json").stdout)
    interval = wilson(found["correct"], 50)
    assert (found["policy"], found["environment"], found["category"], found["tasks"]) == ("random", "guess", "3", 50)
    assert (found["low"], found["high"]) == (interval.low, interval.high)
    assert 0.3 < found["pass_rate"] < 0.8
    assert f"{found['pass_rate']:.2f}".removeprefix("0") in evergreen(*words).stdout


MINE = """
from environments import Category, Environment, Score, Task

class Mine(Environment):
    version, name = "1", "mine"
    categories = [Category("one"), Category("two")]

    def size(self, category):
        return None

    def task(self, category, index):
        question = {"role": "user", "content": f"{category}: is {index} odd?"}
        return Task(self.name, category, index, (question,), answer="xyz"[index % 3] * 300)

    def score(self, task, completion):
        if task.index % 5 == 0:
            return Score.unscorable(f"task {task.index}")
        raise RuntimeError("my bug")

def create(name):
    return Mine()
"""


def test_why_there_is_no_score_is_said_with_the_most_frequent_reasons(tmp_path: Path, evergreen: Evergreen) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    words = ("play", f"{tmp_path}/mine.py:create", "--policy", "reference", "--tasks", "32")
    one, two = json.loads(evergreen(*words, "--json").stdout)
    assert (one["unscorable"], two["unscorable"], one["cut_off"]) == (32, 32, 0)
    assert len(one["reasons"]) == 3
    first = one["reasons"][0]
    assert "raised RuntimeError: my bug, in mine.py:" in first["reason"]
    assert first["answers"] > one["reasons"][1]["answers"] == 1
    told = " ".join(evergreen(*words).stdout.split())
    both = first["answers"] + two["reasons"][0]["answers"]
    assert f"64 of 64 answers could not be scored: {first['reason']} ({both}); task " in told
    assert "more reasons" in told


def test_episodes_that_are_not_over_after_the_most_turns_are_told(tmp_path: Path, evergreen: Evergreen) -> None:
    guess = {"type": "examples.guess:create", "numbers": [9], "episodes": {"max_turns": 1}}
    file = written(tmp_path, small(environments={"guess": guess}, warm_start=None))
    told = {}
    for verb_, more in (("play", ("--tasks", 50)), ("profile", ("--tasks", 50, "--samples", 1))):
        words = (verb_, file, "--policy", "constant", "--text", "?", *more)
        table = evergreen(*words, *(("-o", tmp_path / "table") if verb_ == "profile" else ()))
        assert " answers were cut off by a budget" in " ".join(table.stdout.split()), table.stderr
        found = evergreen(*words, *(("-o", tmp_path / "json") if verb_ == "profile" else ()), "--json")
        told[verb_] = json.loads(found.stdout)[0]
    assert told["play"]["cut_off"] == 50
    assert told["profile"]["cut_off"] == told["profile"]["answers"] > 30
    assert told["profile"]["reasons"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--text", "x", "--policy", "random"), "--text is what `constant` answers"),
        (("--json",), "say which with --policy"),
    ],
)
def test_options_that_mean_nothing_are_refused(evergreen: Evergreen, words: tuple[str, ...], said: str) -> None:
    result = evergreen("play", *GUESS, *words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("verb", "option", "said"),
    [
        ("play", "keyz=3", "error: codebook: keyz: there is no such option"),
        ("play", "keys=abc", "error: codebook: keys: Input should be a valid integer"),
        ("play", "slices={by: nothing}", "error: codebook: by: Input should be 'file'"),
        ("profile", "keyz=3", "error: codebook: keyz: there is no such option"),
    ],
)
def test_options_that_a_type_refuses_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evergreen: Evergreen, verb: str, option: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = evergreen(verb, "codebook", "--set", option, "--policy", "random")
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


@pytest.mark.slow
def test_where_no_task_has_an_answer_a_constant_text_can_be_played(evergreen: Evergreen) -> None:
    pytest.importorskip("textarena")
    words = ("play", "textarena", "--set", "id=LightsOut-v0", "--tasks", "2", "--policy")
    refused = {policy: " ".join(evergreen(*words, policy).stderr.split()) for policy in ("constant", "random")}
    assert "give the text with --text" in refused["constant"]
    assert "LightsOut-v0 does not list its moves: list some, `legal: [TEXT, ...]`" in refused["random"]
    assert evergreen(*words, "constant", "--text", "0 1").exit_code == 0
    assert evergreen(*words, "random", "--set", "legal=[0 1, 2 2]").exit_code == 0


def test_a_run_keeps_floor_and_ceiling_and_its_report_draws_them(tmp_path: Path, evergreen: Evergreen) -> None:
    spec, home = written(tmp_path, small("levels")), tmp_path / "home"
    assert orchestrator.run(spec, home=home).status == "finished"
    folder = home / "levels"
    evergreen("report", "levels", "--home", home)
    assert "Level lines" not in (folder / "report.html").read_text()
    for policy in ("random", "reference"):
        told = evergreen("play", spec, "--policy", policy, "--run", "levels", "--home", home)
        assert told.exit_code == 0, told.stderr
    kept = floors.read(folder)
    assert {kind: one.policy for kind, one in kept.items()} == {"floor": "random", "ceiling": "reference"}
    assert kept["ceiling"].rates["numbers"] == {"10": 1, "30": 1}
    assert (kept["ceiling"].of("book"), kept["ceiling"].of("nothing")) == (1, None)
    evergreen("report", "levels", "--home", home)
    page = (folder / "report.html").read_text()
    assert "long dashes the floor, what the policy `random`" in page
    assert "dashes and dots the ceiling" in page
    for kind, level in kept.items():
        assert page.count(f' {kind}" d=') >= len(level.rates), kind
    assert floors.FILE in OWN, "rm removes it"


def test_rates_are_kept_only_with_a_run_of_these_environments(finished: Path, evergreen: Evergreen) -> None:
    words = ("play", REPOSITORY / "examples" / "guess.yaml", "--policy", "random", "--home", finished)
    result = evergreen(*words, "--run", "small")
    assert result.exit_code == 2
    assert "guess is none of them" in result.stderr
    assert not (finished / "small" / floors.FILE).exists()


def test_whether_rates_can_be_kept_is_asked_before_anything_is_played(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evergreen: Evergreen
) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    (home / "small" / floors.FILE).write_text("{")
    monkeypatch.setattr(verb, "play_category", lambda *given, **more: pytest.fail("played"))
    result = evergreen("play", home / "small" / "spec.yaml", "--policy", "random", "--home", home, "--run", "small")
    assert result.exit_code == 2
    assert "delete it and play again" in result.stderr


def test_a_damaged_file_of_levels_is_told(tmp_path: Path) -> None:
    (tmp_path / floors.FILE).write_text('{"floor": 1}')
    with pytest.raises(floors.StoreError, match="delete it and play again"):
        floors.read(tmp_path)


@pytest.mark.parametrize(
    ("words", "low", "high"),
    [
        slow((("gymnasium", "--set", "id=FrozenLake-v1", "--set", "kwargs={map_name: 4x4}"), 0.002, 0.05)),
        (("gymnasium", "--set", "id=Blackjack-v1", "--set", "reward_range=[-1, 1]"), 0.2, 0.36),
        slow((("textarena", "--set", "id=FrozenLake-v0", "--set", "kwargs={num_holes: 0}"), 0.1, 0.9)),
    ],
    ids=["FrozenLake", "Blackjack", "FrozenLake of TextArena"],
)
def test_a_random_policy_plays_games(words: tuple[str, ...], low: float, high: float, evergreen: Evergreen) -> None:
    pytest.importorskip(words[0])
    (rates,) = json.loads(evergreen("play", *words, "--policy", "random", "--tasks", 400, "--json").stdout)
    assert rates["unscorable"] == 0
    assert low < rates["pass_rate"] < high


def test_a_level_is_the_mean_that_accuracy_is_and_keeps_what_was_played_before(tmp_path: Path) -> None:
    floors.keep(tmp_path, "ceiling", floors.Level("reference", {"a": {"in": 0.2, "out": 1.0}}, {"a": ["out"]}))
    floors.keep(tmp_path, "ceiling", floors.Level("reference", {"b": {"out": 1.0}}, {"b": ["out"]}))
    kept = floors.read(tmp_path)["ceiling"]
    assert [kept.of("a"), kept.of("a", "out"), kept.of("b")] == [0.2, 1.0, 1.0]
    floors.keep(tmp_path, "ceiling", floors.Level("mine", {"b": {"in": 0.5}}))
    assert floors.read(tmp_path)["ceiling"].of("a") is None, "of another policy nothing is kept beside it"
