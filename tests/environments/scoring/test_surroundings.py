"""What a scoring process sees of the trainer's surroundings, and what it leaves on the terminal."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from environments import EnvironmentFault, EnvironmentSource, Score, Scorer, ScoringJob, ScoringOptions
from tests.environments.fakes import _asking_for_a_key
from tests.source_lines import place

OBEDIENT = EnvironmentSource("obedient", "tests.environments.fakes:create", {"character": "obedient"})
SECRETS = {
    "JUDGE_API_KEY": "k",
    "HF_TOKEN": "t",
    "AWS_SECRET_ACCESS_KEY": "s",
    "DATABASE_URL": "postgresql://me:secret@host/db",
    "MLFLOW_TRACKING_PASSWORD": "p",
    "SLACK_WEBHOOK": "https://hooks/secret",
}


def scored(completion, **options):
    fake = OBEDIENT.create()
    with Scorer([OBEDIENT], {"obedient": fake}, ScoringOptions(workers=1, **options)) as scorer:
        (turn,) = scorer.turns([ScoringJob(fake.task("easy", 0), (completion,))])
        return turn.score


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def test_no_secret_is_seen_but_what_programs_need_is(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HOME", "/nowhere")
    seen = set(scored("seeing").components)
    assert not seen & set(SECRETS)
    assert seen >= {"PATH", "HOME", "LC_ALL", "OMP_NUM_THREADS", "HF_HOME"}


def test_a_variable_that_the_spec_names_is_seen():
    seen = set(scored("seeing", env=["JUDGE_API_KEY"]).components)
    assert seen & set(SECRETS) == {"JUDGE_API_KEY"}


def test_a_scorer_that_misses_a_variable_is_told_how_to_get_it():
    assert scored("asking_for_a_key") == Score.unscorable(
        f"raised KeyError: 'JUDGE_API_KEY'{place(_asking_for_a_key, 'JUDGE_API_KEY')}"
        " (`scoring: {env: [JUDGE_API_KEY]}` passes this variable to scoring processes)"
    )
    assert scored("asking_for_a_key", env=["JUDGE_API_KEY"]) == Score.of(1.0)


def test_a_variable_that_is_not_set_is_a_fault_that_names_it():
    with pytest.raises(EnvironmentFault, match="names NO_SUCH_KEY, which is not set"):
        scored("seeing", env=["NO_SUCH_KEY"])


def test_what_a_score_sets_for_its_process_is_put_back_before_the_next():
    fake = OBEDIENT.create()
    with Scorer([OBEDIENT], {"obedient": fake}, ScoringOptions(workers=1)) as scorer:
        jobs = [ScoringJob(fake.task("easy", 0), (completion,)) for completion in ("set", "setting", "set")]
        before, _, after = [turn.score for turn in scorer.turns(jobs)]
    assert before.components["ended_with"] == 1
    assert before.components["timer"] == 0
    assert after == before


def test_what_scorers_print_is_counted_and_told_once(capfd):
    fake = OBEDIENT.create()
    with Scorer([OBEDIENT], {"obedient": fake}, ScoringOptions(workers=1)) as scorer:
        (turn,) = scorer.turns([ScoringJob(fake.task("easy", 0), ("printing",))])
        deadline = time.monotonic() + 5
        while scorer._pool.output.num_bytes < 2_302_019 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert scorer.take_news() == [
            "scorers print, which is not kept: 2,302,019 bytes so far, the last line: the last \\x1b[0mwords"
        ]
        assert scorer.take_news() == []
    assert turn.score == Score.of(1.0)
    assert capfd.readouterr() == ("", "")


def test_workers_that_do_not_start_say_their_last_words(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from environments import EnvironmentSource, ScoringJob, Scorer\n"
        "source = EnvironmentSource('fake', 'tests.environments.fakes:create')\n"
        "fake = source.create()\n"
        "with Scorer([source], {'fake': fake}) as scorer:\n"
        "    scorer.turns([ScoringJob(fake.task('easy', 0), ('0',))])\n"
    )
    variables = {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 1
    assert "RuntimeError: a scoring process that is starting was to start others" in done.stderr
    assert "under `if __name__ == '__main__':`" in done.stderr
