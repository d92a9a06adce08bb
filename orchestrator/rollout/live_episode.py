"""An episode while it is played: token ids, what was said, budgets; and the samples that ended ones are laid out as."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from environments import Score, Task, Turn
from orchestrator.episode_options import score_cut_off
from orchestrator.played_group import Sample
from policies.samplers.contracts import Finish, Generation, Request, SamplerOptions, Span

LOST = "lost by the sampler"
NO_ROOM, NO_PROMPT = "its prompt fills the context", "its prompt has no token"
WORTHLESS = Score(0.0, False)  # an episode that ended at a limit before the environment said anything of it


class LiveEpisode:
    """An episode of a task, live until something ends it: a list of token ids that only grows, and what was said.

    Nothing in the list is ever encoded again or taken out. Text is made from ids, for the environment to read, and
    never the other way round: a policy may write `a`, `b` where its tokenizer would merge `ab`, and a learner that
    scored `ab` would score what nobody sampled.

    In a turn: `request`, then `write`, then `answer`, and where that says so `go_on`. One whose prompt leaves no room
    has ended before its first turn, without a score.

    `stream`: of random numbers, which it has its seeds from. `place`: which group there, and which sample of the group.
    `max_tokens`: most tokens that the policy may write, over all turns; `context`: that it can read in a row; None: no
    limit. `version`: of the weights at first.
    """

    def __init__(
        self,
        task: Task,
        stream: str,
        place: tuple[int, int],
        prompt: tuple[int, ...],
        max_tokens: int,
        options: SamplerOptions,
        context: int | None,
        version: int,
    ) -> None:
        self.task, self.stream, self.place = task, stream, place
        self._prompt, self._max_tokens = prompt, max_tokens
        self._options, self._context, self._version = options, context, version
        self._is_one_token = max_tokens == 1  # then a reply has no room for its end, and filling it is ending
        self.begin()

    def begin(self) -> None:
        """Stand at the first turn, whatever was played before."""
        self.ids = self._prompt
        self.messages = list(self.task.messages)  # up to the last completion
        self.completions: list[str] = []
        self.stretches: list[tuple[int, Generation]] = []  # what the policy wrote, and from where on
        self.score: Score | None = None  # None: live
        self.finish: Finish = "stop"
        self.has_gradient = True  # False: only its score counts
        self._is_waited_for = False  # by its environment, for another completion
        self._tokens_left = self._max_tokens
        if not self._prompt or self.budget() < 1:
            self._end("lost", Score.unscorable(NO_ROOM if self._prompt else NO_PROMPT))

    @property
    def is_live(self) -> bool:
        """Whether there is another turn to write."""
        return self.score is None

    @property
    def is_cut_off(self) -> bool:
        """Whether it has ended and its environment, which would go on, does not know."""
        return self._is_waited_for and not self.is_live

    @property
    def turn(self) -> int:
        """Number of the next turn, from 0."""
        return len(self.completions)

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

    def answer(self, turn: Turn) -> bool:
        """Take the environment's answer; say whether the policy goes on with its messages.

        A turn that was cut by length is the last one, whatever the environment says to what there is of it.
        """
        self._is_waited_for = not turn.done
        was_cut = self.stretches[-1][1].finish == "length"
        if turn.done and turn.score is not None:
            self._end("length" if was_cut else "stop", turn.score)
        elif was_cut or self.turn >= self._options.max_turns or self.budget() < 1:
            self._end("length", turn.score or WORTHLESS)
        return self.is_live

    def go_on(self, turn: Turn, bridge: Sequence[int]) -> None:
        """Append the environment's messages, `bridge` being their ids; cut off if no turn fits behind them."""
        if self.budget(len(bridge)) < 1:
            self._end("length", turn.score or WORTHLESS)
            return
        self.ids += tuple(bridge)
        self.messages += [{"role": "assistant", "content": self.completions[-1]}, *turn.messages]

    def sample(
        self,
        ids: NDArray[np.int64],
        mask: NDArray[np.bool_],
        logprobs: NDArray[np.float32],
        entropies: NDArray[np.float32],
    ) -> Sample:
        """Say what became of an episode that has ended, its tokens having been laid out."""
        assert self.score is not None, "it is not live"
        spans = [
            Span(span.version, start + span.start, start + span.end)
            for start, generation in self.stretches
            for span in generation.spans
        ]
        return Sample(
            ids=ids,
            mask=mask,
            logprobs=logprobs,
            entropies=entropies,
            spans=tuple(spans) or (Span(self._version, len(ids), len(ids)),),
            messages=tuple(self.messages),
            completion="" if self.finish == "lost" else self.completions[-1],
            num_turns=len(self.completions),
            finish=self.finish,
            score=self.score,
            has_gradient=self.has_gradient,
            turn_starts=tuple(start for start, _ in self.stretches),
        )

    def _end(self, finish: Finish, score: Score) -> None:
        if finish == "length" and self._is_one_token:
            finish = "stop"
        rule = self._options.cut_off if finish == "length" else "score"
        self.finish, self.score, self.has_gradient = finish, score_cut_off(score, rule), rule != "mask"


def samples_of(episodes: Sequence[LiveEpisode]) -> list[Sample]:
    """Lay out episodes that have ended: the tokens of all one after the other, of which each sample is a stretch."""
    ends = np.cumsum([0, *(len(episode.ids) for episode in episodes)]).tolist()
    num = ends[-1]
    ids = np.fromiter(chain.from_iterable(episode.ids for episode in episodes), np.int64, num)
    mask = np.zeros(num, np.bool_)
    logprobs, entropies = np.zeros(num, np.float32), np.zeros(num, np.float32)
    for episode, begin in zip(episodes, ends, strict=False):
        for start, generation in episode.stretches:
            mask[begin + start : begin + start + len(generation.ids)] = True
    written = [generation for episode in episodes for _, generation in episode.stretches]
    if written:
        logprobs[mask] = np.concatenate([one.logprobs for one in written])
        # the surprise at what was drawn is, in the mean, the entropy of what it was drawn from
        of_q = [-one.logprobs if one.entropies is None else one.entropies for one in written]
        entropies[mask] = np.concatenate(of_q)
    return [
        episode.sample(ids[a:b], mask[a:b], logprobs[a:b], entropies[a:b])
        for episode, (a, b) in zip(episodes, pairwise(ends), strict=True)
    ]
