from __future__ import annotations

import pytest

from policies.samplers.serving.fleet import Timeouts


@pytest.mark.parametrize(
    ("batches", "num_tokens", "num_rows", "limit_s"),
    [
        ([], 1000, 10, 300.0),  # 3 x 1000 x 10 / 100
        ([(1000, 1.0)], 1000, 10, 30.0),  # 30 by the rate, and 30 is the least
        ([(1000, 2.0)], 1000, 10, 60.0),
        ([(1000, 2.0), (1000, 1.0)], 1000, 10, 60.0),  # the slowest counts
        ([(1000, 1.0)], 1, 1, 30.0),
    ],
)
def test_a_row_gets_three_times_what_the_slowest_batch_lets_expect(
    batches: list[tuple[int, float]], num_tokens: int, num_rows: int, limit_s: float
) -> None:
    pace = Timeouts()
    for batch in batches:
        pace.saw(*batch)
    assert pace.limit_s(num_tokens, num_rows) == pytest.approx(limit_s)


def test_a_time_that_is_given_is_kept() -> None:
    pace = Timeouts(fixed_s=7.0)
    pace.saw(1, 1000.0)
    assert pace.limit_s(1000, 64) == 7.0
