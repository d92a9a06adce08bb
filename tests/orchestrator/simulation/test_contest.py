"""Trials in processes: the same whatever their number."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

from orchestrator.errors import UserError
from orchestrator.simulation.candidates import pair_up, read_named
from orchestrator.simulation.ranking import TrialJob, rank, run_all
from orchestrator.simulation.trials import TrialSetting
from orchestrator.simulation.worlds import find_world

SETTING = TrialSetting(10)


def test_the_result_does_not_depend_on_the_number_of_workers() -> None:
    entrants = pair_up(read_named(["uniform", "sec"], "bandit"), [])
    jobs = [TrialJob("traps", one, seed, SETTING) for one in entrants for seed in range(2)]
    told: list[tuple[int, int]] = []
    alone = run_all(jobs, 1)
    together = run_all(jobs, 2, lambda done, of: told.append((done, of)))
    assert [one.numbers for one in alone] == [one.numbers for one in together]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    ranking = rank(find_world("traps"), SETTING, range(2), entrants, alone, "uniform")
    assert [len(trials) for trials in ranking.trials.values()] == [2, 2]


def test_what_a_bandit_refuses_in_another_process_comes_back_in_words() -> None:
    (size,) = pair_up(read_named(["size"], "bandit"), [])
    jobs = [TrialJob("traps", size, seed, SETTING) for seed in range(3)]
    with pytest.raises(UserError, match="size: "):
        run_all(jobs, 2)


def test_who_is_interrupted_leaves_neither_processes_nor_threads() -> None:
    (sec,) = pair_up(read_named(["sec"], "bandit"), [])
    jobs = [TrialJob("traps", sec, seed, SETTING) for seed in range(20)]
    threads, processes = set(threading.enumerate()), set(multiprocessing.active_children())

    def interrupt(_done: int, _of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(jobs, 2, interrupt)
    assert set(threading.enumerate()) <= threads
    assert set(multiprocessing.active_children()) <= processes
