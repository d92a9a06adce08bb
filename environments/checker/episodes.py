"""Checks of episodes: new at each start, the same when replayed, every turn in form, ending some time.

As with scores, each reply is played in a scoring process first, and only if that came back it is played here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count, cycle, islice

from environments.checker.context import CheckContext
from environments.checker.findings import Severity, quoted
from environments.checker.scores import TROUBLE, form_faults
from environments.checker.tasks import message_fault
from environments.contracts import Episode, Task, Turn
from environments.foreign_text import clean
from environments.scoring import ScoringJob
from environments.scoring.jobs import NO_REPLY

NUM_TASKS = 3  # of a category
MOST_TURNS = 32
UNSURE = "I do not know"


def check_episodes(context: CheckContext) -> None:
    """Play some episodes of every category to their end: with the reference answer, and with others."""
    for category, tasks in context.tasks.items():
        is_spent = context.budget()
        for task in tasks[:NUM_TASKS]:
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
            if not all(_check_turns(context, task, replies) for replies in _scripts(task, tasks)):
                return


def _scripts(task: Task, tasks: Sequence[Task]) -> Iterator[Iterator[str]]:
    """Write what is replied, turn by turn.

    In the first two every reply is another one, so that an episode that forgets them or mixes them up shows. What is
    right elsewhere is mostly legal here, and goes on longest.
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
    fault = next((fault for message in messages if (fault := message_fault(message))), None)
    if fault is None and [dict(message) for message in messages] != [dict(m) for m in task.messages]:
        return "the episode's messages are others than the task's, which are what the policy reads"
    return fault


def _check_turns(context: CheckContext, task: Task, script: Iterator[str]) -> bool:
    """Play an episode to its end, each turn also by replaying it elsewhere; False if that had to be ended."""
    episode = context.environment.start(task)
    replies: list[str] = []
    for number, reply in enumerate(islice(script, MOST_TURNS), start=1):
        replies.append(reply)
        context.at(f"turn {number} of an episode of task {task.index} of category {quoted(task.category)}")
        (replayed,) = context.score_elsewhere([ScoringJob(task, tuple(replies))])
        if replayed.score is not None and replayed.score.reason is not None:
            _report_unscorable(context, task, number, replayed.score.reason)
            return replayed.score.reason not in TROUBLE
        played = episode.step(reply)
        if number > 1:  # the check of scores looks at first turns
            for fault in form_faults(played):
                context.find_in(task, "score-form", f"in turn {number}, {fault}")
            if _facts(played) != _facts(replayed):
                sentence = f"turn {number} is another when replayed"
                context.find_in(task, "episode-replay", sentence)
        for fault in filter(None, map(message_fault, replayed.messages)):
            context.find_in(task, "episode", f"in turn {number}, {fault}")
        if replayed.done:
            return True
    context.find_in(task, "episode-endless", f"not over after {MOST_TURNS} turns")
    return True


def _report_unscorable(context: CheckContext, task: Task, number: int, reason: str) -> None:
    """Say why a turn is unscorable, where the check of scores has not said it of a first turn."""
    if reason == NO_REPLY:
        context.find_in(task, "episode", f"turn {number} goes on without a message")
    if number == 1 or reason == NO_REPLY:
        return
    rule, words = TROUBLE.get(reason, ("score-declines", f"is not scored: {quoted(reason)}"))
    if reason.startswith("raised "):
        rule, words = "score-raises", f"cannot be scored: scoring {clean(reason)}"
    elif reason == "bad value":
        rule, words = "score-form", "has no score in form"
    elif reason == "no score":
        rule, words = "score-form", "ends without a score"
    # elsewhere a turn that cannot be scored costs one sample, in process it may cost a run
    is_survived = rule != "score-form" and not context.environment.scores_in_process
    severity: Severity | None = "warning" if is_survived else None
    context.find(rule, f"turn {number} {words}", task.category, task.index, severity=severity)


def _facts(turn: Turn) -> list[object]:
    """Give what the policy and the trainer see of a turn."""
    return [[dict(message) for message in turn.messages], turn.score and turn.score.value, bool(turn.done)]
