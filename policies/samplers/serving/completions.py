"""One row as `/v1/completions` takes it, and what has to hold of the answer before it is believed.

Every sampling field is sent, because a server fills in what is left out from the model's own generation config.
`ignore_eos` leaves the stop ids sent as the only ones. T = number of new tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from policies.samplers.contracts import Finish, Generation, Request, Sampling, Span
from policies.samplers.serving.errors import ServerFault


class _Logprobs(BaseModel):
    token_logprobs: list[float]


class _Choice(BaseModel):
    token_ids: list[int]
    prompt_token_ids: list[int]
    finish_reason: str
    logprobs: _Logprobs


class _Completion(BaseModel):
    choices: tuple[_Choice]


def ask(request: Request, sampling: Sampling, stop_ids: Sequence[int]) -> dict[str, Any]:
    """Write a request as the body of a POST; asked twice, it is the same request."""
    return {
        "prompt": list(request.ids),
        "max_tokens": request.budget,
        "seed": request.seed,
        "temperature": 0.0 if sampling.greedy else sampling.temperature,
        "top_p": 1.0 if sampling.greedy else sampling.top_p,
        "top_k": 0 if sampling.greedy else sampling.top_k,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "min_tokens": 0,
        "n": 1,
        "stop_token_ids": list(stop_ids),
        "ignore_eos": True,
        "add_special_tokens": False,
        "logprobs": 0,  # of the sampled token alone
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,  # not as text, which nobody reads
    }


def believe(text: bytes, request: Request, stop_ids: Sequence[int], version: int) -> Generation:
    """Read an answer.

    Raises:
        ServerFault: it is not whole, does not belong to the request, or contradicts itself.
    """
    try:
        (choice,) = _Completion.model_validate_json(text).choices
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ServerFault(f"its answer cannot be read: {where or 'the whole'}: {first['msg']}") from wrong
    logprobs = np.asarray(choice.logprobs.token_logprobs, dtype=np.float32)
    finish = _finish(choice, request, frozenset(stop_ids))
    if len(logprobs) != len(choice.token_ids):
        raise ServerFault(f"it sent {len(choice.token_ids)} tokens and {len(logprobs)} log-probs")
    if not np.isfinite(logprobs).all() or (logprobs > 0).any():
        raise ServerFault("it sent a log-prob that is not finite or above 0")
    ids = tuple(choice.token_ids)
    return Generation(ids, logprobs, None, finish, (Span(version, 0, len(ids)),))


def _finish(choice: _Choice, request: Request, stop_ids: frozenset[int]) -> Finish:
    """Say how the row ended, by its own tokens; the server must agree that it ended well."""
    ids = choice.token_ids
    if choice.prompt_token_ids != list(request.ids):
        raise ServerFault("it answered another prompt than the one sent")
    if choice.finish_reason not in ("stop", "length"):
        raise ServerFault(f"it gave a row up (finish_reason {choice.finish_reason!r})")
    stopped = bool(ids) and ids[-1] in stop_ids
    if not stop_ids.isdisjoint(ids[:-1]) or not (stopped or len(ids) == request.budget):
        raise ServerFault(
            f"it sent {len(ids)} tokens for a budget of {request.budget}, and they do not end where a stop token is"
        )
    if len(ids) > request.budget:
        raise ServerFault(f"it sent {len(ids)} tokens for a budget of {request.budget}")
    return "stop" if stopped else "length"
