"""Checks of episodes: new at each start, the same when replayed, every turn in form, ending some time.

As with scores, each reply is played in a scoring process first, and only if that came back it is played here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, cycle, islice

from environments.checker.context import CheckContext
from environments.checker.findings import shown
from environments.checker.rules import Severity
from environments.checker.scores import TROUBLE, form_faults
from environments.checker.tasks import message_fault
from environments.contracts import Episode, Task, Turn
from environments.foreign_text import clean
from environments.scoring import ScoringJob
from environments.scoring.jobs import NO_REPLY

NUM_TASKS = 3  # of a category
MOST_TURNS = 32
UNSURE = "I do not know"


def check_episodes(bench: CheckContext) -> None:
    """Play some episodes of every category to their end: with the reference answer, and with others."""
    for category, tasks in bench.tasks.items():
        is_spent = bench.budget()
        for task in tasks[:NUM_TASKS]:
            bench.at(f"an episode of task {task.index} of category {shown(category)}")
            if is_spent() or not _check_start(bench, task):
                break
            if not all(_check_turns(bench, task, script) for script in _scripts(task, tasks)):
                return


def _scripts(task: Task, tasks: Sequence[Task]) -> Iterator[Iterator[str]]:
    """Write what is replied, turn by turn.

    In the first two every reply is another one, so that an episode that forgets them or mixes them up shows. What is
    right elsewhere is mostly legal here, and goes on longest.
    """
    yield _numbered(task.answer or "")
    yield _numbered(UNSURE)
    answers = [other.answer for other in tasks if other.answer is not None and other is not task]
    if answers:
        yield cycle(answers)


def _numbered(reply: str) -> Iterator[str]:
    yield reply
    yield from (f"{reply} {number}" for number in count(2))


def _check_start(bench: CheckContext, task: Task) -> bool:
    """Start two episodes; say whether they can be played."""
    first, second = bench.environment.start(task), bench.environment.start(task)
    rule, fault = "episode", _episode_fault(first, task)
    if first is second and isinstance(first, Episode):
        rule, fault = "episode-used", "start returns an episode that was started before"
    if fault:
        bench.find(rule, fault, task.category, task.index)
    return not fault


def _episode_fault(episode: object, task: Task) -> str | None:
    if not isinstance(episode, Episode):
        return f"start returns {shown(type(episode).__name__)}, not an environments.Episode"
    messages: object = getattr(episode, "messages", None)
    if not isinstance(messages, tuple) or not messages:
        return f"the episode's messages must be a tuple of at least one, found {shown(repr(messages))}"
    fault = next((fault for message in messages if (fault := message_fault(message))), None)
    if fault is None and [dict(message) for message in messages] != [dict(m) for m in task.messages]:
        return "the episode's messages are others than the task's, which are what the policy reads"
    return fault


def _check_turns(bench: CheckContext, task: Task, script: Iterator[str]) -> bool:
    """Play an episode to its end, each turn also by replaying it elsewhere; False if that had to be ended."""
    episode = bench.environment.start(task)
    replies: list[str] = []
    for number, reply in enumerate(islice(script, MOST_TURNS), start=1):
        replies.append(reply)
        bench.at(f"turn {number} of an episode of task {task.index} of category {shown(task.category)}")
        (replayed,) = bench.score_elsewhere([ScoringJob(task, tuple(replies))])
        if replayed.score is not None and replayed.score.reason is not None:
            _tell(bench, task, number, replayed.score.reason)
            return replayed.score.reason not in TROUBLE
        played = episode.step(reply)
        if number > 1:  # the check of scores looks at first turns
            _check_later(bench, task, number, played, replayed)
        for fault in filter(None, map(message_fault, replayed.messages)):
            bench.find("episode", f"in turn {number}, {fault}", task.category, task.index)
        if replayed.done:
            return True
    bench.find("episode-endless", f"not over after {MOST_TURNS} turns", task.category, task.index)
    return True


def _tell(bench: CheckContext, task: Task, number: int, reason: str) -> None:
    """Say why a turn is unscorable, where the check of scores has not said it of a first turn."""
    if reason == NO_REPLY:
        bench.find("episode", f"turn {number} goes on without a message", task.category, task.index)
    if number == 1 or reason == NO_REPLY:
        return
    rule, words = TROUBLE.get(reason, ("score-declines", f"is not scored: {shown(reason)}"))
    if reason.startswith("raised "):
        rule, words = "score-raises", f"cannot be scored: scoring {clean(reason)}"
    elif reason in ("bad value", "no score"):
        rule, words = (
            "score-form",
            "has no score in form" if reason == "bad value" else "ends without a score",
        )
    # elsewhere a turn that cannot be scored costs one sample, in process it may cost a run
    is_survived = rule != "score-form" and not bench.environment.scores_in_process
    severity: Severity | None = "warning" if is_survived else None
    bench.find(rule, f"turn {number} {words}", task.category, task.index, severity=severity)


def _check_later(bench: CheckContext, task: Task, number: int, played: Turn, replayed: Turn) -> None:
    for fault in form_faults(played):
        bench.find("score-form", f"in turn {number}, {fault}", task.category, task.index)
    if _facts(played) != _facts(replayed):
        bench.find("episode-replay", f"turn {number} is another when replayed", task.category, task.index)


def _facts(turn: Turn) -> list[object]:
    """Give what the policy and the trainer see of a turn."""
    return [[dict(message) for message in turn.messages], turn.score and turn.score.value, bool(turn.done)]
