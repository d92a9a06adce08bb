"""What is read of an answer, and what is refused. Prompt 7 8, stop token 3, budget 4."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.samplers.contracts import Request, Span
from policies.samplers.serving.client import ServerFault, read_completion

REQUEST = Request((7, 8), seed=1, budget=4)


def answer(**changes: Any) -> bytes:
    choice = {
        "token_ids": [5, 6, 3],
        "prompt_token_ids": [7, 8],
        "finish_reason": "stop",
        "logprobs": {"token_logprobs": [-0.5, 0.0, -2.0]},
        **changes,
    }
    return json.dumps({"choices": [choice]}).encode()


def test_an_answer_becomes_a_generation() -> None:
    played = read_completion(answer(), REQUEST, [3, 4], version=9)
    assert (played.ids, played.finish, played.entropies) == ((5, 6, 3), "stop", None)
    assert played.logprobs.tolist() == [-0.5, 0.0, -2.0]
    assert played.spans == (Span(9, 0, 3),)


def test_how_a_row_ended_is_told_by_its_tokens() -> None:
    """A server may call a stop token in the last place either."""
    full = {"token_ids": [5, 6, 5, 6], "logprobs": {"token_logprobs": [-1.0] * 4}, "finish_reason": "length"}
    assert read_completion(answer(**full), REQUEST, [3], 0).finish == "length"
    full["token_ids"] = [5, 6, 5, 3]
    assert read_completion(answer(**full), REQUEST, [3], 0).finish == "stop"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_ids": None}, "choices.0.token_ids"),
        ({"logprobs": None}, "choices.0.logprobs"),
        ({"logprobs": {"token_logprobs": [-1.0, None, -1.0]}}, "token_logprobs.1"),
        ({"prompt_token_ids": [7, 9]}, "another prompt"),
        ({"finish_reason": "abort"}, "gave a row up"),
        ({"finish_reason": "repetition"}, "gave a row up"),
        ({"token_ids": [5, 3, 3]}, "do not end where a stop token is"),
        ({"token_ids": [5, 6, 5]}, "3 tokens for a budget of 4"),
        ({"token_ids": []}, "0 tokens for a budget of 4"),
        ({"token_ids": [5, 6, 5, 6, 3]}, "5 tokens for a budget of 4"),
        ({"logprobs": {"token_logprobs": [-1.0, -1.0]}}, "3 tokens and 2 log-probs"),
        ({"logprobs": {"token_logprobs": [-1.0, -1.0, 1e-6]}}, "above 0"),
        ({"logprobs": {"token_logprobs": [-1.0, -1.0, float("-inf")]}}, "not finite"),
    ],
)
def test_what_does_not_hold_together_is_the_servers_fault(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ServerFault, match=message):
        read_completion(answer(**changes), REQUEST, [3], 0)


@pytest.mark.parametrize("text", [b"", b"<html>", b"[]", b'{"choices": []}', b'{"error": "engine dead"}'])
def test_what_is_no_answer_is_the_servers_fault(text: bytes) -> None:
    with pytest.raises(ServerFault, match="cannot be read"):
        read_completion(text, REQUEST, [3], 0)
