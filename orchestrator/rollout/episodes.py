"""One episode while it is played: a list of token ids that only grows, and what was said in it.

Nothing in the list is ever encoded again or taken out. Text is made from ids, for the environment to read, and never
the other way round: a policy may write `a`, `b` where its tokenizer would merge `ab`, and a learner that scored `ab`
would score what nobody sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from environments import Score, ScoringJob, Task, Turn
from policies.samplers.contracts import Finish, Generation, Request, Span
from policies.samplers.options import SamplerOptions

LOST = "lost by the sampler"
NO_ROOM, NO_PROMPT = "its prompt fills the context", "its prompt has no token"
WORTHLESS = Score(0.0, False)


@dataclass(frozen=True)
class EpisodeEnd:
    """How an episode ended, and what it is worth."""

    finish: Finish
    score: Score
    has_gradient: bool  # False: only its score counts


class LiveEpisode:
    """An episode of a task, live until something ends it.

    In a turn: `request`, then `write`, then `hear`, and where that says so `go_on`. One whose prompt cannot be answered
    has ended before its first turn, without a score.

    Args:
        task: what is played.
        place: which group of the batch, and which sample of the group.
        prompt: token ids of the task's messages, up to where the policy's first completion begins.
        max_tokens: most tokens that the policy may write, over all turns.
        options: the budgets of a turn and of turns, and what a cut-off episode is worth.
        context: most tokens in a row that the policy can read; None: no limit.
        version: of the weights that begin it.
    """

    def __init__(
        self,
        task: Task,
        place: tuple[int, int],
        prompt: tuple[int, ...],
        max_tokens: int,
        options: SamplerOptions,
        context: int | None,
        version: int,
    ) -> None:
        self.task, self.place, self.ids = task, place, prompt
        self.messages = list(task.messages)  # up to the last completion
        self.completions: list[str] = []
        self.stretches: list[tuple[int, Generation]] = []  # what the policy wrote, and from where on
        self.ending: EpisodeEnd | None = None  # None: live
        self._tokens_left, self._options, self._context, self._version = max_tokens, options, context, version
        self._is_one_token = max_tokens == 1  # then a reply has no room for its end, and filling it is ending
        if not prompt or self.budget() < 1:
            self._end("lost", Score.unscorable(NO_ROOM if prompt else NO_PROMPT))

    @property
    def is_live(self) -> bool:
        """Whether there is another turn to write."""
        return self.ending is None

    @property
    def turn(self) -> int:
        """Number of the next turn, from 0."""
        return len(self.completions)

    @property
    def job(self) -> ScoringJob:
        """What the environment is asked: to answer the last completion."""
        return ScoringJob(self.task, tuple(self.completions))

    @property
    def spans(self) -> tuple[Span, ...]:
        """Which weights wrote which tokens, as positions in `ids`; an empty span where none were written."""
        spans = [
            Span(span.version, start + span.start, start + span.end)
            for start, generation in self.stretches
            for span in generation.spans
        ]
        return tuple(spans) or (Span(self._version, len(self.ids), len(self.ids)),)

    def budget(self, num_bridge: int = 0) -> int:
        """Most tokens of the next turn, behind a bridge of so many; below 1 there is none."""
        budget = min(self._tokens_left, self._options.turn_tokens or self._tokens_left)
        return budget if self._context is None else min(budget, self._context - len(self.ids) - num_bridge)

    def request(self, seed: int) -> Request:
        """Ask for the next turn."""
        return Request(self.ids, seed, self.budget())

    def write(self, generation: Generation, completion: str) -> None:
        """Take what the policy wrote; a turn that the sampler lost ends the episode without a score."""
        if generation.finish == "lost":
            self._end("lost", Score.unscorable(LOST))
            return
        self.stretches.append((len(self.ids), generation))
        self.ids += generation.ids
        self.completions.append(completion)
        self._tokens_left -= len(generation.ids)

    def hear(self, turn: Turn) -> bool:
        """Take the environment's answer; say whether the policy is to hear its messages and go on.

        A turn that was cut by length is the last one, whatever the environment says to what there is of it.
        """
        was_cut = self.stretches[-1][1].finish == "length"
        if turn.done and turn.score is not None:
            self._end("length" if was_cut else "stop", turn.score)
        elif was_cut or self.turn >= self._options.max_turns or self.budget() < 1:
            self._cut_off(turn)
        return self.is_live

    def go_on(self, turn: Turn, bridge: Sequence[int]) -> None:
        """Append the environment's messages, `bridge` being their ids; cut off if no turn fits behind them."""
        if self.budget(len(bridge)) < 1:
            self._cut_off(turn)
            return
        self.ids += tuple(bridge)
        self.messages += [{"role": "assistant", "content": self.completions[-1]}, *turn.messages]

    def _cut_off(self, turn: Turn) -> None:
        """End it at a limit: it is worth what the environment said of it so far, or nothing."""
        self._end("length", turn.score or WORTHLESS)

    def _end(self, finish: Finish, score: Score) -> None:
        if finish == "length" and self._is_one_token:
            finish = "stop"
        rule = self._options.cut_off if finish == "length" else "score"
        if rule == "zero" and score.reason is None:
            score = replace(score, value=0.0, correct=False)
        self.ending = EpisodeEnd(finish, score, has_gradient=rule != "mask")
