"""Plays with the learner's own module through the transformers library: always there, exact, resumable.

Equal prompts are read once, rows that have ended leave the batch, every row has a random stream of its own, and
log-probs and exact entropies under the sampling distribution come from the same pass. Weights are shared with
the learner, so nothing is copied on `sync`. For large models on a GPU this is a correctness tool (no paged
memory): real runs use `vllm`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from policies.errors import PolicyError
from policies.samplers.contracts import Generation, Request, Sampler, Sampling
from policies.samplers.options import SamplerOptions

if TYPE_CHECKING:
    from policies.policy import Policy

SOURCE = "baseline"


class Config(SamplerOptions):
    """Options of the `transformers` sampler."""

    type: Literal["transformers"] = "transformers"
    rows: int = Field(default=256, ge=1)
    """Most rows in one forward. Rows of equal prompts stay together, also when they are more than this."""


class TransformersSampler(Sampler):
    """The engine. What it returns depends on the requests and the weights, and on nothing it did before."""

    def __init__(self, config: Config, policy: Policy, *, compact: bool = True) -> None:
        self.config, self.policy, self.compact = config, policy, compact
        self.version = policy.version

    def sync(self, version: int) -> None:
        """Note the version of the weights; they are the learner's own and already in place."""
        self.version = version

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """Generate one row a request, in the order of the requests."""
        from policies.samplers.decoding import decode  # here, so that reading a spec does not load torch

        self._require_playable(requests)
        generations: dict[int, Generation] = {}
        for rows in cut(requests, self.config.rows):
            played = decode(self.policy, [requests[row] for row in rows], sampling, compact=self.compact)
            generations.update(zip(rows, played, strict=True))
        return [generations[row] for row in range(len(requests))]

    def _require_playable(self, requests: Sequence[Request]) -> None:
        if self.version != self.policy.version:
            raise PolicyError(
                f"the sampler was synced to version {self.version} of the weights, the policy is at "
                f"{self.policy.version}: call sync(version) after every update"
            )
        context = self.policy.context
        longest = max((len(request.ids) + request.budget for request in requests), default=0)
        if context is not None and longest > context:
            raise PolicyError(
                f"a prompt and its budget need {longest} tokens, {self.policy.name} has a context of {context}: "
                "lower max_tokens or shorten the prompts"
            )


def create(config: Config, policy: Policy) -> TransformersSampler:
    """Make the sampler of a policy."""
    return TransformersSampler(config, policy)


def cut(requests: Sequence[Request], most: int) -> Iterator[list[int]]:
    """Cut requests into batches of at most `most` rows, in order, never through rows of one prompt."""
    rows_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, request in enumerate(requests):
        rows_of[request.ids].append(row)
    batch: list[int] = []
    for rows in rows_of.values():
        if batch and len(batch) + len(rows) > most:
            yield batch
            batch = []
        batch = batch + rows
    if batch:
        yield batch
