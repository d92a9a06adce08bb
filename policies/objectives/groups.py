"""Sums and means inside groups, given back at every member. B sequences; groups may have any size and order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def group_size(group_B: Tensor) -> Tensor:
    """How many rows share each row's group, int64 [B]."""
    return group_sum(group_B.new_ones(len(group_B)), group_B)


def group_sum(value_B: Tensor, group_B: Tensor) -> Tensor:
    """The sum over each row's group, [B]."""
    index_B, num_groups = _numbered(group_B)
    return value_B.new_zeros(num_groups).index_add(0, index_B, value_B)[index_B]


def group_max(value_B: Tensor, group_B: Tensor) -> Tensor:
    """The largest of each row's group, [B]."""
    index_B, num_groups = _numbered(group_B)
    return value_B.new_zeros(num_groups).scatter_reduce(0, index_B, value_B, "amax", include_self=False)[
        index_B
    ]


def centred(value_B: Tensor, group_B: Tensor) -> Tensor:
    """The value minus its group's mean, [B]; exactly 0 where all members are equal, or alone.

    Exactly, because a rounding error divided by the standard deviation of rounding errors is not small.
    """
    index_B, num_groups = _numbered(group_B)
    zero_N = value_B.new_zeros(num_groups)
    least_N = zero_N.scatter_reduce(0, index_B, value_B, "amin", include_self=False)
    most_N = zero_N.scatter_reduce(0, index_B, value_B, "amax", include_self=False)
    mean_B = group_sum(value_B, group_B) / group_size(group_B)
    return (value_B - mean_B).masked_fill((least_N == most_N)[index_B], 0.0)


def _numbered(group_B: Tensor) -> tuple[Tensor, int]:
    """Groups numbered from 0 at each row, and how many there are."""
    unique_N, index_B = group_B.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    return index_B, len(unique_N)
