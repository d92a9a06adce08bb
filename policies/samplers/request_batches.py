"""Cutting requests into batches that fit: a function of the requests alone, so that a resumed step cuts the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from policies.samplers.contracts import Request

Prompt = tuple[int, ...]


@dataclass(frozen=True)
class BatchLimits:
    """What one batch may hold at most. Rows of equal prompts stay together, also when they are more than this."""

    rows: int
    cache_tokens: int  # rows times columns; a row has room for the longest prompt and the largest budget
    prompt_tokens: int | None = None  # of all unique prompts, padded; None: they are read in parts

    def allow(self, size: _Size) -> bool:
        """Whether a batch of this size fits."""
        return (
            size.rows <= self.rows
            and size.rows * (size.width + size.budget) <= self.cache_tokens
            and (self.prompt_tokens is None or size.prompts * size.width <= self.prompt_tokens)
        )


@dataclass(frozen=True)
class _Size:
    rows: int = 0
    prompts: int = 0
    width: int = 0  # of the longest prompt
    budget: int = 0  # the largest

    def __add__(self, other: _Size) -> _Size:
        return _Size(
            self.rows + other.rows,
            self.prompts + other.prompts,
            max(self.width, other.width),
            max(self.budget, other.budget),
        )


def cut(requests: Sequence[Request], limits: BatchLimits) -> Iterator[list[int]]:
    """Cut rows into batches, those of small prompts and budgets first, never through the rows of one prompt.

    Rows of one prompt stand together; similar lengths are neighbours, so that little of a batch is padding.
    """
    rows_of: dict[Prompt, list[int]] = defaultdict(list)
    for row, request in enumerate(requests):
        rows_of[request.ids].append(row)
    groups = [
        (_Size(len(rows), 1, len(prompt), max(requests[row].budget for row in rows)), rows)
        for prompt, rows in rows_of.items()
    ]
    batch: list[int] = []
    held = _Size()
    for size, rows in sorted(groups, key=lambda group: group[0].width + group[0].budget):
        if batch and not limits.allow(held + size):
            yield batch
            batch, held = [], _Size()
        batch, held = batch + rows, held + size
    if batch:
        yield batch
