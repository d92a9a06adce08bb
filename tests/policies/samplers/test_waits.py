"""How often the decode loop has the host wait for its device: on a CPU the same calls, which there cost nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from policies.policy import Policy
from policies.samplers.contracts import Generation, Sampling
from policies.samplers.decode_loop import LOOK_EVERY, decode
from policies.samplers.testing import CUT, random_policy, some_requests
from tests.policies.families import FAMILIES, made
from tests.shares import share

WAITING = {"item", "is_nonzero", "_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_dim"}
GREEDY, SAMPLED = Sampling(greedy=True), Sampling()


class Waits(TorchDispatchMode):
    """Counts calls whose result, or its shape, the host needs."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        is_by_mask = name.startswith(("index", "_index_put")) and any(_is_mask(one) for one in args[1:2])
        if name in WAITING or is_by_mask:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def _is_mask(indices: Any) -> bool:
    return isinstance(indices, list | tuple) and any(one is not None and one.dtype == torch.bool for one in indices)


def waits(policy: Policy, budget: int, sampling: Sampling, **options: Any) -> int:
    with Waits() as seen:
        decode(policy, some_requests(policy, budget=budget), sampling, 8192, **options)
    return seen.counts.total()


@pytest.fixture
def endless() -> Policy:
    policy = random_policy()
    policy.stop_ids = ()
    return policy


def test_a_call_that_waits_is_seen() -> None:
    values = torch.arange(4)
    with Waits() as seen:
        int(values.sum())
        bool(values.any())
        values.nonzero()
        values[values > 1]
    assert seen.counts.total() == 4


@pytest.mark.parametrize("sampling", share([SAMPLED, CUT, GREEDY], 1), ids=["sampled", "cut", "greedy"])
def test_the_host_waits_once_in_so_many_tokens(endless: Policy, sampling: Sampling) -> None:
    start = waits(endless, 1, sampling, look_every=LOOK_EVERY)
    assert start <= 3
    assert waits(endless, 100, sampling, look_every=LOOK_EVERY) - start == 100 // LOOK_EVERY
    assert waits(endless, 100, sampling, look_every=1) - start == 99


def test_rows_that_leave_cost_a_few_more_waits_at_a_look() -> None:
    assert waits(random_policy(), 100, SAMPLED, look_every=LOOK_EVERY) <= 3 + 4 * (100 // LOOK_EVERY)


@pytest.mark.parametrize("family", share(FAMILIES, 2))
def test_nor_does_the_library_wait_on_its_own_cache(endless: Policy, family: str) -> None:
    endless.model = made(family, len(endless.tokenizer), seed=1)
    start = waits(endless, 1, SAMPLED, look_every=LOOK_EVERY, static=False)
    found = waits(endless, 100, SAMPLED, look_every=LOOK_EVERY, static=False)
    assert found - start == 100 // LOOK_EVERY


def bits(generations: list[Generation]) -> list[tuple[Any, ...]]:
    return [(g.ids, g.finish, g.logprobs.tobytes(), np.asarray(g.entropies).tobytes()) for g in generations]


@pytest.mark.parametrize("look_every", [2, 5, LOOK_EVERY])
@pytest.mark.parametrize("sampling", [SAMPLED, CUT, GREEDY], ids=["sampled", "cut", "greedy"])
def test_how_often_it_looks_changes_not_a_bit(sampling: Sampling, look_every: int) -> None:
    policy = random_policy()
    requests = [*some_requests(policy, budget=5), *some_requests(policy, budget=40, step=1)]
    requests.sort(key=lambda request: request.ids)
    expected = decode(policy, requests, sampling, 8192)
    assert bits(decode(policy, requests, sampling, 8192, look_every=look_every)) == bits(expected)
    assert {g.finish for g in expected} == {"stop", "length"}
