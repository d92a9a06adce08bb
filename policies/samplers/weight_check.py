"""The probe: does what plays a copy of the weights play the learner's, and nothing left over from before?

A fixed prompt, made from the vocabulary alone, is read on both sides, and the log-probs of tokens after it are
compared. It is longer than a block of a prefix cache (16 tokens on a GPU, 128 on a CPU), so that a cache that was not
cleared shows as well; the prompt's own log-probs vLLM would give without its cache. In float32 the gap of fresh weights
is 1e-6 to 1e-5, of weights stale by one update 1e-3 to 1e-1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from policies.errors import NonFiniteLogits, PolicyError
from policies.forward import call, evaluating
from policies.policy import Policy
from policies.samplers.contracts import Generation, Request, Sampling
from policies.samplers.token_distribution import log_distribution

NUM_PROMPT = 200  # tokens; more than a cache block, and not a multiple of one
NUM_TOKENS = 16
# Nats. float32: healthy below 1e-5, measured. Shorter types round the logits themselves (one between 8 and 16 to .06 in
# bfloat16): healthy small random models showed .01 to .6, so only gross faults show. On a GPU not verified.
LIMITS = {torch.float32: 1e-4, torch.bfloat16: 1.0}

SERVER_SAMPLING = Sampling(temperature=0.7)  # not 1, so that log-probs of another distribution show
SERVER_ROWS = 8


@dataclass(frozen=True)
class WeightCheck:
    """What both sides score: each of the tokens, as the one that follows the prompt."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]  # distinct, spread over the vocabulary


def make_probe(policy: Policy, context: int | None = None) -> WeightCheck:
    """Make the probe of a policy; `context` is the engine's, when that is shorter than the policy's."""
    # one place is left free, for engines that write a token to score it
    limits = [limit - 1 for limit in (context, policy.context) if limit is not None]
    num = min(NUM_PROMPT, *limits) if limits else NUM_PROMPT
    size = min(len(policy.tokenizer), policy.model.config.get_text_config().vocab_size)
    # Multiples of the golden ratio, modulo 1: spread evenly over the vocabulary, neighbours unlike.
    prompt = tuple((position * 2654435769 % 2**32) * size >> 32 for position in range(1, num + 1))
    num_tokens = min(NUM_TOKENS, size)
    return WeightCheck(prompt, tuple(number * size // num_tokens for number in range(num_tokens)))


def trainer_logprobs(policy: Policy, probe: WeightCheck) -> NDArray[np.float32]:
    """Score the probe's tokens with the learner's own weights: [tokens] nats, at temperature 1."""
    return _after_prompt(policy, probe, Sampling())[list(probe.tokens)]


def _after_prompt(policy: Policy, probe: WeightCheck, sampling: Sampling) -> NDArray[np.float32]:
    """Log-probs [V] of every token after the probe's prompt, by the learner's weights."""
    ids_BT = torch.tensor([probe.prompt], device=policy.device)
    with torch.inference_mode(), evaluating(policy.model):
        logits_V = call(policy.model, input_ids=ids_BT, logits_to_keep=1, use_cache=False).logits[0, -1]
        lp_V: NDArray[np.float32] = log_distribution(logits_V, sampling).cpu().numpy()
    if not np.isfinite(lp_V[list(probe.tokens)]).all():
        raise NonFiniteLogits("non-finite logits after the probe's prompt", policy.version)
    return lp_V


def probe_gap(policy: Policy, probe: WeightCheck, score: Callable[[WeightCheck], NDArray[np.float32]]) -> float:
    """Measure the largest gap of log-probs over the probe's tokens, nats; NaN is infinite. `score`: the sampler's."""
    gap = float(np.abs(score(probe) - trainer_logprobs(policy, probe)).max())
    return float("inf") if np.isnan(gap) else gap


def require_fresh(gap: float, most: float, version: int, who: str, remedy: str) -> None:
    """Stop when the probe found other weights than the learner's: when the gap is above `most`."""
    if gap > most:
        raise PolicyError(
            f"{who} does not play version {version} of the weights: on the probe its log-probs differ from the "
            f"learner's by {gap:.2g} nats, {most:.2g} is the limit. {remedy}"
        )


def require_healthy(policy: Policy) -> None:
    """Refuse a policy whose weights, or logits after the probe's prompt, are not all finite: `NonFiniteLogits`."""
    parameters = dict(policy.model.named_parameters())
    # a sum reads them twenty times as fast as `isfinite`, and is finite only if all are
    sums = torch.stack([parameter.detach().sum(dtype=torch.float32) for parameter in parameters.values()])
    broken = [
        name
        for (name, own), fine in zip(parameters.items(), sums.isfinite().tolist(), strict=True)
        if not fine and not own.isfinite().all()
    ]
    if broken:
        raise NonFiniteLogits(
            f"weights that are not finite in {len(broken)} of {len(parameters)} matrices, first in {broken[0]}",
            policy.version,
        )
    probe = make_probe(policy)
    trainer_logprobs(policy, replace(probe, prompt=probe.prompt[:NUM_TOKENS]))


@dataclass(frozen=True)
class ServerWeightCheck:
    """Rows of one token that a server is asked for, and what the learner says of every token.

    It is kept, so that a server that comes back later can be asked while the learner already changes its weights.
    """

    requests: tuple[Request, ...]
    lp_V: NDArray[np.float32]  # over the vocabulary, nats, at the temperature of `SERVER_SAMPLING`
    limit: float  # largest gap of healthy weights, nats

    @property
    def num_tokens(self) -> int:
        """Tokens of each row, written ones too."""
        return max(len(request.ids) + request.budget for request in self.requests)

    def gap(self, played: Sequence[Generation]) -> float:
        """Compute the largest |server's log-prob - learner's|, in nats; of a token unknown to the policy, inf."""
        tokens = [(one.ids[0], float(one.logprobs[0])) for one in played]
        return max(abs((float(self.lp_V[t]) if t < len(self.lp_V) else -np.inf) - lp) for t, lp in tokens)


def make_server_check(policy: Policy) -> ServerWeightCheck:
    """Read the probe's prompt with the learner's weights as they are now. `NonFiniteLogits`: it has diverged."""
    probe = make_probe(policy)
    requests = tuple(Request(probe.prompt, seed, budget=1) for seed in range(SERVER_ROWS))
    lp_V = _after_prompt(policy, probe, SERVER_SAMPLING)
    return ServerWeightCheck(requests, lp_V, LIMITS[policy.dtype])
