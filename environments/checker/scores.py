"""Checks of scores: their form, that they are the same twice and elsewhere, and what they are for which reply.

Every reply is scored in a scoring process first, where it can be cut off; only one that came back from there is
scored in this process too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from statistics import median

import numpy as np

from environments.checker import fingerprints, score_expectations
from environments.checker.completions import REFERENCE, TrialReply, trials
from environments.checker.context import CheckContext
from environments.checker.findings import shown
from environments.contracts import Score, Turn
from environments.scoring import ScoringJob
from environments.scoring.jobs import play

CHUNK = 4  # replies sent at a time; the first of each kind goes alone
MOST_CUT_OFF = 4  # replies that were cut off or crashed, after which no more are tried
END_S = 5.0  # for ending a process that was cut off and starting another
SLOW_MS = 10.0  # in process: 256 samples a step, one after the other
LIMIT_SHARE = 20  # a score should take this many times less than its limit

# How a score that was not found is called, by the rule that it breaks.
TROUBLE = {
    "timed out": ("score-hangs", "is not scored within the limit"),
    "crashed": ("score-crashes", "ends the scoring process"),
    "out of memory": ("score-crashes", "takes more memory than a score may"),
}


def check_scores(bench: CheckContext) -> None:
    """Try replies in every category."""
    round_ = _Round(bench)
    for category, tasks in bench.tasks.items():
        before = fingerprints.fingerprint([fingerprints.of_task(task) for task in tasks])
        is_spent = bench.budget()
        waiting = trials(tasks)
        while waiting and not is_spent() and round_.num_cut_off < MOST_CUT_OFF:
            size = round_.size_of_chunk(waiting)
            round_.play(waiting[:size])
            waiting = waiting[size:]
        score_expectations.judge(bench, category, round_.take())
        if fingerprints.fingerprint([fingerprints.of_task(task) for task in tasks]) != before:
            bench.find("score-changes-task", "scoring changes the task", category)
    round_.judge_time()


@dataclass
class _Round:
    """The scores of one environment, as they come in."""

    bench: CheckContext
    num_cut_off: int = 0

    def __post_init__(self) -> None:
        self._tried: set[str] = set()  # kinds of reply
        self._stuck: set[str] = set()  # kinds of reply that were cut off; once is enough
        self._seconds: list[float] = []
        self._results: list[tuple[TrialReply, Score]] = []
        self._is_warm = False

    def size_of_chunk(self, waiting: Sequence[TrialReply]) -> int:
        """Say how many replies to send next."""
        new = [number for number, trial in enumerate(waiting[:CHUNK]) if trial.kind not in self._tried]
        return max(1, min([CHUNK, *new]))

    def play(self, chunk: Sequence[TrialReply]) -> None:
        """Score some replies elsewhere, and those that came back here."""
        self._tried |= {trial.kind for trial in chunk}
        chunk = [trial for trial in chunk if trial.kind not in self._stuck]
        for trial, turn in zip(chunk, self._elsewhere(chunk), strict=True):
            if turn.score is not None and turn.score.reason in TROUBLE:
                self.num_cut_off += 1
                self._stuck.add(trial.kind)
                rule, words = TROUBLE[turn.score.reason]
                self._find(rule, words, trial)
                continue
            self._here(trial, turn)
            if turn.score is not None and turn.done:  # else the episode goes on: see the check of episodes
                self._results.append((trial, turn.score))

    def take(self) -> list[tuple[TrialReply, Score]]:
        """Hand over the scores found since the last time."""
        results, self._results = self._results, []
        return results

    def judge_time(self) -> None:
        """Say how long a score takes, and whether that is too long."""
        if not self._seconds:
            return
        ms = median(self._seconds) * 1000
        self.bench.facts["score_ms"] = ms
        timeout_ms = self.bench.limits.scoring.timeout_s * 1000
        if self.bench.environment.scores_in_process and ms > SLOW_MS:
            self.bench.find(
                "score-slow", f"scoring in process takes {ms:.0f} ms a reply, and the trainer waits"
            )
        elif not self.bench.environment.scores_in_process and ms > timeout_ms / LIMIT_SHARE:
            self.bench.find(
                "score-near-limit", f"a score takes {ms:.0f} ms, its limit is {timeout_ms:.0f} ms"
            )

    def _elsewhere(self, chunk: Sequence[TrialReply]) -> list[Turn]:
        """Score in a scoring process; measure whether what hangs is cut off in time."""
        if not chunk:
            return []
        self.bench.at(
            f"{chunk[0].kind} to task {chunk[0].task.index} of category {shown(chunk[0].task.category)}"
        )
        begun_at = time.monotonic()
        turns = self.bench.score_elsewhere([ScoringJob(trial.task, (trial.completion,)) for trial in chunk])
        allowed = len(chunk) * (self.bench.limits.scoring.timeout_s + END_S)
        if self._is_warm and time.monotonic() - begun_at > allowed:
            self._find("cut-off", f"took longer than {allowed:.0f} s to be cut off", chunk[0])
        self._is_warm = True
        return turns

    def _here(self, trial: TrialReply, elsewhere: Turn) -> None:
        """Score in this process, look at the score as it was returned, and compare."""
        self.bench.at(f"{trial.kind} to task {trial.task.index} of category {shown(trial.task.category)}")
        job = ScoringJob(trial.task, (trial.completion,))
        begun_at = time.monotonic()
        first = play(self.bench.environment, job)
        if trial.kind == REFERENCE:
            self._seconds.append(time.monotonic() - begun_at)
        again = play(self.bench.environment, job)
        if repr(first) != repr(again):
            self._find("score-same", f"scored twice: {_told(first)}, then {_told(again)}", trial)
        elif repr(first) != repr(elsewhere):
            words = f"scores {_told(first)} in this process, {_told(elsewhere)} in a scoring process"
            self._find("score-elsewhere", words, trial)
        if first.score is None or not str(first.score.reason).startswith("raised "):
            for fault in form_faults(self.bench.environment.start(trial.task).step(trial.completion)):
                self._find("score-form", fault, trial)

    def _find(self, rule: str, words: str, trial: TrialReply) -> None:
        score_expectations.find(self.bench, rule, words, trial)


def _told(turn: Turn) -> str:
    if turn.score is None:
        return f"no score but {shown(turn.messages[-1]['content'] if turn.messages else '')}"
    return f"{turn.score.value:.6g}" if turn.score.value is not None else shown(turn.score.reason)


def form_faults(turn: object) -> Iterator[str]:
    """Say what is wrong with a turn as the environment returned it."""
    if not isinstance(turn, Turn):
        yield f"step() returns {shown(type(turn).__name__)}, not an environments.Turn"
    elif turn.score is None:
        if turn.done:
            yield "the episode ends without a score"
    elif not isinstance(turn.score, Score):
        yield f"the score is {shown(type(turn.score).__name__)}, not an environments.Score"
    elif turn.score.value is not None:
        yield from _value_faults(turn.score)


def _value_faults(score: Score) -> Iterator[str]:
    value: object = score.value
    if not isinstance(value, Real) or isinstance(value, bool):
        yield f"the value is {shown(repr(value))}, not a number"
    elif not math.isfinite(value) or not 0 <= float(value) <= 1:
        yield f"the value is {value}, not in [0, 1]"
    if not isinstance(score.correct, bool | np.bool_):
        yield f"correct is {shown(repr(score.correct))}, not True or False"
    if not isinstance(score.components, Mapping):
        yield f"components are {shown(repr(score.components))}, not a map"
        return
    for name, part in score.components.items():
        if not isinstance(name, str) or not isinstance(part, Real) or not math.isfinite(part):
            yield f"the component {shown(name)} is {shown(repr(part))}, not a finite number"
