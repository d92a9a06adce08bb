"""Checks of episodes: new at each start, the same when replayed, ending some time.

As with scores, each reply is played in a scoring process first, and only if that came back it is played here.
"""

from __future__ import annotations

from environments.checking.bench import Bench
from environments.checking.findings import shown
from environments.checking.scores import TROUBLE
from environments.checking.tasks import message_fault
from environments.contracts import Episode, Task, Turn
from environments.scoring import Job

NUM_TASKS = 3  # of a category
MOST_TURNS = 32
UNSURE = "I do not know"


def check_episodes(bench: Bench) -> None:
    """Play some episodes of every category to their end: with the reference answer, and with others."""
    for category, tasks in bench.tasks.items():
        is_spent = bench.budget()
        for task in tasks[:NUM_TASKS]:
            bench.at(f"an episode of task {task.index} of category {shown(category)}")
            if is_spent() or not _check_start(bench, task):
                break
            if not all(_check_turns(bench, task, reply) for reply in (task.answer or "", UNSURE)):
                return


def _check_start(bench: Bench, task: Task) -> bool:
    """Start two episodes; say whether they can be played."""
    first, second = bench.environment.start(task), bench.environment.start(task)
    fault = _episode_fault(first)
    if fault:
        bench.find("episode", fault, task.category, task.index)
    elif first is second:
        bench.find(
            "episode-used", "start returns an episode that was started before", task.category, task.index
        )
    return not fault and first is not second


def _episode_fault(episode: object) -> str | None:
    if not isinstance(episode, Episode):
        return f"start returns {shown(type(episode).__name__)}, not an environments.Episode"
    messages: object = getattr(episode, "messages", None)
    if not isinstance(messages, tuple) or not messages:
        return f"the episode's messages must be a tuple of at least one, found {shown(repr(messages))}"
    return next((fault for message in messages if (fault := message_fault(message))), None)


def _check_turns(bench: Bench, task: Task, reply: str) -> bool:
    """Play an episode to its end, each turn also by replaying it elsewhere.

    Every reply is another one, so that an episode that forgets them or mixes them up shows. False: it was cut off, as
    others will be.
    """
    episode = bench.environment.start(task)
    replies: list[str] = []
    for number in range(1, MOST_TURNS + 1):
        replies.append(reply if number == 1 else f"{reply} {number}")
        bench.at(f"turn {number} of an episode of task {task.index} of category {shown(task.category)}")
        (replayed,) = bench.score_elsewhere([Job(task, tuple(replies))])
        if replayed.score is not None and replayed.score.reason is not None:
            return replayed.score.reason not in TROUBLE  # the check of scores tells
        if number == 2:
            bench.find("several-turns", "episodes have several turns", task.category, task.index)
        played = episode.step(replies[-1])
        if number > 1 and _facts(played) != _facts(replayed):
            bench.find("episode-replay", f"turn {number} is another when replayed", task.category, task.index)
        _check_reply(bench, task, number, replayed)
        if replayed.done:
            return True
    bench.find("episode-endless", f"not over after {MOST_TURNS} turns", task.category, task.index)
    return True


def _facts(turn: Turn) -> list[object]:
    """Give what the policy and the trainer see of a turn."""
    return [[dict(message) for message in turn.messages], turn.score and turn.score.value, bool(turn.done)]


def _check_reply(bench: Bench, task: Task, number: int, turn: Turn) -> None:
    for fault in filter(None, map(message_fault, turn.messages)):
        bench.find("episode", f"in turn {number}, {fault}", task.category, task.index)
    if not turn.done and not turn.messages:
        bench.find("episode", f"turn {number} goes on without a message", task.category, task.index)
