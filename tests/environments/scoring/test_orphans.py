"""Nothing that a score starts outlives its scoring process, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from environments import EnvironmentSource, Score, Scorer, ScoringJob, ScoringOptions
from tests.linux_processes import any_running, below

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ROOT = Path(__file__).parents[3]
LEAVING = "tests.environments.scoring.leaving:create"
TRAINER = """
import sys
from environments import EnvironmentSource, ScoringJob, Scorer, ScoringOptions

if __name__ == "__main__":
    options = {"notes": sys.argv[2]} if sys.argv[2] else {"character": "obedient"}
    source = EnvironmentSource("fake", sys.argv[1], options)
    fake = source.create()
    with Scorer([source], {"fake": fake}, ScoringOptions(workers=2, timeout_s=600)) as scorer:
        scorer.turns([ScoringJob(fake.task("easy", i), (sys.argv[3],)) for i in range(2)])
"""


def wait_until(fact, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.02)
    return fact()


def noted(notes):
    return [int(pid) for pid in notes.read_text().split()] if notes.exists() else []


@pytest.mark.parametrize(
    ("what", "ending", "score"),
    [
        ("started", "crashing", Score.unscorable("crashed")),
        ("forked", "hanging", Score.unscorable("timed out")),
        ("escaped", "hanging", Score.unscorable("timed out")),
        ("escaped", "well", Score.of(1.0)),
    ],
)
def test_what_a_score_started_ends_with_its_process(tmp_path, what, ending, score):
    source = EnvironmentSource("leaving", LEAVING, {"notes": str(tmp_path / "notes")})
    leaving = source.create()
    with Scorer([source], {"leaving": leaving}, ScoringOptions(workers=1, timeout_s=0.5)) as scorer:
        (turn,) = scorer.turns([ScoringJob(leaving.task("easy", 0), (f"{what} {ending}",))])
        assert turn.score == score
        if ending != "well":
            assert wait_until(lambda: not any_running(noted(tmp_path / "notes")))
    pids = noted(tmp_path / "notes")
    times = 2 if score.reason == "crashed" else 1  # its only crash is tried once more
    assert len(pids) == (20 if what == "forked" else times)
    assert not any_running(pids)


FORKING = """
from environments import EnvironmentSource, Scorer, ScoringJob, ScoringOptions

source = EnvironmentSource("fake", "tests.environments.fakes:create", {"character": "obedient"})
fake = source.create()
with Scorer([source], {"fake": fake}, ScoringOptions(isolation="none")) as scorer:
    jobs = [ScoringJob(fake.task("easy", 0), (f"forking {how}",)) for how in ("raises", "returns", "exits")]
    print([turn.score.value for turn in scorer.turns(jobs)], flush=True)
"""


def test_a_child_of_a_score_that_comes_back_in_this_process_ends():
    found = subprocess.run(
        [sys.executable, "-c", FORKING], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert (found.stdout, found.stderr, found.returncode) == ("[1.0, 1.0, 1.0]\n", "", 0)


def test_a_child_of_a_score_that_comes_back_in_a_worker_ends_and_answers_nothing():
    source = EnvironmentSource("fake", "tests.environments.fakes:create", {"character": "obedient"})
    fake, said = source.create(), ["forking raises", "hopeless", "forking returns", "generous", "forking exits"] * 3
    with Scorer([source], {"fake": fake}, ScoringOptions(workers=1, timeout_s=5)) as scorer:
        turns = scorer.turns([ScoringJob(fake.task("easy", i), (words,)) for i, words in enumerate(said)])
    assert [turn.score for turn in turns] == [Score.of(float(words != "hopeless")) for words in said]


@pytest.mark.parametrize(
    ("how", "what"),
    [
        (signal.SIGKILL, "stuck_in_c"),
        (signal.SIGKILL, "escaped hanging"),
        (signal.SIGINT, "forked hanging"),
    ],
)
def test_an_ended_trainer_leaves_no_process(tmp_path, how, what):
    script, notes = tmp_path / "trainer.py", tmp_path / "notes"
    script.write_text(TRAINER)
    own = [LEAVING, str(notes)] if " " in what else ["tests.environments.fakes:create", ""]
    trainer = subprocess.Popen(
        [sys.executable, str(script), *own, what],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    num_processes = 4 if " " not in what else 6  # two sessions of leader and worker, and what is left there
    assert wait_until(lambda: len(below(trainer.pid)) >= num_processes, 60)
    time.sleep(0.3)  # the workers are stuck now
    pids = [one.pid for one in below(trainer.pid)]
    trainer.send_signal(how)
    trainer.wait(20)
    assert wait_until(lambda: not any_running(pids), 5)
