"""The gradient of every preset does not depend on ranks: two processes, each with half of the groups' rows.

A survey reads the whole step, so each process surveys all of it; what follows sees its own rows and the totals of the
update alone, and gradients are summed.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from policies.objectives.presets import PRESETS
from tests.policies.objectives.steps import begun, on_every_tensor
from tests.policies.objectives.surrogates.case import Case, random_case

NUM_RANKS = 2
SEED = 3


def gradient(preset: str, case: Case, places: list[int]) -> Tensor:
    """Of some rows' share of the loss, with respect to a parameter that all log-probs and entropies depend on."""
    step = begun(preset, case)
    at = torch.tensor(places)
    found = step.fill(on_every_tensor(step.rows, lambda x: x[at]))
    rng = torch.Generator().manual_seed(SEED)
    features_PBT = torch.randn(5, *case.lp_BT.shape, generator=rng, dtype=torch.float64)
    theta_P = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    moved_BT = torch.einsum("pbt,p->bt", features_PBT[:, at], theta_P)
    loss = -(found.w_BT * moved_BT).sum()
    if found.k_BT is not None:
        loss = loss - (found.k_BT * moved_BT**2).sum() - (found.k_BT * moved_BT).sum()
    return torch.autograd.grad(loss, theta_P)[0]


def share_of(rank: int, num_rows: int) -> list[int]:
    """Rows of a rank; groups are cut."""
    return list(range(rank, num_rows, NUM_RANKS))


def work(rank: int, folder: str) -> None:
    """Sum the gradients of both ranks, preset by preset; rank 0 writes them down."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=NUM_RANKS)
    summed = {}
    for preset in PRESETS:
        case = random_case(SEED)
        own = gradient(preset, case, share_of(rank, len(case.lp_BT)))
        dist.all_reduce(own)
        summed[preset] = own
    if rank == 0:
        torch.save(summed, Path(folder) / "summed.pt")
    dist.destroy_process_group()


def test_the_number_of_ranks_does_not_matter(tmp_path: Path) -> None:
    """Reference: objectives.md 18."""
    # forked: a fresh process would import torch first
    mp.start_processes(work, args=(str(tmp_path),), nprocs=NUM_RANKS, start_method="fork")  # type: ignore[no-untyped-call]
    summed = torch.load(tmp_path / "summed.pt")
    assert set(summed) == set(PRESETS)
    for preset, found in summed.items():
        case = random_case(SEED)
        expected = gradient(preset, case, list(range(len(case.lp_BT))))
        torch.testing.assert_close(found, expected, msg=lambda text, preset=preset: f"{preset}: {text}")
        assert found.any(), preset
