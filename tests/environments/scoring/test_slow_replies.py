"""Replies that take long hold nothing else: with the default number of processes on two cores, one, and with more."""

import os
import time

import pytest

from environments import EnvironmentSource, Score, Scorer, ScoringJob, ScoringOptions
from environments.scoring import scorer as scoring
from environments.scoring.job_queue import JobQueue
from tests.environments.fakes import NAP_S

FAKES = "tests.environments.fakes:create"
QUICK = EnvironmentSource("quick", FAKES, {"character": "obedient"})


def obedient(name):
    return EnvironmentSource(name, FAKES, {"character": "obedient"})


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(scoring, "available_cores", lambda: 2)


def scorer_of(*sources, **options):
    return Scorer(
        sources, {source.name: source.create() for source in sources}, ScoringOptions(**{"timeout_s": 2.0, **options})
    )


def submitted(scorer, name, *completions):
    environment = scorer._environments[name]
    return [
        scorer.submit(ScoringJob(environment.task("easy", index), (completion,)))
        for index, completion in enumerate(completions)
    ]


def scores_of(futures):
    return [future.result(60).score for future in futures]


def num_done(futures):
    return sum(future.done() for future in futures)


def expected(*completions):
    here = QUICK.create()
    return [here.score(here.task("easy", index), one) for index, one in enumerate(completions)]


def test_an_environment_that_sleeps_does_not_hold_the_others():
    words = ["noisy"] * 100
    with scorer_of(obedient("sleeper"), QUICK) as scorer:
        asleep = submitted(scorer, "sleeper", *["sleeping"] * 6)  # one process would take nine seconds
        others = submitted(scorer, "quick", *words)
        assert scores_of(others) == expected(*words)
        assert num_done(asleep) <= 2
        assert len(scorer._pool.pids()) == 2
        scorer.next_batch()
        again = submitted(scorer, "quick", *words)
        assert scores_of(again) == expected(*words)
        assert num_done(asleep) <= 2, "what sleeps has left the second process to the others"
        assert scores_of(asleep) == [Score.of(1.0)] * 6
        assert len(scorer._pool.pids()) == 2


def test_one_reply_that_sleeps_does_not_hold_its_own_environment():
    words = ["noisy"] * 20
    with scorer_of(QUICK) as scorer:
        scores_of(submitted(scorer, "quick", *words))
        assert len(scorer._pool.pids()) == 1, "what is quick needs no more than one"
        first, asleep, last = (submitted(scorer, "quick", *some) for some in (words, ["sleeping"], words))
        assert scores_of(first) + scores_of(last) == expected(*words) * 2, "those that were sent behind it as well"
        assert num_done(asleep) == 0
        assert scores_of(asleep) == [Score.of(1.0)]


def test_several_environments_that_sleep_share_a_process_and_the_others_have_theirs():
    names = ("one", "two", "three")
    with scorer_of(*map(obedient, names), QUICK) as scorer:
        for _ in range(4):  # it is learnt which they are
            scores_of([future for name in names for future in submitted(scorer, name, "napping")])
        asleep = [future for name in names for future in submitted(scorer, name, *["napping"] * 4)]
        for _ in range(5):  # turns of an episode, one after the other
            scores_of(submitted(scorer, "quick", *["noisy"] * 10))
        assert num_done(asleep) <= 2
        assert scores_of(asleep) == [Score.of(1.0)] * 12
        assert len(scorer._pool.pids()) == 2


def test_what_an_environment_imports_at_its_first_score_starts_no_other_process():
    with scorer_of(QUICK) as scorer:
        scores_of(submitted(scorer, "quick", "napping", *["noisy"] * 20))
        assert len(scorer._pool.pids()) == 1


def test_a_number_of_processes_that_is_asked_for_is_kept():
    with scorer_of(obedient("sleeper"), QUICK, workers=1) as scorer:
        asleep = submitted(scorer, "sleeper", "napping", "napping")
        assert scores_of(submitted(scorer, "quick", "noisy")) == expected("noisy")
        assert scores_of(asleep) == [Score.of(1.0)] * 2
        assert len(scorer._pool.pids()) == 1


def test_a_second_process_that_does_not_start_is_done_without(monkeypatch):
    with scorer_of(obedient("sleeper"), QUICK) as scorer:
        scores_of(submitted(scorer, "sleeper", "noisy"))
        real = scorer._pool._start

        def start():
            process = real()
            process.leader.kill()
            return process

        monkeypatch.setattr(scorer._pool, "_start", start)
        asleep = submitted(scorer, "sleeper", "sleeping", "napping")
        assert scores_of(submitted(scorer, "quick", "noisy")) == expected("noisy")
        assert scores_of(asleep) == [Score.of(1.0)] * 2
        assert len(scorer._pool.pids()) == 1


def test_what_hangs_in_a_second_process_is_killed_there_and_costs_one_score():
    with scorer_of(obedient("sleeper"), QUICK) as scorer:
        scores_of(submitted(scorer, "sleeper", "noisy"))
        hanging = submitted(scorer, "sleeper", "sleeping", "hanging", "noisy")
        assert scores_of(submitted(scorer, "quick", "noisy")) == expected("noisy")
        assert [score.reason for score in scores_of(hanging)] == [None, "timed out", None]


def test_an_environment_that_is_long_in_building_holds_none_that_another_process_has(tmp_path):
    build_s = 3.0
    (tmp_path / "late.py").write_text(
        "import os, time\nfrom tests.environments import fakes\n"
        "def create(name):\n"
        f"    if os.getpid() != {os.getpid()}: time.sleep({build_s})\n"
        "    return fakes.create(name, character='obedient')\n"
    )
    late = EnvironmentSource("late", f"{tmp_path / 'late.py'}:create")
    with scorer_of(late, QUICK, workers=2) as scorer:
        scores_of(submitted(scorer, "quick", "napping", "napping"))  # both processes have it
        begun = time.monotonic()
        behind = submitted(scorer, "late", "noisy")
        assert scores_of(submitted(scorer, "quick", *["noisy"] * 20)) == expected(*["noisy"] * 20)
        assert time.monotonic() - begun < build_s
        assert num_done(behind) == 0
        assert scores_of(behind)[0].reason is None


def test_what_takes_long_in_the_trainer_is_told_once(monkeypatch):
    monkeypatch.setattr(scoring, "LONG_S", NAP_S / 2)
    with scorer_of(QUICK, isolation="none") as scorer:
        scores_of(submitted(scorer, "quick", "noisy"))
        assert scorer.take_news() == []
        scores_of(submitted(scorer, "quick", "napping", "napping"))
        (said,) = scorer.take_news()
        assert said.startswith("a reply of quick took 0 s in the trainer, where nothing limits it")
        scores_of(submitted(scorer, "quick", "napping"))
        assert scorer.take_news() == []


def test_jobs_wait_in_their_order_and_where_they_stood_when_they_wait_again():
    waiting = JobQueue()
    for environment, number in (("b", 0), ("a", 1), ("b", 2), ("a", 3)):
        waiting.add(environment, number)
    assert waiting.environments() == ["b", "a"]
    assert waiting.remove("b", 0)
    assert not waiting.remove("b", 0)
    assert (waiting.environments(), waiting.first("b")) == (["a", "b"], 2)
    waiting.put_back([("b", 0)])
    assert (waiting.environments(), waiting.first("b")) == (["b", "a"], 0)
    for environment, number in (("b", 2), ("b", 0), ("a", 3), ("a", 1)):
        waiting.remove(environment, number)
    assert not waiting
