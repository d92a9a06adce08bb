"""Which part of a tensor a rank saves, in meshes of many ranks that are not there; where the policy is meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, zeros
from torch.testing._internal.distributed.fake_pg import FakeStore

from policies.config import LearnerConfig, PolicyConfig
from policies.learner import Learner
from policies.micro_batches import SCORE
from policies.objectives.config import ObjectiveConfig
from policies.objectives.objective import Objective
from policies.optimizer import Part
from policies.ranks import Ranks
from policies.samplers.testing import random_policy
from policies.sharding import part_of, place_of
from tests.policies.fakes import random_trajectories


@contextmanager
def rank(number: int, *mesh: int) -> Iterator[DTensor]:
    """Be one of a mesh of ranks, which gives and takes nothing, with a tensor of seven rows spread over the last."""
    size = torch.Size(mesh).numel()
    dist.init_process_group("fake", rank=number, world_size=size, store=FakeStore())
    try:
        placements = [*[Replicate()] * (len(mesh) - 1), Shard(0)]
        yield zeros(7, 3, device_mesh=init_device_mesh("cpu", mesh), placements=placements)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("number", "rows", "first"), [(0, 2, 0), (1, 2, 2), (2, 2, 4), (3, 1, 6)], ids=lambda given: str(given)
)
def test_a_rank_saves_its_own_rows(number: int, rows: int, first: int) -> None:
    with rank(number, 4) as own:
        assert place_of(own) == ((rows, 3), (first, 0))
        assert own.to_local().shape == (rows, 3)
        assert part_of(own) == Part(number + 1, 4)


def test_a_rank_without_rows_saves_none_of_them() -> None:
    with rank(4, 5) as own:
        shape, offset = place_of(own)
        assert shape == tuple(own.to_local().shape) == (0, 3)
        assert offset == (7, 0)


@pytest.mark.parametrize(("number", "part"), [(0, Part(1, 2)), (1, Part(2, 2)), (2, None), (3, None)])
def test_of_copies_the_first_is_saved(number: int, part: Part | None) -> None:
    with rank(number, 2, 2) as own:
        assert place_of(own) == ((4, 3), (0, 0)) if number % 2 == 0 else ((3, 3), (4, 0))
        assert part_of(own) == part


def test_with_the_optimiser_on_the_host_the_policy_is_there_while_its_shards_are_updated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Ranks.join(tmp_path / "meeting", 0, 1)
    try:
        policy = random_policy()
        config = LearnerConfig(lr=1e-3, warmup=0).resolved(PolicyConfig())
        learner = Learner(policy, config, work=work, optimizes_on_host=True)
        went: list[str] = []
        monkeypatch.setattr(policy.model, "to", lambda device: went.append(str(device)))
        work.device = torch.device("cuda", 0)  # where it would go, without one here
        model = learner.update_passes.policy.model
        scored = getattr(model, SCORE)
        monkeypatch.setattr(model, SCORE, lambda *given: (went.append("update"), scored(*given))[1])
        played, objective = random_trajectories(len(policy.tokenizer)), Objective(ObjectiveConfig(preset="rloo"))
        learner.learn(played, objective)
        assert [went[0], went[-1]] == ["cpu", "cuda:0"]
        assert set(went[1:-1]) == {"update"}
        with pytest.raises(ZeroDivisionError):
            learner.learn(played, objective, refuses=lambda name, value: bool(1 // 0))
        assert went[-1] == "cuda:0", "whatever ended the update"
    finally:
        work.leave()
