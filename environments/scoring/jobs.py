"""One turn of one episode, played alike in the trainer and a worker, and as JSON between them, which runs nothing."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from environments.contracts import (
    BAD_VALUE,
    REPLYING,
    Environment,
    EnvironmentFault,
    Episode,
    Score,
    Task,
    Turn,
    is_whole,
)
from environments.display import brief
from environments.scoring.kept_episodes import KeptEpisode, KeptEpisodes
from environments.surroundings import GeneratorWatch, forks_ended
from environments.user_code import own_place

LONGEST_REASON = 500  # characters that are kept
LONGEST_MESSAGE = 100  # of the first line of an exception's message
LONGEST_NAME = 100  # of a component's name
READY = b"ready"  # what a worker says first
CRASHED = "crashed"  # the process ended, or answered what is no answer
NO_REPLY = "no reply"  # an episode goes on, and says nothing that the policy could go on from
HALF_REPLY = "a reply with half a character: a lone surrogate, which no tokenizer reads"


@dataclass(frozen=True)
class ScoringJob:
    """A completion to score, with the earlier ones of its episode: plain data, safe to send to a process."""

    task: Task
    completions: tuple[str, ...]  # of this episode, in order, the new one last
    episode: str = ""  # names the episode among all that are played at the same time; empty: it is not kept


@dataclass(frozen=True)
class EndedEpisodes:
    """Episodes that are played no further, though they go on: nobody is to keep them."""

    names: tuple[tuple[str, str], ...]  # environment and name of each


def unscorable(reason: str) -> Turn:
    """End an episode without a score; the reason, which may be foreign, is put on one line and cut."""
    return Turn(score=Score.unscorable(brief(reason, LONGEST_REASON)), done=True)


def play(environment: Environment, job: ScoringJob, kept: KeptEpisodes | None = None) -> Turn:
    """Take the new turn of an episode, and check that alone; the earlier completions are replayed unless it is kept.

    One that has a name is kept until it is over. Not if it used the global generators: its numbers would be others
    than those of replaying, as others draw between its turns.

    Whatever goes wrong makes the turn unscorable, but an `EnvironmentFault`: no further task would fare better.
    """
    if kept is None or not job.episode or environment.has_single_turns:  # nothing goes on
        return _played(environment, job, None)[0]
    known = kept.take(job.episode, environment, job.task, job.completions)
    with GeneratorWatch() as generators:
        turn, episode = _played(environment, job, known)
    if episode is not None and not turn.done and not generators.was_used:
        kept.keep(job.episode, KeptEpisode(environment, job.task, job.completions, episode))
    return turn


def _played(environment: Environment, job: ScoringJob, known: KeptEpisode | None) -> tuple[Turn, Episode | None]:
    """Take the new turn, of the episode that is known or of a new one; None for the episode if that failed."""
    try:
        with forks_ended():
            episode = environment.start(job.task) if known is None else known.episode
            for completion in job.completions[0 if known is None else len(known.heard) : -1]:
                episode.step(completion)
            return checked(episode.step(job.completions[-1])), episode
    except (EnvironmentFault, KeyboardInterrupt):
        raise
    except MemoryError:
        return unscorable("out of memory"), None
    except BaseException as error:  # foreign code may raise anything
        return raised(error), None


def raised(error: BaseException) -> Turn:
    """End an episode of which foreign code raised something, and where; the reason is counted and reported."""
    try:
        first_line = brief(str(error).partition("\n")[0], LONGEST_MESSAGE)
    except Exception:  # foreign as well
        first_line = "its message cannot be read"
    return unscorable(f"raised {type(error).__name__}: {first_line}{own_place(error)}")


def checked(turn: object) -> Turn:
    """Look at what an episode returned: a turn in form, or one that is unscorable and says what is wrong."""
    if not isinstance(turn, Turn):
        return unscorable(f"{BAD_VALUE}: step() returned a {type(turn).__name__}, not an environments.Turn")
    messages = tuple({key: message[key] for key in ("role", "content")} for message in turn.messages)
    for message in messages:
        if message["role"] not in REPLYING:
            return unscorable(f"{BAD_VALUE}: a message of the role {message['role']!r}, not of {', '.join(REPLYING)}")
        if not isinstance(message["content"], str):
            return unscorable(f"{BAD_VALUE}: a message's content is a {type(message['content']).__name__}, not a text")
    if not is_whole(messages):
        return unscorable(HALF_REPLY)
    if turn.score is None and turn.done:
        return unscorable("no score")
    score = None if turn.score is None else _checked_score(turn.score)
    if score is not None and score.reason is not None:
        return unscorable(score.reason)
    if not turn.done and not messages:
        return unscorable(NO_REPLY)
    return Turn(messages, score, bool(turn.done))


def _checked_score(score: object) -> Score:
    if isinstance(score, Score) and score.value is None:
        return Score.unscorable(str(score.reason or "no reason given"))
    if not isinstance(score, Score):
        return Score.unscorable(f"{BAD_VALUE}: the score is a {type(score).__name__}, not an environments.Score")
    if not isinstance(score.value, Real | np.bool_):  # NumPy's truth is no Real, Python's is
        return Score.unscorable(f"{BAD_VALUE}: {type(score.value).__name__}, not a number")
    checked = Score.of(float(score.value), score.correct)
    components = {brief(str(name), LONGEST_NAME): float(part) for name, part in score.components.items()}
    for name, part in components.items():
        if not math.isfinite(part):
            return Score.unscorable(f"{BAD_VALUE}: component {name} is not finite")
    return checked if checked.value is None else Score(checked.value, checked.correct, components)


def turn_bytes(turn: Turn) -> bytes:
    """Write a checked turn."""
    score = turn.score
    found = None if score is None else [score.value, score.correct, dict(score.components), score.reason]
    messages = [dict(message) for message in turn.messages]
    return json.dumps([messages, found, turn.done]).encode()


def fault_bytes(fault: EnvironmentFault) -> bytes:
    """Write that an environment breaks its contract."""
    return json.dumps({"fault": str(fault)}).encode()


def read_turn(answer: bytes) -> Turn:
    """Read a turn; raises EnvironmentFault if the answer is one, ValueError if it is neither."""
    found: Any = json.loads(answer)
    if isinstance(found, dict):
        raise EnvironmentFault(str(found["fault"]))
    messages, score, done = found
    return Turn(tuple(messages), None if score is None else Score(*score), bool(done))
