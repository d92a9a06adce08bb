"""Plays through the transformers library: always there, exact, resumable, right for any architecture it knows.

Equal prompts are read once, rows that have ended leave the batch, every row has a random stream of its own, and
log-probs and exact entropies under the sampling distribution come from the same pass, in float32 whatever the
model's dtype. Plain attention is played on memory allocated once, all else on the library's own cache. Weights are the
learner's own, unless `ahead: 1` asks for a copy that plays while the learner updates. On any device, with one wait for
it a token; large models on a GPU belong to `vllm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from policies.errors import PolicyError
from policies.samplers.contracts import Generation, Request, Sampler, Sampling
from policies.samplers.options import SamplerOptions
from policies.samplers.request_batches import BatchLimits, cut

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
    more is cut between prompts. A token costs layers x key-value heads x head dimension x 2 numbers: 12 KiB for
    Qwen2.5-0.5B in bfloat16, 36 KiB for 3B."""
    prefill_tokens: int = Field(default=8192, ge=1)
    """Most tokens of prompts, padding included, read in one forward."""


class TransformersSampler(Sampler):
    """The engine. What it returns depends on the requests and the weights, and on nothing it did before."""

    def __init__(self, config: Config, policy: Policy, *, compact: bool = True, static: bool = True) -> None:
        self.config, self.learner, self.compact, self.static = config, policy, compact, static
        self.plays_a_copy = config.ahead > 0
        self.policy = copy_of(policy) if self.plays_a_copy else policy
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

        self._require_playable(requests)
        # prompts of a batch are read in parts only where the static cache takes them; elsewhere the batch is cut
        whole = None if self.static and fits_static_cache(self.policy.model) else self.config.prefill_tokens
        limits = BatchLimits(self.config.rows, self.config.cache_tokens, whole)
        generations: dict[int, Generation] = {}
        for rows in cut(requests, limits):
            batch, options = [requests[row] for row in rows], {"compact": self.compact, "static": self.static}
            played = decode(self.policy, batch, sampling, self.config.prefill_tokens, **options)
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


def copy_of(policy: Policy) -> Policy:
    """Make a policy with weights of its own; tokenizer and stop ids are shared."""
    own = copy(policy)
    own.model = deepcopy(policy.model).eval().requires_grad_(False)
    return own
