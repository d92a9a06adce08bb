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

    def allow(self, rows: int, prompts: int, width: int, budget: int) -> bool:
        """Whether a batch fits, by its numbers of rows and prompts, its longest prompt and its largest budget."""
        return (
            rows <= self.rows
            and rows * (width + budget) <= self.cache_tokens
            and (self.prompt_tokens is None or prompts * width <= self.prompt_tokens)
        )


def cut(requests: Sequence[Request], limits: BatchLimits) -> Iterator[list[int]]:
    """Cut rows into batches, those of small prompts and budgets first, never through the rows of one prompt.

    Rows of one prompt stand together; similar lengths are neighbours, so that little of a batch is padding.
    """
    rows_of: dict[Prompt, list[int]] = defaultdict(list)
    for row, request in enumerate(requests):
        rows_of[request.ids].append(row)
    budget_of = {prompt: max(requests[row].budget for row in rows) for prompt, rows in rows_of.items()}
    batch: list[int] = []
    prompts = width = budget = 0
    for prompt in sorted(rows_of, key=lambda prompt: len(prompt) + budget_of[prompt]):
        rows = rows_of[prompt]
        prompts, width, budget = prompts + 1, max(width, len(prompt)), max(budget, budget_of[prompt])
        if batch and not limits.allow(len(batch) + len(rows), prompts, width, budget):
            yield batch
            batch, prompts, width, budget = [], 1, len(prompt), budget_of[prompt]
        batch = batch + rows
    if batch:
        yield batch
