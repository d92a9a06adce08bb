"""Plays through the transformers library: always there, exact, resumable, right for any architecture it knows.

Equal prompts are read once, rows that have ended leave the batch, every row has a random stream of its own, and
log-probs and exact entropies under the sampling distribution come from the same pass, in float32 whatever the
model's dtype. Plain attention is played on memory allocated once, all else on the library's own cache. Weights are the
learner's own, unless `ahead: 1` asks for a copy that plays while the learner updates. On any device; a GPU is waited
for every 16 tokens; large models on a GPU belong to `vllm`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from policies.errors import PolicyError
from policies.samplers.contracts import Generation, Prompt, Request, Sampler, SamplerOptions, Sampling

if TYPE_CHECKING:
    from policies.policy import Policy

SOURCE = "baseline"


class Config(SamplerOptions):
    """Options of the `transformers` sampler."""

    type: Literal["transformers"] = "transformers"
    rows: int = Field(default=256, ge=1)
    """Most rows in one forward. Rows of equal prompts stay together, also when they are more than this."""
    cache_tokens: int = Field(default=262_144, ge=1)
    """Most keys and values held at once, in tokens: rows times (longest prompt + largest budget). A batch that needs
    more is cut between prompts, never through the rows of one. A token costs layers x key-value heads x head dimension
    x 2 numbers: 12 KiB for Qwen2.5-0.5B in bfloat16, 36 KiB for 3B."""
    prefill_tokens: int = Field(default=8192, ge=1)
    """Most tokens of prompts, padding included, read in one forward."""


class TransformersSampler(Sampler):
    """The engine. What it returns depends on the requests and the weights, and on nothing it did before."""

    def __init__(self, config: Config, policy: Policy, *, compact: bool = True, static: bool = True) -> None:
        self.config, self.learner, self.compact, self.static = config, policy, compact, static
        self.plays_a_copy = config.ahead > 0
        self.policy = policy
        if self.plays_a_copy:  # with weights of its own; tokenizer and stop ids are shared
            self.policy = copy(policy)
            self.policy.model = deepcopy(policy.model).eval().requires_grad_(False)
        self.version = policy.version

    def sync(self, version: int) -> None:
        """Take the learner's weights: copy them, or note their version where they are the sampler's own."""
        if self.plays_a_copy:
            self.policy.model.load_state_dict(self.learner.model.state_dict())
            self.policy.version = version
        self.version = version

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """Generate one row a request, in the order of the requests."""
        # here, so that reading a spec does not load torch
        from policies.samplers.decode_loop import decode
        from policies.samplers.row_cache import fits_static_cache

        if self.version != self.policy.version:
            raise PolicyError(
                f"the sampler was synced to version {self.version} of the weights, the policy is at "
                f"{self.policy.version}: call sync(version) after every update"
            )
        has = f"{self.policy.name} has a context of"
        self.require_fitting(requests, self.policy.context, has, "lower max_tokens or shorten the prompts")
        # prompts of a batch are read in parts only where the static cache takes them; elsewhere the batch is cut
        whole = None if self.static and fits_static_cache(self.policy.model) else self.config.prefill_tokens
        limits = BatchLimits(self.config.rows, self.config.cache_tokens, whole)
        generations: dict[int, Generation] = {}
        for rows in cut(requests, limits):
            batch, options = [requests[row] for row in rows], {"compact": self.compact, "static": self.static}
            played = decode(self.policy, batch, sampling, self.config.prefill_tokens, **options)
            generations.update(zip(rows, played, strict=True))
        return [generations[row] for row in range(len(requests))]


def create(config: Config, policy: Policy) -> TransformersSampler:
    """Make the sampler of a policy."""
    return TransformersSampler(config, policy)


@dataclass(frozen=True)
class BatchLimits:
    """What one batch may hold at most. Rows of equal prompts stay together, also when they are more than this."""

    rows: int
    cache_tokens: int  # rows times columns; a row has room for the longest prompt and the largest budget
    prompt_tokens: int | None = None  # of all unique prompts, padded; None: they are read in parts

    def allow(self, rows: int, prompts: int, width: int, budget: int) -> bool:
        """Whether a batch fits, by its numbers of rows and prompts, its longest prompt and its largest budget."""
        return (
            rows <= self.rows
            and rows * (width + budget) <= self.cache_tokens
            and (self.prompt_tokens is None or prompts * width <= self.prompt_tokens)
        )


def cut(requests: Sequence[Request], limits: BatchLimits) -> Iterator[list[int]]:
    """Cut rows into batches, those of small prompts and budgets first, never through the rows of one prompt.

    A function of the requests alone, so that a resumed step cuts the same; similar lengths are neighbours.
    """
    rows_of: dict[Prompt, list[int]] = defaultdict(list)
    for row, request in enumerate(requests):
        rows_of[request.ids].append(row)
    budget_of = {prompt: max(requests[row].budget for row in rows) for prompt, rows in rows_of.items()}
    batch: list[int] = []
    prompts = width = budget = 0
    for prompt in sorted(rows_of, key=lambda prompt: len(prompt) + budget_of[prompt]):
        rows = rows_of[prompt]
        prompts, width, budget = prompts + 1, max(width, len(prompt)), max(budget, budget_of[prompt])
        if batch and not limits.allow(len(batch) + len(rows), prompts, width, budget):
            yield batch
            batch, prompts, width, budget = [], 1, len(prompt), budget_of[prompt]
        batch = batch + rows
    if batch:
        yield batch
