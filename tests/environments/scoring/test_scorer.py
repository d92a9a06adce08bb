import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from pydantic import ValidationError

from environments import EnvironmentFault, EnvironmentSource, Score, Scorer, ScoringJob, ScoringOptions, Task
from environments.contracts import LazyTask
from environments.scoring import process
from tests.environments import fakes
from tests.environments import flaky as flakes
from tests.environments.fakes import TURN_S
from tests.shares import slow
from tests.source_lines import place

FAKES = "tests.environments.fakes:create"
TIMEOUT_S = 0.6
RAISED = "raised ValueError: cannot read this" + place(fakes._raising)
AWAY = place(flakes.Flaky.score)
TOO_MUCH = "bad value: float above 1; a value lies in 0..1"


def scorer_of(*sources, **options):
    environments = {source.name: source.create() for source in sources}
    return Scorer(sources, environments, ScoringOptions(**{"workers": 1, "timeout_s": TIMEOUT_S, **options}))


def jobs_of(source, *completions):
    environment = source.create()
    category = environment.categories[0].name
    return [ScoringJob(environment.task(category, i), (completion,)) for i, completion in enumerate(completions)]


OBEDIENT = EnvironmentSource("obedient", FAKES, {"character": "obedient"})
PATIENT = EnvironmentSource("patient", FAKES, {"character": "many_turns"})
SLOW_TURNS = EnvironmentSource("slow", FAKES, {"character": "slow_turns"})
TRUSTED = EnvironmentSource("trusted", FAKES, {"in_process": True})


@pytest.fixture(scope="module")
def scorer():
    with scorer_of(OBEDIENT, PATIENT, SLOW_TURNS, TRUSTED) as made:
        made.turns(jobs_of(OBEDIENT, "hopeless"))  # the processes have started
        yield made


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("hanging", "timed out"),
        ("stuck_in_c", "timed out"),
        ("crashing", "crashed"),
        ("greedy", "out of memory"),
        ("raising", RAISED),
        ("exiting", "raised SystemExit: enough" + place(fakes._exiting, "sys.exit")),
        ("wrong_valued", TOO_MUCH),
        ("not_a_score", "bad value: the score is a float, not an environments.Score"),
        ("long_winded", f"\\x1b[2J \\u202eno\\x00 {'x' * 479}... (999,521 more characters)"),
    ],
)
def test_trouble_costs_one_score_and_little_time(scorer, trouble, reason):
    start = time.monotonic()
    scores = [turn.score for turn in scorer.turns(jobs_of(OBEDIENT, "noisy", trouble, "noisy"))]
    assert time.monotonic() - start < TIMEOUT_S + 2
    assert scores[1] == Score.unscorable(reason)
    assert all(score is not None and score.value is not None for score in (scores[0], scores[2]))


def test_a_batch_wholly_unscorable_comes_back_in_order(scorer):
    turns = scorer.turns(jobs_of(OBEDIENT, "raising", "greedy", "crashing", "hanging", "wrong_valued"))
    reasons = [turn.score.reason for turn in turns if turn.score is not None]
    assert reasons == [
        RAISED, "out of memory", "crashed", "timed out", TOO_MUCH,
    ]  # fmt: skip
    assert all(turn.done and turn.score.value is None for turn in turns if turn.score is not None)


def test_many_scores_keep_their_order():
    here = OBEDIENT.create()
    jobs = jobs_of(OBEDIENT, *["noisy"] * 500)
    with scorer_of(OBEDIENT, timeout_s=30) as scorer:  # one of its own: rows that hung before would shorten the limit
        assert [turn.score for turn in scorer.turns(jobs)] == [here.score(job.task, "noisy") for job in jobs]


def test_environments_in_and_out_of_the_trainer_mix(scorer):
    mixed = [job for pair in zip(jobs_of(TRUSTED, "0", "0"), jobs_of(OBEDIENT, "hopeless", "hanging"), strict=True)
             for job in pair]  # fmt: skip
    scores = [turn.score for turn in scorer.turns(mixed)]
    assert scores == [Score.of(1.0), Score.of(0.0), Score.of(0.0), Score.unscorable("timed out")]


@pytest.mark.slow
def test_rows_that_hang_cost_a_few_limits_and_sound_rows_beside_them_have_their_scores():
    """Six hanging rows cost 1 + 1/2 + ... + 1/6 limits on one process, which is 2.45, and not six."""
    limit_s = 1.0
    with Scorer([OBEDIENT], {"obedient": OBEDIENT.create()}, ScoringOptions(workers=1, timeout_s=limit_s)) as scorer:
        scorer.turns(jobs_of(OBEDIENT, "hopeless"))  # the process is there
        shares, real = [], scorer._pool._share_of_limit
        scorer._pool._share_of_limit = lambda name: shares.append(real(name)) or shares[-1]
        words = ["hanging", "hopeless"] * 6
        reasons = [turn.score.reason for turn in scorer.turns(jobs_of(OBEDIENT, *words))]
        assert reasons == ["timed out", None] * 6
        assert shares[0] == 1
        assert sorted({*shares}, reverse=True)[:6] == [1 / n for n in range(1, 7)]
        shares.clear()
        scorer.turns(jobs_of(OBEDIENT, "hopeless"))
        assert shares == [1 / 4], "half of them count in the next batch"
        for _ in range(4):
            scorer.turns(jobs_of(OBEDIENT, "hopeless"))
        assert shares[-1] == 1, "and then none"


def together(scorer, jobs):
    return [turn.score.reason for turn in scorer.turns(jobs)]


def one_by_one(scorer, jobs):
    scorer.next_batch()
    return [turn.result().score.reason for turn in [scorer.submit(job) for job in jobs]]


@pytest.mark.parametrize("played", [together, one_by_one])
@pytest.mark.parametrize(
    ("way", "failures", "batches"),
    [
        ("connection", 3, [[None, None, None]]),
        ("connection", 6, [["raised ConnectionResetError: the judge is away" + AWAY] * 3, [None, None, None]]),
        slow(("crash", 1, [[None, None, None]])),
        slow(("crash", 2, [[None, "crashed", None]])),
        slow(("crash", 3, [[None, "crashed", "crashed"]])),
        slow(("crash", 4, [["crashed"] * 3])),
        ("crash", 6, [["crashed"] * 3, [None, "crashed", None]]),
        ("value", 1, [["raised ValueError: the judge is away" + AWAY, None, None]]),
    ],
)
def test_what_failed_for_a_cause_that_may_pass_is_tried_once_more(tmp_path, played, way, failures, batches):
    options = {"path": str(tmp_path / "failures"), "failures": failures, "way": way}
    flaky = EnvironmentSource("flaky", "tests.environments.flaky:create", options)
    with scorer_of(flaky, timeout_s=5) as scorer:
        assert [played(scorer, jobs_of(flaky, "a", "b", "c")) for _ in batches] == batches


def test_what_is_played_in_the_trainer_is_tried_once_more_by_whoever_asks(monkeypatch):
    """And by no other thread: games beside each other would draw from the same global generators."""
    environment, threads, pauses = OBEDIENT.create(), [], []

    def score(task, reply):
        threads.append(threading.get_ident())
        raise ConnectionResetError("away")

    monkeypatch.setattr(environment, "score", score)
    monkeypatch.setattr("environments.scoring.scorer.time.sleep", pauses.append)
    with Scorer([OBEDIENT], {"obedient": environment}, ScoringOptions(isolation="none")) as scorer:
        jobs = jobs_of(OBEDIENT, *["a"] * 20)
        reasons = one_by_one(scorer, jobs)
        assert all(reason.startswith("raised ConnectionResetError: away") for reason in reasons)
        assert threads == [threading.get_ident()] * 40
        assert pauses == [0.5] * 10 + [0] * 10, "all else waits meanwhile"


def test_an_episode_of_many_turns_is_rebuilt_in_a_worker(scorer):
    task = PATIENT.create().task("easy", 0)
    turns = scorer.turns([ScoringJob(task, ("a",)), ScoringJob(task, ("a", "b")), ScoringJob(task, ("a", "b", "c"))])
    assert [turn.done for turn in turns] == [False, False, True]
    assert turns[1].messages == ({"role": "user", "content": "not yet, b"},)
    assert turns[2].score == Score.of(1.0, turns=3.0)


def test_every_turn_has_the_time_limit_to_itself(scorer):
    task = SLOW_TURNS.create().task("easy", 0)
    assert TIMEOUT_S < 3 * TURN_S < 2 * TIMEOUT_S
    jobs = [ScoringJob(task, ("a", "b", "c")), ScoringJob(task, ("a", "endless"))]
    assert [turn.score for turn in scorer.turns(jobs)] == [
        Score.of(1.0, turns=3.0),
        Score.unscorable("timed out"),
    ]


def test_a_worker_killed_from_outside_is_replaced(scorer):
    for worker in scorer._pool.pids():
        os.kill(worker, signal.SIGKILL)
    scores = [turn.score for turn in scorer.turns(jobs_of(OBEDIENT, "hopeless", "hopeless"))]
    assert scores == [Score.of(0.0)] * 2


def test_isolation_follows_the_environment_unless_told():
    for isolation, trusted, other in (
        ("auto", False, True),
        ("process", True, True),
        ("none", False, False),
    ):
        scorer = scorer_of(TRUSTED, OBEDIENT, isolation=isolation)
        assert (scorer.isolates("trusted"), scorer.isolates("obedient")) == (trusted, other)


def test_no_process_is_started_for_scores_that_need_none():
    with scorer_of(TRUSTED, OBEDIENT) as scorer:
        assert scorer.turns([]) == []
        assert [turn.score for turn in scorer.turns(jobs_of(TRUSTED, "0"))] == [Score.of(1.0)]
        assert scorer._pool.pids() == []


def test_without_isolation_failures_are_told_apart_too():
    with scorer_of(OBEDIENT, isolation="none") as scorer:
        scores = [turn.score for turn in scorer.turns(jobs_of(OBEDIENT, "raising", "wrong_valued", "hopeless"))]
    assert scores == [
        Score.unscorable(RAISED), Score.unscorable(TOO_MUCH), Score.of(0.0),
    ]  # fmt: skip


def test_an_environment_that_cannot_be_built_in_a_worker_is_a_fault_that_says_why():
    broken = EnvironmentSource("trusted", FAKES, {"character": "slow", "nonsense": 1})
    environments = {"trusted": OBEDIENT.create()}
    with (
        Scorer([broken], environments, ScoringOptions(workers=1)) as scorer,
        pytest.raises(EnvironmentFault, match=r"trusted cannot be built in a scoring process: .*nonsense"),
    ):
        scorer.turns(jobs_of(EnvironmentSource("trusted", FAKES), "0"))


LAZY = {"environment": "obedient", "category": "easy", "index": 7, "messages": (), "data": {}}


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (Task("obedient", "easy", 7, (), data={"check": lambda reply: True}), "PicklingError: Can't pickle "),
        (LazyTask("key", lambda: 1 / 0, **LAZY), "ZeroDivisionError: "),
    ],
)
def test_a_task_that_cannot_be_sent_is_a_fault_that_names_it(scorer, task, told):
    with pytest.raises(
        EnvironmentFault, match=rf"obedient: task\('easy', 7\) cannot be sent to a scoring process: {told}.*; keep"
    ):
        scorer.turns([ScoringJob(task, ("hopeless",))])
    assert scorer.turns(jobs_of(OBEDIENT, "hopeless"))[0].score == Score.of(0.0)


def test_an_interrupt_does_not_wait_for_what_hangs():
    scorer = scorer_of(OBEDIENT, timeout_s=60)
    scorer.turns(jobs_of(OBEDIENT, "hopeless"))
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    was_heard, sent_at = threading.Event(), []

    def interrupt() -> None:
        """Again, as Python drops an exception that is raised in a callback of its garbage collector."""
        while not was_heard.wait(5 if sent_at else 0.2):
            sent_at.append(time.monotonic())
            signal.pthread_kill(main_thread, signal.SIGINT)

    def play() -> None:
        threading.Thread(target=interrupt).start()
        scorer.turns(jobs)

    jobs = jobs_of(OBEDIENT, *["hanging"] * 300)
    with pytest.raises(KeyboardInterrupt):
        play()
    was_heard.set()
    assert time.monotonic() - sent_at[-1] < 5
    assert scorer._pool.pids() == []


def test_a_worker_is_replaced_after_many_jobs(monkeypatch):
    monkeypatch.setattr(process, "MAX_JOBS", 3)
    with scorer_of(OBEDIENT) as scorer:
        turns = scorer.turns(jobs_of(OBEDIENT, *["noisy"] * 4))
        (second,) = scorer._pool.pids()
        scorer.turns(jobs_of(OBEDIENT, *["noisy"] * 4))
        assert scorer._pool.pids() != [second]
    assert all(turn.score is not None and turn.score.value is not None for turn in turns)


def test_quick_scores_that_were_sent_ahead_survive_one_that_hangs(scorer):
    completions = ["noisy"] * 50 + ["hanging", "crashing"] + ["noisy"] * 50
    here = OBEDIENT.create()
    jobs = jobs_of(OBEDIENT, *completions)
    scores = [turn.score for turn in scorer.turns(jobs)]
    assert scores[50:52] == [Score.unscorable("timed out"), Score.unscorable("crashed")]
    good = [*range(50), *range(52, 102)]
    assert [scores[i] for i in good] == [here.score(jobs[i].task, "noisy") for i in good]


def test_one_that_answers_what_is_no_answer_has_crashed(scorer):
    scores = [turn.score for turn in scorer.turns(jobs_of(OBEDIENT, "noisy", "lying", "noisy"))]
    assert scores[1] == Score.unscorable("crashed")
    assert all(score is not None and score.value is not None for score in (scores[0], scores[2]))


def test_reasoning_gyms_evaluating_verifiers_are_survived():
    pytest.importorskip("reasoning_gym")
    integrals = EnvironmentSource("integrals", "reasoning_gym", {"dataset": "simple_integration"})
    task = integrals.create().task("default", 0)
    assert task.answer is not None
    with scorer_of(integrals) as scorer:
        right, endless = scorer.turns([ScoringJob(task, (task.answer,)), ScoringJob(task, ("9**9**9",))])
    assert right.score == Score.of(1.0)
    assert endless.score == Score.unscorable("timed out")


@pytest.mark.parametrize("options", [{"isolation": "maybe"}, {"timeout_s": 0}, {"workers": 0}, {"limit": 3}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValidationError):
        ScoringOptions(**options)


def test_one_that_hangs_holds_none_that_is_submitted_later():
    with scorer_of(OBEDIENT, SLOW_TURNS, workers=2, timeout_s=1.5) as scorer:
        scorer.turns(jobs_of(SLOW_TURNS, "a", "b", "c", "d"))  # both processes are there, and get a job at a time
        hanging, *others = [scorer.submit(job) for job in jobs_of(OBEDIENT, "hanging", "noisy", "noisy")]
        assert all(other.result(timeout=1).score.value is not None for other in others)
        assert not hanging.done()
        assert hanging.result().score == Score.unscorable("timed out")


def test_closing_gives_up_what_is_under_way():
    with scorer_of(OBEDIENT, timeout_s=60) as scorer:
        scorer.turns(jobs_of(OBEDIENT, "hopeless"))
        (job,) = jobs_of(OBEDIENT, "hanging")
        under_way = scorer.submit(job)
        start = time.monotonic()
        scorer.close()
        assert under_way.cancelled()
        assert time.monotonic() - start < 10
        assert scorer.turns(jobs_of(OBEDIENT, "hopeless"))[0].score.value is not None


def test_closing_gives_up_what_waits_for_another_try():
    with scorer_of(OBEDIENT) as scorer:
        under_way = scorer.submit(*jobs_of(OBEDIENT, "crashing"))
        while not scorer._pauses:
            assert not under_way.done()
            time.sleep(0.01)
        (pause,) = scorer._pauses
        scorer.close()
        assert under_way.cancelled()
        pause.function()  # its time was over as it was cancelled
        assert scorer._pool._thread is None, "nothing is begun anew"


def test_a_process_builds_an_environment_before_its_first_job_and_outside_its_limit(tmp_path):
    (tmp_path / "marked.py").write_text(
        "import os, time\nfrom pathlib import Path\nfrom tests.environments import fakes\n"
        "def create(name, character='obedient'):\n"
        f"    if os.getpid() != {os.getpid()}:\n"
        f"        with Path({str(tmp_path / 'built')!r}).open('a') as file: file.write(name + '\\n')\n"
        f"        time.sleep({TIMEOUT_S + 0.3})\n"
        "    return fakes.create(name, character=character)\n"
    )
    one, other = (EnvironmentSource(name, f"{tmp_path / 'marked.py'}:create") for name in ("one", "other"))
    with scorer_of(one, other) as scorer:
        for source in (other, other):
            assert [turn.score for turn in scorer.turns(jobs_of(source, "hopeless"))] == [Score.of(0.0)]
        assert (tmp_path / "built").read_text().split() == ["other"]
        both = [jobs_of(source, *["hopeless"] * 6) for source in (one, other)]
        mixed = [job for pair in zip(*both, strict=True) for job in pair]
        assert [turn.score for turn in scorer.turns(mixed)] == [Score.of(0.0)] * 12
        assert (tmp_path / "built").read_text().split() == ["other", "one"]
        assert len(scorer._pool.pids()) == 1


def test_after_a_build_a_score_still_has_its_limits():
    with scorer_of(OBEDIENT, PATIENT) as scorer:
        scorer.turns([*jobs_of(OBEDIENT, "hopeless"), *jobs_of(PATIENT, "hopeless")])
        scores = [turn.score for turn in scorer.turns(jobs_of(OBEDIENT, "greedy", "hanging", "hopeless"))]
    assert scores == [Score.unscorable("out of memory"), Score.unscorable("timed out"), Score.of(0.0)]


def test_who_scores_without_servers_loads_no_client_of_theirs() -> None:
    code = "import sys, environments.scoring.scorer; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
