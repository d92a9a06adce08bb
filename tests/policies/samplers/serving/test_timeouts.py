from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from policies.samplers.contracts import Generation, Request, Sampling, Span
from policies.samplers.serving.client import ServerFault
from policies.samplers.serving.fleet import Fleet, FleetMember, Timeouts
from policies.samplers.serving.request_batch import RequestBatch

WEIGHTS: Any = SimpleNamespace(version=1, label="1-mine", adapter_name=None)


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time leaps to the next thing to do, so that hours take no time."""

    def __init__(self) -> None:
        self.now, loop = 0.0, self

        class Leaping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
            def select(self, timeout: float | None = None) -> Any:
                loop.now += timeout or 0.0
                return super().select(0)

        super().__init__(Leaping())

    def time(self) -> float:
        return self.now


class SharedServer:
    """Writes so many tokens a second of all its rows together, each of them after a delay."""

    def __init__(self, rate: float, delay_s: float = 0.0) -> None:
        self.rate, self.delay_s, self.num_rows = rate, delay_s, 0

    async def label(self) -> str:
        return WEIGHTS.label

    async def play(self, request: Request, *about: Any) -> Generation:
        try:
            async with asyncio.timeout(about[3]):
                return await self._write(request)
        except TimeoutError as late:
            raise ServerFault(f"no answer in {about[3]} s") from late

    async def _write(self, request: Request) -> Generation:
        self.num_rows += 1
        try:
            await asyncio.sleep(self.delay_s)
            left = float(request.budget)
            while left > 0:
                await asyncio.sleep(1.0)
                left -= self.rate / self.num_rows
        finally:
            self.num_rows -= 1
        num = request.budget
        return Generation((1,) * num, np.zeros(num, np.float32), None, "length", (Span(1, 0, num),))


def member_on(server: Any) -> FleetMember:
    member = FleetMember("http://a:1", None, 64, None)  # type: ignore[arg-type]
    member.server, member.is_trusted = server, True
    return member


def play(member: FleetMember, budgets: Sequence[int]) -> tuple[list[str], float]:
    """Play a batch on one server; give what went wrong, and how long it took."""
    fleet = Fleet(lambda url: member, [member])
    batch = RequestBatch(fleet, [member], Sampling(), (), WEIGHTS, random.Random(0))
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(batch.run([Request((1, row), row, budget) for row, budget in enumerate(budgets)]))
        return fleet.news, runner.get_loop().time()


@pytest.mark.parametrize(
    ("batches", "num_tokens", "num_rows", "limit_s"),
    [
        ([], 1000, 10, 300.0),  # 3 x 1000 x 10 / 100
        ([(0.01, 10)], 1000, 10, 30.0),
        ([(0.02, 10)], 1000, 10, 60.0),
        ([(0.02, 10), (0.01, 10)], 1000, 10, 60.0),  # the slowest counts
        ([(0.01, 10)], 1, 1, 30.0),  # the least
        ([(0.02, 10)], 1000, 40, 240.0),  # four times as many rows as were seen
        ([(0.02, 10), (0.01, 40)], 1000, 40, 60.0),  # so many were no slower
        ([(0.02, 10)], 1000, 1, 60.0),  # alone it need not be quicker
    ],
)
def test_a_row_gets_three_times_what_the_slowest_batch_lets_expect(
    batches: list[tuple[float, float]], num_tokens: int, num_rows: int, limit_s: float
) -> None:
    pace = Timeouts()
    for batch in batches:
        pace.saw(*batch)
    assert pace.limit_s(num_tokens, num_rows) == pytest.approx(limit_s)


def test_a_time_that_is_given_is_kept() -> None:
    pace = Timeouts(fixed_s=7.0)
    pace.saw(1000.0, 1)
    assert pace.limit_s(1000, 64) == 7.0


@pytest.mark.parametrize("seen", [[], [[100]], [[100] * 4], [[1] * 64]])
def test_no_row_of_a_long_batch_is_given_up_on_a_healthy_server(seen: list[list[int]]) -> None:
    """Those that are asked for first, too: what joins them makes them slower."""
    member = member_on(SharedServer(rate=100.0))
    for budgets in seen:
        play(member, budgets)
    news, seconds = play(member, [1024] * 32)
    assert news == []
    assert seconds == pytest.approx(1024 * 32 / 100, abs=32)


@pytest.mark.parametrize("num_rows", [1, 8])
def test_a_server_that_hangs_is_found_by_how_fast_a_row_was(num_rows: int) -> None:
    member = member_on(server := SharedServer(rate=100.0 * num_rows))
    play(member, [1000] * num_rows)  # ten seconds each
    server.delay_s = 1e6
    late = pytest.raises(ServerFault, match="no answer to /v1/completions in 300 s")
    with asyncio.Runner(loop_factory=LeapingLoop) as runner, late:
        runner.run(member.play(Request((1,), 1, 10_000), Sampling(), (), WEIGHTS))


def test_short_answers_behind_long_prompts_do_not_say_how_fast_a_server_writes() -> None:
    member = member_on(SharedServer(rate=1e6, delay_s=4.0))
    before = member.timeouts.limit_s(2048, 64)
    play(member, [1] * 32)
    assert member.timeouts.limit_s(2048, 64) == before
