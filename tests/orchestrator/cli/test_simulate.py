"""evergreen simulate: what a person and a program get to see, and what mistakes are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Evergreen
from tests.linux_processes import children_of
from tests.shares import share

QUICK = ("--seeds", 3, "--steps", 20, "--workers", 1)
OUTSIDER = """
from orchestrator.bandits.uniform import Uniform


def make(arms, rng, tilt=0.0):
    return Uniform(arms, rng)


def shy(arms):
    return None
"""


def test_a_table_ranks_policies_and_their_paired_differences(evergreen: Evergreen) -> None:
    found = evergreen("simulate", "b", "--bandit", "uniform", "--bandit", "oracle", *QUICK)
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert lines[0].startswith("world b, traps: ")
    assert lines[1] == "20 steps, seeds 0 to 2"
    reached = next(line for line in lines if line.strip().startswith("oracle"))
    assert ".000 ±.000" in reached  # on traps
    after = lines[lines.index("Less uniform, paired by seed") :]
    assert any(line.strip().startswith("oracle") and "+" in line for line in after)
    assert not any(line.strip().startswith("uniform") for line in after)
    assert lines[-1].endswith("they do not predict what a language model will do.")


def test_against_names_the_policy_that_all_are_compared_with(evergreen: Evergreen) -> None:
    words = ("--bandit", "uniform", "--bandit", "sec", "--against", "sec")
    assert "Less sec, paired by seed" in evergreen("simulate", "a", *words, *QUICK).stdout


def test_json_holds_the_same_facts_and_every_seed(evergreen: Evergreen) -> None:
    words = ("--bandit", "uniform", "--bandit", "{type: sec, temperature: 0.2}")
    facts = json.loads(evergreen("simulate", "skills", *words, "--first-seed", 5, *QUICK, "--json").stdout)
    assert (facts["world"], facts["num_steps"], facts["seeds"]) == ("skills", 20, [5, 6, 7])
    uniform, sec = facts["policies"]
    assert sec["name"] == "sec temperature=0.2"
    assert sec["bandit"]["temperature"] == 0.2
    ours, theirs = sec["metrics"]["auc"], uniform["metrics"]["auc"]
    assert ours["mean"] == pytest.approx(sum(ours["by_seed"]) / 3)
    assert ours["difference"]["mean"] == pytest.approx(ours["mean"] - theirs["mean"])
    assert theirs["difference"] is None
    assert sum(sec["shares"].values()) == pytest.approx(1)


def test_one_seed_has_no_interval(evergreen: Evergreen) -> None:
    found = evergreen("simulate", "a", "--bandit", "uniform", "--steps", 5, "--seeds", 1)
    assert "±" not in found.stdout


def test_schedulers_are_compared_in_worlds_of_stages(evergreen: Evergreen) -> None:
    words = ("--scheduler", "none", "--scheduler", "round_robin", "--bandit", "sec", "--replay-share", 0.5)
    found = evergreen("simulate", "d", *words, *QUICK)
    assert "replay share .50" in found.stdout
    assert "no stages, sec" in found.stdout
    assert "round_robin, sec" in found.stdout


@pytest.mark.parametrize("world", ["a", "b", "c", "d", "h"])
def test_every_world_has_something_to_show_without_being_told_who_competes(evergreen: Evergreen, world: str) -> None:
    found = evergreen("simulate", world, "--seeds", 1, "--steps", 20, "--workers", 1)
    assert found.exit_code == 0
    assert "uniform" in found.stdout


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_a_plot_is_a_picture_of_the_format_that_its_name_says(
    evergreen: Evergreen, tmp_path: Path, suffix: str, begins: bytes
) -> None:
    plot = tmp_path / f"curves{suffix}"
    found = evergreen("simulate", "b", "--bandit", "uniform", "--bandit", "sec", "--plot", plot, *QUICK)
    assert found.exit_code == 0
    assert plot.read_bytes().startswith(begins)
    assert str(plot) in found.stdout.replace("\n", "")


@pytest.mark.slow
def test_the_same_comparison_draws_the_same_picture(evergreen: Evergreen, tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        evergreen("simulate", "a", "--bandit", "uniform", "--plot", tmp_path / name, *QUICK)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_an_outsiders_bandit_competes(evergreen: Evergreen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outsiders_simulated.py").write_text(OUTSIDER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    theirs = "{type: 'outsiders_simulated:make', tilt: 0.5}"
    words = ("simulate", "b", "--bandit", "uniform", "--bandit", theirs, "--seeds", 2, "--steps", 10)
    facts = json.loads(evergreen(*words, "--workers", 2, "--json").stdout)
    ours, other = (policy["metrics"]["auc"]["by_seed"] for policy in facts["policies"])
    assert ours == other  # its rule is uniform's
    assert facts["policies"][1]["name"] == "outsiders_simulated:make tilt=0.5"
    wrong = evergreen("simulate", "b", "--bandit", "outsiders_simulated:shy", *QUICK)
    assert wrong.exit_code == 2
    assert "cannot be called as shy(arms=..., rng=..., **options)" in wrong.stderr


@pytest.mark.parametrize("world", ["traps", "switching", "d"])
def test_options_that_name_an_arm_which_the_world_does_not_have_are_refused(evergreen: Evergreen, world: str) -> None:
    found = evergreen("simulate", world, "--bandit", "{type: fixed, weights: {levl0: 1}}", *QUICK)
    assert found.exit_code == 2
    assert "weights names levl0, which the world has not: " in " ".join(found.stderr.split())


def test_a_file_names_more_policies(evergreen: Evergreen, tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text("plain: uniform\nsharp:\n  type: sec\n  temprature: .05\n")
    found = evergreen("simulate", "b", "--file", file, *QUICK)
    assert found.exit_code == 2
    assert "sharp" in found.stderr
    assert "Did you mean 'temperature'" in found.stderr
    file.write_text("plain: uniform\nsharp: {type: sec, temperature: .05}\n")
    found = evergreen("simulate", "b", "--file", file, *QUICK)
    assert "Less plain, paired by seed" in found.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("z",), "'z' is not one of the worlds: a or skills"),
        (("stage",), "Did you mean 'stages'"),
        (("b", "--bandit", "secc"), "Did you mean 'sec'"),
        (("b", "--bandit", "{type: sec, temprature: 1}"), "Did you mean 'temperature'"),
        (("b", "--bandit", "no_such_module:make"), "cannot import 'no_such_module:make'"),
        (("b", "--bandit", "size"), "size: "),
        (("b", "--scheduler", "uniform"), "--scheduler: world b has no stages; use world d or h"),
        (("b", "--replay-share", 0.1), "--replay-share: world b has no stages"),
        (("d", "--steps", 30), "--steps 30: stages have 20 steps here"),
        (("b", "--bandit", "sec", "--against", "sek"), "Did you mean 'sec'"),
        (("b", "--plot", "curves.gif"), "--plot curves.gif: name a file that ends in .png, .svg, .pdf"),
        (("b", "--plot", "no/such/folder/x.png"), "there is no folder no/such/folder"),
        (("b", "--plot", "/proc/x.png", "--against", "uniform"), "/proc/x.png cannot be written: No such file"),
        (("b", "--file", "nowhere.yaml"), "cannot read the file nowhere.yaml"),
    ],
)
def test_mistakes_are_told_in_words(evergreen: Evergreen, words: tuple[object, ...], says: str) -> None:
    found = evergreen("simulate", *words, "--seeds", 1)
    assert (found.exit_code, found.stdout) == (2, "")
    assert says in " ".join(found.stderr.split())


def _wait_for_children(pid: int, num_children: int) -> None:
    """Wait until the workers were begun, one more for what Python keeps beside them; at most ten seconds."""
    for _ in range(200):
        if len(children_of(pid)) >= num_children:
            break
        time.sleep(0.05)
    time.sleep(0.5)


@pytest.mark.parametrize("everybody", share([True, False], 1))
def test_ctrl_c_leaves_at_once_without_a_traceback(everybody: bool) -> None:
    code = "from orchestrator.cli import main; main()"
    script = f"if __name__ == '__main__':\n    {code}\n"
    words = ("simulate", "c", "--seeds", "50", "--workers", "2")
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    _wait_for_children(process.pid, 3)
    (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "killed; nothing was kept" in said
    assert "Traceback" not in said
