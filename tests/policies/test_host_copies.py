"""Copies of tensors in host memory: what they hold, share and use again."""

import torch

from policies.host_copies import HostCopies


def test_copies_stay_as_they_were_when_the_tensors_move() -> None:
    copies, moving = HostCopies(), {"a": torch.arange(6.0).view(2, 3).T, "b": torch.ones(4, dtype=torch.bfloat16)}
    taken = copies.of("weights", moving)
    for tensor in moving.values():
        tensor.zero_()
    assert torch.equal(taken["a"], torch.arange(6.0).view(2, 3).T)
    assert taken["a"].stride() == (1, 3)
    assert torch.equal(taken["b"], torch.ones(4, dtype=torch.bfloat16))


def test_what_shares_memory_shares_it_in_the_copies() -> None:
    table = torch.randn(5, 2)
    taken = HostCopies().of("weights", {"embed": table, "head": table, "rows": table[2:], "own": table.clone()})
    assert taken["embed"].data_ptr() == taken["head"].data_ptr()
    assert taken["rows"].data_ptr() == taken["embed"][2:].data_ptr()
    assert torch.equal(taken["rows"], table[2:])
    assert taken["own"].data_ptr() != taken["embed"].data_ptr()


def test_the_next_copies_use_the_same_memory() -> None:
    copies, weight = HostCopies(), torch.arange(64.0)
    first, other = copies.of("weights", {"w": weight}), copies.of("optimizer", {"w": weight})
    weight.add_(1)
    second = copies.of("weights", {"w": weight})
    assert second["w"].data_ptr() == first["w"].data_ptr()
    assert torch.equal(first["w"], weight)
    assert torch.equal(other["w"], weight - 1)
    grown = torch.randn(65)
    assert torch.equal(copies.of("weights", {"w": grown, "empty": torch.empty(0)})["w"], grown)
