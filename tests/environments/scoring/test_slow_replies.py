"""Replies that take long hold nothing else: with the default number of processes on two cores, one, and with more."""

import os
import select
import time
from types import SimpleNamespace

import pytest

from environments import EnvironmentSource, Score, Scorer, ScoringJob, ScoringOptions
from environments.scoring import pool as scoring_pool
from environments.scoring import process as scoring_process
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


def wait_until(holds):
    give_up_at = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def wait_until_quick(scorer, name):
    """Score until a reply was quick, as all are but where the machine is busy."""
    wait_until(lambda: scores_of(submitted(scorer, name, "noisy")) and not scorer._pool._slow[name])


def test_an_environment_that_waits_does_not_hold_the_others(tmp_path):
    words, places = ["noisy"] * 100, [tmp_path / str(index) for index in range(6)]
    with scorer_of(obedient("waiter"), QUICK, timeout_s=60.0) as scorer:
        waiting = submitted(scorer, "waiter", *[f"waiting {place}" for place in places])
        others = submitted(scorer, "quick", *words)
        assert scores_of(others) == expected(*words)
        wait_until(lambda: scorer._pool._slow["waiter"] == 2)  # both processes have one
        assert num_done(waiting) == 0
        assert len(scorer._pool.pids()) == 2
        scorer.next_batch()
        again = submitted(scorer, "quick", *words)
        for place in places[:2]:
            place.touch()
        assert scores_of(again) == expected(*words), "what waits has left the second process to the others"
        assert num_done(waiting[2:]) == 0
        for place in places:
            place.touch()
        assert scores_of(waiting) == [Score.of(1.0)] * 6
        assert len(scorer._pool.pids()) == 2


def test_one_reply_that_waits_does_not_hold_its_own_environment(tmp_path):
    words, place = ["noisy"] * 20, tmp_path / "now"
    with scorer_of(QUICK, timeout_s=60.0) as scorer:
        wait_until_quick(scorer, "quick")
        assert len(scorer._pool.pids()) == 1, "what is quick needs no more than one"
        first, waiting, last = (submitted(scorer, "quick", *some) for some in (words, [f"waiting {place}"], words))
        assert scores_of(first) + scores_of(last) == expected(*words) * 2, "those that were sent behind it as well"
        assert num_done(waiting) == 0
        place.touch()
        assert scores_of(waiting) == [Score.of(1.0)]


def test_several_environments_that_wait_share_a_process_and_the_others_have_theirs(tmp_path):
    names, place = ("one", "two", "three"), tmp_path / "now"
    with scorer_of(*map(obedient, names), QUICK, timeout_s=60.0) as scorer:
        for _ in range(4):  # it is learnt which they are
            scores_of([future for name in names for future in submitted(scorer, name, "napping")])
        waiting = [future for name in names for future in submitted(scorer, name, *[f"waiting {place}"] * 4)]
        for _ in range(5):  # turns of an episode, one after the other
            scores_of(submitted(scorer, "quick", *["noisy"] * 10))
        assert num_done(waiting) == 0
        place.touch()
        assert scores_of(waiting) == [Score.of(1.0)] * 12
        assert len(scorer._pool.pids()) == 2


def test_what_an_environment_imports_at_its_first_score_starts_no_other_process(monkeypatch):
    monkeypatch.setattr(scoring_process, "FIRST_SLOW_S", 60.0)  # a nap would be slow if it were not the first
    with scorer_of(QUICK) as scorer:
        scores_of(submitted(scorer, "quick", "napping", *["noisy"] * 20))
        assert len(scorer._pool.pids()) == 1


class PollWithoutTimeout:
    """Wakes up only when somebody speaks, as late as a busy machine may wake it."""

    def __init__(self):
        self._poll = select.poll()
        self.register = self._poll.register

    def poll(self, timeout_ms):
        return self._poll.poll()


def test_a_slow_reply_counts_as_slow_though_it_is_noticed_when_it_is_over(monkeypatch):
    late = SimpleNamespace(poll=PollWithoutTimeout, POLLIN=select.POLLIN, POLLOUT=select.POLLOUT)
    monkeypatch.setattr(scoring_pool, "select", late)
    with scorer_of(QUICK) as scorer:
        wait_until_quick(scorer, "quick")
        assert scores_of(submitted(scorer, "quick", "napping")) == [Score.of(1.0)]
        assert scorer._pool._slow["quick"] == 1


def test_a_number_of_processes_that_is_asked_for_is_kept():
    with scorer_of(obedient("slow"), QUICK, workers=1) as scorer:
        slow = submitted(scorer, "slow", "napping", "napping")
        assert scores_of(submitted(scorer, "quick", "noisy")) == expected("noisy")
        assert scores_of(slow) == [Score.of(1.0)] * 2
        assert len(scorer._pool.pids()) == 1


def test_a_second_process_that_does_not_start_is_done_without(monkeypatch, tmp_path):
    place = tmp_path / "now"
    with scorer_of(obedient("waiter"), QUICK, timeout_s=60.0) as scorer:
        wait_until_quick(scorer, "waiter")
        real = scorer._pool._start

        def start():
            process = real()
            process.leader.kill()
            place.touch()
            return process

        monkeypatch.setattr(scorer._pool, "_start", start)
        waiting = submitted(scorer, "waiter", f"waiting {place}", "napping")
        assert scores_of(submitted(scorer, "quick", "noisy")) == expected("noisy")
        assert scores_of(waiting) == [Score.of(1.0)] * 2
        assert len(scorer._pool.pids()) == 1


def test_what_hangs_in_a_second_process_is_killed_there_and_costs_one_score(tmp_path):
    place = tmp_path / "now"
    with scorer_of(obedient("waiter"), QUICK, timeout_s=600.0) as scorer:
        wait_until_quick(scorer, "waiter")
        hanging = submitted(scorer, "waiter", f"waiting {place}", "hanging", "noisy")
        pool = scorer._pool
        wait_until(lambda: len(pool._processes) == 2 and pool._processes[1].is_slow)
        place.touch()
        scores_of(hanging[:1])  # the first process may go on with what hangs: it was sent that too
        (number,) = (number for number, job in pool._jobs.items() if job.completions == ("hanging",))
        for process in pool._processes:
            if process.jobs and process.jobs[0].number == number:
                process.deadline = time.monotonic()  # its ten minutes are over
        assert scores_of(submitted(scorer, "quick", "noisy")) == expected("noisy")
        assert [score.reason for score in scores_of(hanging)] == [None, "timed out", None]


@pytest.mark.parametrize("have_it", [1, 2])
@pytest.mark.parametrize("num_late", [1, 10])
def test_an_environment_that_is_long_in_building_holds_none_that_is_not(tmp_path, have_it, num_late):
    place = tmp_path / "now"
    (tmp_path / "late.py").write_text(
        "import os, time\nfrom tests.environments import fakes\n"
        "def create(name):\n"
        f"    while os.getpid() != {os.getpid()} and not os.path.exists({str(place)!r}): time.sleep(0.01)\n"
        "    return fakes.create(name, character='obedient')\n"
    )
    late = EnvironmentSource("late", f"{tmp_path / 'late.py'}:create")

    def processes():
        return list(scorer._pool._processes)

    with scorer_of(late, QUICK, workers=2, timeout_s=60.0) as scorer:
        first = [tmp_path / str(index) for index in range(have_it)]
        begun = submitted(scorer, "quick", *[f"waiting {one}" for one in first])
        wait_until(lambda: [one.built for one in processes()] == [["quick"]] * have_it)
        for one in first:
            one.touch()
        assert scores_of(begun) == [Score.of(1.0)] * have_it
        behind = submitted(scorer, "late", *["noisy"] * num_late)
        wait_until(lambda: any("late" in one.built for one in processes()))
        assert scores_of(submitted(scorer, "quick", *["noisy"] * 20)) == expected(*["noisy"] * 20)
        assert num_done(behind) == 0
        place.touch()
        assert all(score.reason is None for score in scores_of(behind))


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
