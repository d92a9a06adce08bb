"""One version's weights to all servers of a fleet through a group, which is made again when servers have changed.

What does not come through the group goes as files, when the fleet is brought up next; that is told.
"""

from __future__ import annotations

import asyncio

from policies.errors import PolicyError
from policies.samplers.serving.client import ServerFault
from policies.samplers.serving.fleet import Fleet, FleetMember, Weights
from policies.samplers.serving.weight_group import GroupBroken, NamedTensors, WeightGroup

BACKEND = "nccl"
HOW_TO_START = (
    'start it with --weight-transfer-config \'{"backend": "nccl"}\', as `evergreen serve` does for a spec with '
    "`hand_over: nccl`"
)


class GroupHandOver:
    """Hands weights to the servers of a fleet."""

    def __init__(self, fleet: Fleet, group: WeightGroup) -> None:
        self._fleet, self._group = fleet, group
        self._is_first = True
        self._able: dict[FleetMember, tuple[int, bool]] = {}  # `num_met` when it was asked, and what it said
        self._in_group: list[tuple[FleetMember, int]] = []  # with `num_met` when they joined

    async def run(self, weights: Weights, tensors: NamedTensors) -> None:
        """Give them to the servers there are. `PolicyError`, of the first time: one was not started for it."""
        able = await self._look(weights)
        self._is_first = False
        if not able:
            await self.close()
            return
        try:
            if self._in_group != (now := [(member, member.num_met) for member in able]):
                self._in_group = []
                await self._group.connect([member.server for member in able])
                self._in_group = now
            await self._group.send(tensors, weights.label)
        except GroupBroken as broken:
            await self._give_up(able, broken)
        except BaseException:  # a refusal, or Ctrl-C
            await self.close()
            raise
        else:
            for member in able:
                member.received = weights.label

    async def close(self) -> None:
        """End the group."""
        self._in_group = []
        await self._group.close()

    async def _look(self, weights: Weights) -> list[FleetMember]:
        """See which servers there are, and can be in a group."""
        members = self._fleet.members
        looks = (self._is_able(member, weights) for member in members)
        results = await asyncio.gather(*looks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ServerFault):
                raise result
        return [member for member, result in zip(members, results, strict=True) if result is True]

    async def _is_able(self, member: FleetMember, weights: Weights) -> bool:
        await member.look(weights, self._fleet.news)
        num_met, was_able = self._able.get(member, (None, None))
        if num_met == member.num_met and was_able is not None:
            return was_able
        is_able = await member.server.transfer_backend() == BACKEND
        self._able[member] = member.num_met, is_able
        if not is_able and self._is_first:
            raise PolicyError(
                f"sampler.hand_over: nccl: {member.url} was not started for it: {HOW_TO_START}, or say "
                "`hand_over: files`"
            )
        if not is_able and was_able is not False:
            self._fleet.news.append(f"{member.url} is handed weights as files: {HOW_TO_START}")
        return is_able

    async def _give_up(self, members: list[FleetMember], broken: GroupBroken) -> None:
        """Leave the group, and have its servers take files; they may hold any weights by now, and are checked."""
        await self.close()
        await asyncio.gather(*map(self._put_in_order, members))
        for member in members:
            member.proven = member.received = None
        self._fleet.news.append(
            f"{', '.join(member.url for member in members)}: handed over by files until the group is rebuilt, which "
            f"is tried before the next update's weights. {broken}"
        )

    async def _put_in_order(self, member: FleetMember) -> None:
        try:
            await member.server.abandon_update()
        except ServerFault:  # told when it is brought up
            return
