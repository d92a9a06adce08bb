"""Names that are shortened together still differ."""

from __future__ import annotations

import pytest

from store.labels import told_apart

GRID = [f"{o} lr={lr} replay={r} size=8" for o in ("repo", "rloo") for lr in (0.001, 0.003) for r in (0.25, 0.5)]
ALIKE = [f"environment_number_{i:02}_with_a_name" for i in (10, 11, 12)]


@pytest.mark.parametrize(
    ("names", "limit", "shown"),
    [
        (["rloo", "repo lr=1"], 9, ["rloo", "repo lr=1"]),
        (GRID, 40, GRID),
        (GRID[:2], 20, ["replay=0.25", "replay=0.5"]),
        (GRID[:3], 20, ["lr=0.001 replay=0.25", "lr=0.001 replay=0.5", "lr=0.003 replay=0.25"]),
        (GRID[2:5], 20, ["repo lr=0.003…y=0.25", "repo lr=0.003…ay=0.5", "rloo lr=0.001…y=0.25"]),
        (ALIKE, 12, ["…10…", "…11…", "…12…"]),
        (["rloo lr=0.0001", "rloo lr=0.0001 replay=0"], 12, ["rloo lr=…001", "rloo lr=…y=0"]),
        (["x" * 30], 12, ["xxxxxxxx…xxx"]),
        ([], 12, []),
    ],
)
def test_names_that_are_shortened_together_still_differ(names: list[str], limit: int, shown: list[str]) -> None:
    assert list(told_apart(names, limit).items()) == list(zip(names, shown, strict=True))


@pytest.mark.parametrize("limit", [8, 12, 16, 24, 32])
def test_names_are_cut_no_shorter_than_they_differ(limit: int) -> None:
    assert len({*told_apart(GRID, limit).values()}) == len(GRID)


def test_where_there_is_no_room_names_are_cut_all_the_same() -> None:
    assert {len(name) for name in told_apart(GRID, 12, longest=12).values()} == {12}
    assert list(told_apart(ALIKE, 12, longest=12).values()) == ["…10…", "…11…", "…12…"]
