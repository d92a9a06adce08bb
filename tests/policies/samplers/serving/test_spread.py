from __future__ import annotations

import pytest

from policies.samplers.contracts import Request
from policies.samplers.serving.request_batch import spread


@pytest.mark.parametrize(
    ("groups", "num_servers", "tokens"),
    [
        ([(4, 10)] * 4, 2, [80, 80]),
        ([(1, 10), (8, 10), (1, 10), (8, 10)], 2, [90, 90]),
        ([(8, 10), (1, 10), (1, 10), (1, 10)], 2, [80, 30]),  # a prompt's rows are never parted
        ([(2, 10)], 3, [20, 0, 0]),
        ([(1, 100), (2, 10), (3, 10)], 2, [100, 50]),
    ],
)
def test_servers_get_whole_prompts_and_as_even_a_share_as_these_allow(
    groups: list[tuple[int, int]], num_servers: int, tokens: list[int]
) -> None:
    """Groups as (rows, budget)."""
    requests = [Request((prompt,), seed, budget) for prompt, (num, budget) in enumerate(groups) for seed in range(num)]
    members = list(range(num_servers))
    homes = spread(requests, members)  # type: ignore[arg-type]
    assert list(homes) == list(range(len(requests)))
    assert len({(requests[row].ids, home) for row, home in homes.items()}) == len(groups)
    shares = [sum(requests[row].budget for row in homes if homes[row] == member) for member in members]  # type: ignore[comparison-overlap]
    assert shares == tokens
