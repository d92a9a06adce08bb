"""An episode that is kept takes each step once, and says what it would say if it were replayed."""

import os
import random
import select
import signal
import time

import numpy as np
import pytest

from environments import EnvironmentSource, Score, Scorer, ScoringJob, ScoringOptions
from environments.scoring import kept_episodes, worker
from environments.scoring.jobs import play
from environments.scoring.kept_episodes import KeptEpisodes
from environments.surroundings import GeneratorWatch, generator_states
from tests.environments.counted import HELD_BYTES, HELD_FILES

NUM_TURNS = 6


@pytest.fixture
def path(tmp_path):
    return tmp_path / "steps"


def source_of(path, **options):
    return EnvironmentSource("counted", "tests.environments.counted:create", {"path": str(path), **options})


def scorer_of(path, *, in_process=False, workers=1, memory_gib=2, **options):
    source = source_of(path, in_process=in_process, **options)
    return Scorer([source], {"counted": source.create()}, ScoringOptions(workers=workers, memory_gib=memory_gib))


def num_steps(path):
    num = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    return num


def jobs_of(path, turn, num=3, words="abcdefgh", named=True):
    """Ask for a turn, counted from 1, of several episodes."""
    tasks = [source_of(path).create().task("all", index) for index in range(num)]
    return [ScoringJob(task, tuple(words[:turn]), f"{task.index}" if named else "") for task in tasks]


def replayed(path, turn, num=3, **options):
    return [play(source_of(path, **options).create(), job) for job in jobs_of(path, turn, num, named=False)]


@pytest.mark.parametrize("in_process", [True, False])
def test_an_episode_takes_each_step_once(path, in_process):
    with scorer_of(path, in_process=in_process) as scorer:
        turns = [scorer.turns(jobs_of(path, turn)) for turn in range(1, NUM_TURNS + 1)]
    assert num_steps(path) == 3 * NUM_TURNS
    assert turns == [replayed(path, turn) for turn in range(1, NUM_TURNS + 1)]


@pytest.mark.parametrize("in_process", [True, False])
def test_one_that_is_cut_off_is_let_go(path, in_process):
    with scorer_of(path, in_process=in_process) as scorer:
        scorer.turns(jobs_of(path, 2))
        scorer.end(jobs_of(path, 2)[:1])
        num_steps(path)
        scorer.turns(jobs_of(path, 3))
    assert num_steps(path) == 3 + 1 + 1, "the first is replayed"


def test_what_episodes_hold_goes_with_them_as_they_are_cut_off_and_at_the_end(path):
    def folders():
        return [one for one in path.parent.iterdir() if one.is_dir()]

    with scorer_of(path, workers=2, way="holding a folder") as scorer:
        scorer.turns(jobs_of(path, 1, 8))
        assert len(folders()) == 8
        scorer.end(jobs_of(path, 1, 5))
        until = time.monotonic() + 30
        while len(folders()) > 3 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(folders()) == 3
    assert not folders()


def test_each_of_several_processes_takes_a_step_once_at_the_most(path):
    with scorer_of(path, workers=2) as scorer:
        turns = [scorer.turns(jobs_of(path, turn)) for turn in range(1, NUM_TURNS + 1)]
    assert num_steps(path) <= 2 * 3 * NUM_TURNS
    assert turns == [replayed(path, turn) for turn in range(1, NUM_TURNS + 1)]


def test_an_episode_that_is_submitted_by_itself_takes_each_step_once(path):
    with scorer_of(path) as scorer:
        for turn in range(1, NUM_TURNS + 1):
            assert not any(scorer.submit(job).result(30).done for job in jobs_of(path, turn))
    assert num_steps(path) == 3 * NUM_TURNS


@pytest.mark.parametrize("way", ["still", "seeded", "seeded in each step"])
@pytest.mark.parametrize("same", [False, True])
def test_the_numbers_are_those_of_replaying_whoever_plays_beside(path, way, same):
    """Also of samples of one task, whose episodes seed alike and leave the generators alike."""
    environment, kept = source_of(path, way=way).create(), KeptEpisodes()

    def seen(named):
        for turn in range(1, NUM_TURNS + 1):
            for number, job in enumerate(jobs_of(path, turn)):
                task = environment.task("all", 0) if same else job.task
                yield play(environment, ScoringJob(task, job.completions, f"{number}" if named else ""), kept)

    assert list(seen(named=True)) == list(seen(named=False))
    assert (len(kept) > 0) == (way == "still")


@pytest.mark.parametrize("way", ["late", "unseeded"])
def test_what_is_drawn_without_a_seed_is_another_number_each_time(path, way):
    environment, kept = source_of(path, way=way).create(), KeptEpisodes()
    turns = [play(environment, job, kept) for turn in range(1, NUM_TURNS + 1) for job in jobs_of(path, turn)]
    drawn = [turn.messages[0]["content"].partition("] ")[2] for turn in turns]
    assert len(set(drawn) - {"[]"}) == sum(one != "[]" for one in drawn) > NUM_TURNS


def test_generators_that_nobody_uses_stay_as_they_are(path):
    environment, kept = source_of(path).create(), KeptEpisodes()
    before = generator_states()
    for turn in range(1, NUM_TURNS + 1):
        for job in jobs_of(path, turn):
            play(environment, job, kept)
    assert generator_states() == before


def test_use_of_the_generators_is_noticed_though_they_end_where_they_began():
    torch = pytest.importorskip("torch")
    uses = {
        "random": lambda: (random.seed(5), random.random()),
        "gauss": lambda: random.gauss(0, 1),
        "numpy.random": lambda: (np.random.seed(5), np.random.normal()),
        "torch": lambda: (torch.manual_seed(5), torch.rand(1)),
        "only seeded": lambda: random.seed(5),
        "none": lambda: None,
    }
    for _ in range(2):
        for name, use in uses.items():
            with GeneratorWatch() as generators:
                use()
            assert generators.was_used == (name != "none"), name


@pytest.mark.parametrize("way", ["still", "seeded"])
def test_a_process_that_is_killed_in_mid_game_costs_the_steps_once_more(path, way):
    with scorer_of(path, way=way) as scorer:
        for turn in (1, 2, 3):
            scorer.turns(jobs_of(path, turn))
        num_steps(path)
        for process in scorer._pool._processes:
            os.kill(process.leader.pid, signal.SIGKILL)
            assert select.select([process], [], [], 30)[0], "what it leads ends after it, and hangs up"
        for turn in (4, 5):
            assert scorer.turns(jobs_of(path, turn)) == replayed(path.with_name("others"), turn, way=way)
    if way == "still":
        assert num_steps(path) == 3 * (4 + 1)


def test_a_crash_in_mid_game_is_taken_once_more(path):
    words = ("a", "b", "crash", "c")
    with scorer_of(path) as scorer:
        turns = [scorer.turns(jobs_of(path, turn, 1, words))[0] for turn in (1, 2, 3, 4)]
    assert [turn.done for turn in turns] == [False] * 4
    assert turns[3].messages[0]["content"] == "['a', 'b', 'crash', 'c'] []"
    assert num_steps(path) == 2 + 1 + 3 + 1


def test_an_episode_goes_on_in_the_process_that_keeps_it_and_waits_for_none(path):
    with scorer_of(path, workers=2) as scorer:
        job, other = jobs_of(path, 1, 2)
        held = scorer.submit(ScoringJob(job.task, ("wait",), job.episode))  # by the first process
        while not path.exists():
            time.sleep(0.01)
        scorer.submit(other).result(30)
        path.with_suffix(".go").touch()
        held.result(30)
        for turn in (2, 3, 4):
            assert not scorer.submit(jobs_of(path, turn, 2)[1]).result(30).done
        assert num_steps(path) == 1 + 4
        path.with_suffix(".go").unlink()
        held = scorer.submit(ScoringJob(other.task, (*"abcd", "wait"), other.episode))  # by the second
        while not path.exists():
            time.sleep(0.01)
        assert not scorer.submit(ScoringJob(other.task, tuple("abcde"), other.episode)).result(30).done
        assert num_steps(path) == 1 + 5, "its process has no time for it"
        path.with_suffix(".go").touch()
        held.result(30)


def heard(kept, environment, *completions, index=0, name="one"):
    turn = play(environment, ScoringJob(environment.task("all", index), completions, name), kept)
    return turn.messages[0]["content"] if turn.messages else turn.score


def test_what_does_not_go_on_with_what_was_heard_is_replayed(path):
    environment, kept = source_of(path).create(), KeptEpisodes()
    heard(kept, environment, "a")
    assert heard(kept, environment, "a", "b") == "['a', 'b'] []"
    assert num_steps(path) == 2
    assert heard(kept, environment, "a", "b", "c", "d") == "['a', 'b', 'c', 'd'] []"
    assert num_steps(path) == 2, "those that were heard elsewhere"
    assert heard(kept, environment, "a", "x", "c", "d", "e") == "['a', 'x', 'c', 'd', 'e'] []"
    assert num_steps(path) == 5
    for again in ({}, {"index": 1}):
        assert heard(kept, environment, "a", "x", "c", "d", "e", **again) == "['a', 'x', 'c', 'd', 'e'] []"
        assert num_steps(path) == 5
    assert heard(kept, environment, "a", "x", "c", "d", "e", "f") == "['a', 'x', 'c', 'd', 'e', 'f'] []"
    assert num_steps(path) == 6, "the task is another"
    heard(kept, source_of(path).create(), *"axcdefg")
    assert num_steps(path) == 7, "the environment is built anew"
    for _ in range(2):
        heard(kept, environment, "a", "b", name="")
        assert num_steps(path) == 2, "it has no name"


@pytest.mark.parametrize("last", ["end", "raise"])
def test_what_is_over_is_forgotten(path, last):
    environment, kept = source_of(path).create(), KeptEpisodes()
    heard(kept, environment, "a")
    assert len(kept) == 1
    for _ in range(2):
        score = heard(kept, environment, "a", last)
        assert score == Score.of(1.0, heard=2.0) if last == "end" else score.reason.startswith("raised ValueError")
        assert len(kept) == 0
    assert num_steps(path) == 1 + 1 + 2


def test_the_longest_not_asked_for_is_forgotten_first(path, monkeypatch):
    monkeypatch.setattr(kept_episodes, "MOST_KEPT", 2)
    environment, kept = source_of(path).create(), KeptEpisodes()
    for name, completions in (("one", "a"), ("two", "a"), ("one", "ab"), ("three", "a")):
        heard(kept, environment, *completions, name=name)
    assert len(kept) == 2
    assert num_steps(path) == 4
    for name, completions, num in (("one", "abc", 1), ("three", "ab", 1), ("two", "ab", 2)):
        heard(kept, environment, *completions, name=name)
        assert num_steps(path) == num


def test_another_batch_and_the_end_forget_all(path):
    with scorer_of(path, in_process=True) as scorer:
        for forget in (scorer.next_batch, scorer.close):
            scorer.turns(jobs_of(path, 1))
            assert len(scorer._kept) == 3
            forget()
            assert len(scorer._kept) == 0


@pytest.mark.parametrize("way", ["holding memory", "holding files"])
def test_what_is_kept_takes_nothing_from_a_score(path, way):
    """All of them together hold more than a process may: some are forgotten, and none goes without a turn."""
    num, memory_gib = 40, 0.5
    most = worker.MAX_OPEN_FILES / HELD_FILES if way == "holding files" else memory_gib * 2**30 / HELD_BYTES
    assert num > (1 + worker.KEPT_SHARE) * most
    with scorer_of(path, way=way, memory_gib=memory_gib) as scorer:
        for turn in (1, 2, 3):
            assert not any(played.done for played in scorer.turns(jobs_of(path, turn, num)))
