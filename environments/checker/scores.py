"""Checks of scores and episodes: their form, that they are the same twice and elsewhere, what which reply is worth.

The replies: the reference answer, nothing, wrong answers, and texts that break verifiers. Each is scored in a scoring
process first, where it can be cut off; only one that came back from there is scored in this process too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, count, cycle, islice
from numbers import Real
from statistics import median
from typing import cast

import numpy as np

from environments.checker.findings import CheckContext, Severity, error_text, quoted
from environments.checker.tasks import conversation_fault, message_fault, task_fingerprints
from environments.contracts import BAD_VALUE, CORRECT_AT, REPLYING, Episode, RemoteFault, Score, Task, Turn
from environments.display import clean
from environments.fingerprints import fingerprint
from environments.options import FRAMES
from environments.remote.replay import BlockingEpisode
from environments.scoring import ScoringJob
from environments.scoring.jobs import NO_REPLY, play
from environments.surroundings import forks_ended

REFERENCE, EMPTY, NOUGHT = "the reference answer", "an empty reply", "a bare 0"
OTHER, SEVERAL, PROMPT = "another task's answer", "several answers at once", "the prompt itself"

NUM_EMPTY, NUM_OTHER, NUM_SEVERAL, NUM_HOSTILE = 8, 16, 4, 2  # tasks of a category that are tried

# No right answer to anything, and each has broken a verifier somewhere: parsers, evaluators, regular expressions.
HOSTILE = {
    "white space": " \n\t ",
    "a NUL character": "\x00",
    "unicode": "\u202e\u0661\u0660\U0001f600e\u0301\ufffd",
    "a very long reply": "lorem ipsum " * 10_000,
    "a long number": "9" * 10_000,
    "a huge power": "9**9**9",
    "a tower of brackets": "(" * 5_000,
    "not a number": "nan",
    "an infinite number": "1e999",
    "an unclosed quote": "\"'`{[(<",
    "a null of JSON": "null",
    "a format field": "%s {0} {x.y} ${x} \\1",
}

NUM_EPISODES = 3  # of a category: tasks that are played
LEGAL_GAMES, LEGAL_TURNS = 8, 256  # of a category: games of legal answers, and most turns of one
REPLAYED_TURNS = 4  # of each of these, which are compared
MOST_TURNS = 32
UNSURE = "I do not know"

ALWAYS_TRIED = 3  # replies of a category, whatever time they take: a right one, an empty one and a wrong one
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

FORM = {BAD_VALUE: "has no score in form", "no score": "ends without a score"}

MOSTLY = 0.5  # share of other tasks' answers that are correct, beyond which scores do not depend on the task
MOST_FOR_NOTHING = 0.5  # a larger value for a reply without sense is worth more than honest attempts


@dataclass(frozen=True)
class TrialReply:
    """One reply to one task."""

    task: Task
    kind: str
    completion: str

    def __str__(self) -> str:
        return f"{self.kind} to task {self.task.index} of category {quoted(self.task.category)}"


def trials(tasks: Sequence[Task]) -> list[TrialReply]:
    """List what is tried in a category: everything with the first task, then with the next, as time allows."""
    tried = [TrialReply(task, REFERENCE, task.answer) for task in tasks if task.answer is not None]
    tried += [TrialReply(task, EMPTY, "") for task in tasks[:NUM_EMPTY]]
    answers = list(dict.fromkeys(task.answer for task in tasks if task.answer))
    texts: list[tuple[Task, str, str]] = []
    for number, task in enumerate(tasks[:NUM_OTHER]):
        texts.append((task, NOUGHT, "0"))
        wrong = [answer for answer in answers if not _is_answer(task, answer)]
        if task.answer is None or not wrong:
            continue
        tried.append(TrialReply(task, OTHER, wrong[number % len(wrong)]))  # what is right elsewhere, alone
        if number < NUM_SEVERAL:  # and around the right answer
            tried.append(TrialReply(task, SEVERAL, "\n".join([wrong[0], task.answer, wrong[-1]])))
    for task in tasks[:NUM_HOSTILE]:
        texts += [(task, kind, text) for kind, text in HOSTILE.items()]
        texts.append((task, PROMPT, task.messages[-1]["content"]))
    for task, kind, text in texts:
        if not _is_answer(task, text):
            answer = task.answer or ""  # whose marks are those between which the verifier looks, if it does
            frames = [one for one in FRAMES.values() if answer.startswith(one[0]) and answer.endswith(one[1])]
            begin, end = frames[0] if frames else ("", "")
            tried.append(TrialReply(task, kind, f"{begin}{text}{end}"))
    return sorted(tried, key=lambda trial: trial.task.index)


def _is_answer(task: Task, text: str) -> bool:
    return task.answer is not None and task.answer.strip().casefold() == text.strip().casefold()


def check_scores(context: CheckContext) -> None:
    """Try replies in every category."""
    round_ = _Round(context)
    for category, tasks in context.tasks.items():
        before = fingerprint([task_fingerprints(task) for task in tasks])
        is_spent = context.budget()
        waiting = planned = trials(tasks)
        while waiting and round_.num_cut_off < MOST_CUT_OFF:
            if is_spent() and len(planned) - len(waiting) >= ALWAYS_TRIED:
                break
            kinds = [trial.kind for trial in waiting[:CHUNK]]
            new = [number for number, kind in enumerate(kinds) if kind not in round_.tried]
            size = max(1, min([CHUNK, *new]))
            was_warm = round_.is_warm
            round_.play(waiting[:size])
            waiting = waiting[size:]
            if not was_warm:  # starting the process, which may import much, is no part of it
                is_spent = context.budget()
        if round_.num_cut_off < MOST_CUT_OFF:  # else it is not the time that ended it, and it is found
            num, facts = len(planned), context.counts[category]
            context.counts[category] = replace(facts, num_replies=num, num_tried=num - len(waiting))
        _check_expectations(context, round_.results)
        round_.results.clear()
        if fingerprint([task_fingerprints(task) for task in tasks]) != before:
            context.find("score-changes-task", "scoring changes the task", category)
    if round_.seconds:
        context.facts["score_ms"] = ms = median(round_.seconds) * 1000
        in_process = context.environment.scores_in_process
        timeout_ms = context.limits.scoring.timeout_s * 1000
        if in_process and ms > SLOW_MS:
            context.find("score-slow", f"scoring in process takes {ms:.0f} ms a reply, and the trainer waits")
        elif not in_process and ms > timeout_ms / LIMIT_SHARE:
            context.find("score-near-limit", f"a score takes {ms:.0f} ms, its limit is {timeout_ms:.0f} ms")


class _Round:
    def __init__(self, context: CheckContext) -> None:
        self._context, self.num_cut_off, self.is_warm = context, 0, False
        self.tried: set[str] = set()  # kinds of reply
        self._stuck: set[str] = set()  # kinds of reply that were cut off; once is enough
        self.seconds: list[float] = []  # that scoring a reference answer in this process took
        self.results: list[tuple[TrialReply, Score]] = []

    def play(self, chunk: Sequence[TrialReply]) -> None:
        self.tried |= {trial.kind for trial in chunk}
        chunk = [trial for trial in chunk if trial.kind not in self._stuck]
        for trial, turn in zip(chunk, self._score_elsewhere(chunk), strict=True):
            if turn.score is not None and (trouble := _trouble(turn.score.reason)) is not None:
                self.num_cut_off += 1
                self._stuck.add(trial.kind)
                find(self._context, *trouble, trial)
                continue
            self._score_here(trial, turn)
            if turn.score is not None and turn.done:  # else the episode goes on: see the check of episodes
                self.results.append((trial, turn.score))

    def _score_elsewhere(self, chunk: Sequence[TrialReply]) -> list[Turn]:
        """Score in a scoring process; measure whether what hangs is cut off in time."""
        if not chunk:
            return []
        self._context.at(str(chunk[0]))
        begun_at = time.monotonic()
        jobs = [ScoringJob(trial.task, (trial.completion,)) for trial in chunk]
        turns = self._context.score_elsewhere(jobs)
        allowed = len(chunk) * (self._context.limits.scoring.timeout_s + END_S)
        if self.is_warm and time.monotonic() - begun_at > allowed:
            find(self._context, "cut-off", f"took longer than {allowed:.0f} s to be cut off", chunk[0])
        self.is_warm = True
        return turns

    def _score_here(self, trial: TrialReply, elsewhere: Turn) -> None:
        """Score in this process, look at the score as it was returned, and compare."""
        self._context.at(str(trial))
        job = ScoringJob(trial.task, (trial.completion,))
        begun_at = time.monotonic()
        first = play(self._context.environment, job)
        if trial.kind == REFERENCE:
            self.seconds.append(time.monotonic() - begun_at)
        again = play(self._context.environment, job)
        if repr(first) != repr(again):
            find(self._context, "score-same", f"scored twice: {_result(first)}, then {_result(again)}", trial)
        elif repr(first) != repr(elsewhere):
            words = f"scores {_result(first)} in this process, {_result(elsewhere)} in a scoring process"
            find(self._context, "score-elsewhere", words, trial)
        if first.score is None or not str(first.score.reason).startswith("raised "):
            with forks_ended():
                returned = self._context.environment.start(trial.task).step(trial.completion)
            for fault in form_faults(returned):
                find(self._context, "score-form", f"has no score in form: {fault}", trial)


def _result(turn: Turn) -> str:
    if turn.score is None:
        return f"no score but {quoted(turn.messages[-1]['content'] if turn.messages else '')}"
    return f"{turn.score.value:.6g}" if turn.score.value is not None else quoted(turn.score.reason)


def form_faults(turn: object) -> Iterator[str]:
    """Say what is wrong with a turn as the environment returned it."""
    if not isinstance(turn, Turn):
        yield f"step() returns {quoted(type(turn).__name__)}, not an environments.Turn"
    elif turn.score is None:
        if turn.done:
            yield "the episode ends without a score"
    elif not isinstance(turn.score, Score):
        yield f"the score is {quoted(type(turn.score).__name__)}, not an environments.Score"
    elif turn.score.value is None:
        if _is_out_of_form(str(turn.score.reason)):  # as `Score.of` says it
            yield str(turn.score.reason)
    else:
        score, value = turn.score, cast(object, turn.score.value)
        if not isinstance(value, Real) or isinstance(value, bool):
            yield f"the value is {quoted(repr(value))}, not a number"
        elif not math.isfinite(value) or not 0 <= float(value) <= 1:
            yield f"the value is {value}, not in [0, 1]"
        if not isinstance(score.correct, bool | np.bool_):
            yield f"correct is {quoted(repr(score.correct))}, not True or False"
        if not isinstance(score.components, Mapping):
            yield f"components are {quoted(repr(score.components))}, not a map"
            return
        for name, part in score.components.items():
            if not isinstance(name, str) or not isinstance(part, Real) or not math.isfinite(part):
                yield f"the component {quoted(name)} is {quoted(repr(part))}, not a finite number"


def find(context: CheckContext, rule: str, words: str, trial: TrialReply, severity: Severity | None = None) -> None:
    """Add a finding about one reply."""
    # Elsewhere a reply that cannot be scored costs one sample; in process, or if it is right, it costs a run.
    is_survived = trial.kind not in (REFERENCE, EMPTY) and not context.environment.scores_in_process
    if severity is None and is_survived and rule in ("score-raises", "score-hangs", "score-crashes"):
        severity = "warning"
    context.find_in(trial.task, rule, f"{trial.kind} {words}", quoted(trial.completion), severity)


def _why_not_scored(reason: str) -> tuple[str, str]:
    """Give the rule that a reply breaks which has no score for this reason, and say what is wrong with it."""
    if reason.startswith("raised "):
        return "score-raises", f"cannot be scored: scoring {clean(reason)}"
    return _trouble(reason) or ("score-declines", f"is not scored: {clean(reason)}")


def _trouble(reason: str | None) -> tuple[str, str] | None:
    """Give the rule that a score breaks which was not found within its limits, and words; None: it kept to them."""
    return None if reason is None else TROUBLE.get(reason.partition(" after ")[0])  # a server's says how long


def _is_out_of_form(reason: str) -> bool:
    return reason.partition(":")[0] in FORM


def _out_of_form(reason: str) -> str:
    kind, colon, what = reason.partition(":")
    return FORM[kind] + colon + clean(what)


def _check_expectations(context: CheckContext, results: Sequence[tuple[TrialReply, Score]]) -> None:
    is_hopeless = len(results) > 1 and all(score.reason is not None for _, score in results)
    others = "; no other reply that was tried has a score either" if is_hopeless else ""
    for trial, score in results:
        if score.reason is not None:
            if score.reason != NO_REPLY and not _is_out_of_form(score.reason):  # which `form_faults` looks at
                rule, words = _why_not_scored(score.reason)
                find(context, rule, words + others, trial, "error" if trial.kind == REFERENCE or others else None)
        elif trial.kind == REFERENCE and not (score.correct and (score.value or 0) >= CORRECT_AT):
            find(context, "reference", _scores(score), trial)
        elif trial.kind == EMPTY and _is_right(score):
            find(context, "empty", _scores(score), trial)
        elif _is_nonsense(trial) and trial.kind != NOUGHT and _is_right(score):
            find(context, "wrong-reply", _scores(score), trial)
        elif _is_nonsense(trial) and not score.correct and (score.value or 0) > MOST_FOR_NOTHING:
            find(context, "paid-wrong", _scores(score), trial)
    # These may be right for some tasks, but not for most.
    for rule, kind in (("other-answer", OTHER), ("several-answers", SEVERAL)):
        tried = [(trial, score) for trial, score in results if trial.kind == kind and score.reason is None]
        right = [trial for trial, score in tried if _is_right(score)]
        if len(tried) > 1 and len(right) / len(tried) > MOSTLY:
            find(context, rule, f"is correct for {len(right)} of {len(tried)} tasks", right[0])


def _is_right(score: Score) -> bool:
    """Say whether a score is full, or counts as correct: a wrong reply may have neither."""
    return bool(score.correct) or (score.value is not None and score.value >= CORRECT_AT)


def _is_nonsense(trial: TrialReply) -> bool:
    """Say whether a reply answers nothing; a bare 0 may be right by chance."""
    return trial.kind in HOSTILE or trial.kind in (EMPTY, PROMPT, NOUGHT)


def _scores(score: Score) -> str:
    return f"scores {score.value:.6g} and is {'' if score.correct else 'not '}correct"


# --- episodes --------------------------------------------------------------------------------------------


def check_episodes(context: CheckContext) -> None:
    """Play some episodes of every category to their end: with the reference answer, and with others."""
    for category, tasks in context.tasks.items():
        is_spent = context.budget()
        for place, task in enumerate(tasks[:NUM_EPISODES]):
            context.at(f"an episode of task {task.index} of category {quoted(category)}")
            if is_spent():
                break
            first, second = context.environment.start(task), context.environment.start(task)
            rule, fault = "episode", _episode_fault(first, task)
            if first is second and isinstance(first, Episode):
                rule, fault = "episode-used", "start returns an episode that was started before"
            if fault:
                context.find_in(task, rule, fault)
                break
            _check_side_by_side(context, task, first, second)
            del first, second  # a server has only so much room
            other = tasks[(place + 1) % len(tasks)]
            if not all(_check_turns(context, task, other, replies) for replies in _scripts(task, tasks)):
                return


def check_legal_play(context: CheckContext) -> None:
    """Play games of every category side by side with legal answers, where the environment draws them.

    All have a score, and their first turns are those of replaying each by itself.
    """
    environment = context.environment
    if environment.closed or not environment.draws_legal_answers:
        return  # the answers of closed ones are looked at by themselves
    for category, tasks in context.tasks.items():
        is_spent = context.budget()
        live = [(task, np.random.default_rng(task.index), list[str]()) for task in tasks[:LEGAL_GAMES]]
        num, unscorable = len(live), list[tuple[Task, int, str]]()
        for number in range(1, LEGAL_TURNS + 1):
            if not live or is_spent():
                break
            context.at(f"turn {number} of games of legal answers in category {quoted(category)}")
            jobs = []
            for task, rng, replies in live:
                try:
                    replies.append(environment.legal_answer(task, rng))
                except Exception as error:  # foreign code may raise anything
                    context.find_in(task, "legal-answer", f"legal_answer fails: {error_text(error)}")
                    return
                jobs.append(ScoringJob(task, tuple(replies), f"legal/{category}/{task.index}"))
            turns = context.score_elsewhere(jobs)
            if 1 < number <= REPLAYED_TURNS:
                alone = context.score_elsewhere([replace(job, episode="") for job in jobs])
                for (task, *_), turn, replayed in zip(live, turns, alone, strict=True):
                    if _is_sound(turn) and _is_sound(replayed) and _facts(turn) != _facts(replayed):
                        words = f"turn {number} of a game of legal answers is another when others are played beside it"
                        context.find_in(task, "episode-replay", words)
            for (task, *_), turn in zip(live, turns, strict=True):
                if turn.score is not None and turn.score.reason is not None:
                    unscorable.append((task, number, turn.score.reason))
            live = [game for game, turn in zip(live, turns, strict=True) if not turn.done]
        if unscorable:
            task, number, reason = unscorable[0]
            words = f"{len(unscorable)} of {num} games of legal answers cannot be scored, the first in turn {number}"
            context.find_in(task, "legal-play", f"{words}: {clean(reason)}")


def _scripts(task: Task, tasks: Sequence[Task]) -> Iterator[Iterator[str]]:
    """Write the replies, all different in the first two scripts, so that an episode that mixes them up shows.

    What is right elsewhere is mostly legal here, and goes on longest.
    """
    for reply in (task.answer or "", UNSURE):
        yield chain([reply], (f"{reply} {number}" for number in count(2)))
    answers = [other.answer for other in tasks if other.answer is not None and other is not task]
    if answers:
        yield cycle(answers)


def _episode_fault(episode: object, task: Task) -> str | None:
    if not isinstance(episode, Episode):
        return f"start returns {quoted(type(episode).__name__)}, not an environments.Episode"
    messages: object = getattr(episode, "messages", None)
    if not isinstance(messages, tuple) or not messages:
        return f"the episode's messages must be a tuple of at least one, found {quoted(repr(messages))}"
    fault = conversation_fault(messages)
    if fault is None and [dict(message) for message in messages] != [dict(m) for m in task.messages]:
        return "the episode's messages are others than the task's, which are what the policy reads"
    return fault


def _check_turns(context: CheckContext, task: Task, other: Task, script: Iterator[str]) -> bool:
    """Play an episode to its end, each turn also by replaying it elsewhere; False if that had to be ended.

    Between its turns an episode of another task is begun, and hears the same.
    """
    episode, replies = context.environment.start(task), list[str]()
    for number, reply in enumerate(islice(script, MOST_TURNS), start=1):
        replies.append(reply)
        context.at(f"turn {number} of an episode of task {task.index} of category {quoted(task.category)}")
        (replayed,) = context.score_elsewhere([ScoringJob(task, tuple(replies))])
        if replayed.score is not None and replayed.score.reason is not None:
            _report_unscorable(context, task, number, replayed.score.reason)
            return _trouble(replayed.score.reason) is None
        beside = context.environment.start(other)
        with suppress(Exception), forks_ended():  # it is played itself, or like it
            beside.step(reply)  # which changes nothing for the one under way
        with forks_ended():
            played = episode.step(reply)
        _check_repeated(context, task, number, episode, played)
        if number > 1:  # the check of scores looks at first turns
            for fault in form_faults(played):
                context.find_in(task, "score-form", f"in turn {number}, {fault}")
            if _facts(played) != _facts(replayed):
                words = f"turn {number} is another when replayed, or when another episode begins meanwhile"
                context.find_in(task, "episode-replay", words)
        for fault in filter(None, (message_fault(message, REPLYING) for message in replayed.messages)):
            context.find_in(task, "episode", f"in turn {number}, {fault}")
        if replayed.done:
            score = replayed.score  # of a first turn it has been looked at
            if replies[0] == UNSURE and number > 1 and score is not None and _is_right(score):
                words = f"an episode of {number} replies that answer nothing {_scores(score)}"
                context.find_in(task, "paid-wrong", words)
            return True
    context.find_in(task, "episode-endless", f"not over after {MOST_TURNS} turns")
    return True


def _check_side_by_side(context: CheckContext, task: Task, first: Episode, second: Episode) -> None:
    """Have a server begin two episodes of a task before either hears a reply, as those of a group are played."""
    if not (isinstance(first, BlockingEpisode) and isinstance(second, BlockingEpisode)):
        return
    replies = (UNSURE, task.answer or "")
    alone = [context.score_elsewhere([ScoringJob(task, (reply,))])[0] for reply in replies]
    try:
        first.begin()
        second.begin()
    except RemoteFault as fault:
        if not str(fault).startswith("no server"):  # else there is no room for two, or other checks tell
            words = f"two episodes of one task cannot be played at the same time: {clean(str(fault))}"
            context.find_in(task, "episode-used", words)
        return
    for episode, reply, expected in zip((first, second), replies, alone, strict=True):
        if _facts(episode.step(reply)) != _facts(expected):
            context.find_in(task, "episode-used", "a turn is another when a second episode of the task is under way")


def _check_repeated(context: CheckContext, task: Task, number: int, episode: Episode, played: Turn) -> None:
    """Have a server asked again for a turn that it has given, as it is after a connection that broke."""
    if not isinstance(episode, BlockingEpisode):
        return
    try:
        again = episode.repeat()
    except RemoteFault as fault:
        context.find_in(task, "turn-repeated", f"turn {number} is not to be had a second time: {clean(str(fault))}")
        return
    if again is not None and _facts(again) != _facts(played):
        context.find_in(task, "turn-repeated", f"turn {number} is another when it is asked for a second time")


def _report_unscorable(context: CheckContext, task: Task, number: int, reason: str) -> None:
    """Say why a turn is unscorable, where the check of scores has not said it of a first turn."""
    if reason == NO_REPLY:
        context.find_in(task, "episode", f"turn {number} goes on without a message")
    if number == 1 or reason == NO_REPLY:
        return
    rule, words = ("score-form", _out_of_form(reason)) if _is_out_of_form(reason) else _why_not_scored(reason)
    # elsewhere a turn that cannot be scored costs one sample, in process it may cost a run
    is_survived = rule != "score-form" and not context.environment.scores_in_process
    context.find_in(task, rule, f"turn {number} {words}", severity="warning" if is_survived else None)


def _is_sound(turn: Turn) -> bool:
    return turn.score is None or turn.score.reason is None


def _facts(turn: Turn) -> list[object]:
    return [[dict(message) for message in turn.messages], turn.score and turn.score.value, bool(turn.done)]
