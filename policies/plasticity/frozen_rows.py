"""Frozen rows: prompts with the first policy's answers as token ids, read again at every boundary.

Two policies are compared at the same states when both read the same text: nothing is generated, nothing is drawn, and
what differs is the policy (plasticity.md 1.3). Needs token ids alone.

Dimension letters: L tokens of all rows one after the other, R rows, P followed tokens, B rows of one batch, T tokens of
its longest row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

ROWS, NAMES = "rows.safetensors", "environments.json"

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Answer = tuple[Ints, Bools]  # ids [L] of a whole row, and which of them the policy wrote
Prompt = Sequence[Answer]  # the answers to one prompt


@dataclass(frozen=True)
class RowBatch:
    """Some frozen rows, padded on the right, on the CPU."""

    rows: Ints  # [B] places among all rows
    ids_BT: Tensor  # int64
    mask_BT: Tensor  # bool, the tokens that the policy wrote; none where a row is a prompt alone
    followed_BT: Tensor  # int64, the number of a token whose distribution is followed, else -1
    last_B: Tensor  # int64, the place of the prompt's last token
    is_ranked_B: Tensor  # bool


@dataclass(frozen=True)
class FrozenRows:
    """Rows of every environment; a row without an answer is a prompt that only ranks read."""

    names: tuple[str, ...]  # environments
    ids_L: NDArray[np.int32]
    mask_L: Bools  # tokens that the policy wrote
    followed_L: Bools  # those of them whose distribution is followed from boundary to boundary
    length_R: Ints
    environment_R: Ints  # places in `names`
    prompt_R: Ints  # rows with the same number, in an environment, answer one prompt
    is_ranked_R: Bools  # its prompt's last token is a row of the features whose ranks are taken: once a prompt

    @classmethod
    def take(
        cls,
        played: Mapping[str, Sequence[Prompt]],
        *,
        prompts: int,
        responses: int,
        positions: int,
        ranked: int = 0,
    ) -> FrozenRows:
        """Take the first answers to the first prompts of every environment.

        `positions` tokens of them are followed, as many of every environment, at least one, and evenly spaced.
        `ranked` prompts, from the environments in turn, are those of the ranks, if there are as many: beyond `prompts`
        without their answers.
        """
        known = {name: [prompt for prompt in own if _written(prompt)] for name, own in played.items()}
        in_turn = [
            (name, number)
            for turn in zip_longest(*([(name, number) for number in range(len(own))] for name, own in known.items()))
            for place in turn
            if place is not None
            for name, number in [place]
        ]
        chosen = set(in_turn[:ranked]) if len(in_turn) >= ranked else set()
        rows: list[tuple[int, int, Ints, Bools, bool]] = []
        for place, (name, own) in enumerate(known.items()):
            for number, prompt in enumerate(own):
                written, is_ranked = _written(prompt), (name, number) in chosen
                if number < prompts:
                    for k, (ids, mask) in enumerate(written[:responses]):
                        rows.append((place, number, ids, mask, is_ranked and k == 0))
                elif is_ranked:
                    ids = written[0][0][: int(written[0][1].argmax())]
                    rows.append((place, number, ids, np.zeros(len(ids), np.bool_), True))
        environment_R = np.array([row[0] for row in rows], np.int64)
        length_R = np.array([len(row[2]) for row in rows], np.int64)
        mask_L = _joined([row[3] for row in rows], np.bool_)
        return cls(
            names=tuple(known),
            ids_L=_joined([row[2] for row in rows], np.int32),
            mask_L=mask_L,
            followed_L=_spread(mask_L, environment_R.repeat(length_R), len(known), positions),
            length_R=length_R,
            environment_R=environment_R,
            prompt_R=np.array([row[1] for row in rows], np.int64),
            is_ranked_R=np.array([row[4] for row in rows], np.bool_),
        )

    def and_those_of(self, others: FrozenRows) -> FrozenRows:
        """Add the rows of environments that joined; the ranks go on reading the prompts that they began with."""
        arrays = {
            f.name: np.concatenate([getattr(self, f.name), getattr(others, f.name)])
            for f in fields(self)
            if f.name != "names"
        }
        arrays["environment_R"][len(self.length_R) :] += len(self.names)
        arrays["is_ranked_R"][len(self.length_R) :] = False
        return FrozenRows(names=(*self.names, *others.names), **arrays)

    @property
    def num_ranked(self) -> int:
        """Prompts whose features the ranks are of."""
        return int(self.is_ranked_R.sum())

    @property
    def num_followed(self) -> int:
        """Tokens whose distribution is followed."""
        return int(self.followed_L.sum())

    def sizes(self, name: str) -> tuple[int, int]:
        """Count the prompts of an environment that have answers, and the most answers of one."""
        is_own_R = (self.environment_R == self.names.index(name)) & (self.num_written > 0)
        _, nums = np.unique(self.prompt_R[is_own_R], return_counts=True)
        return len(nums), int(nums.max(initial=0))

    @cached_property
    def num_written(self) -> Ints:
        """Tokens of each row that the policy wrote, [R]."""
        row_L = np.arange(len(self.length_R)).repeat(self.length_R)
        return np.bincount(row_L[self.mask_L], minlength=len(self.length_R)).astype(np.int64)

    @cached_property
    def followed_environment(self) -> Ints:
        """The environment of each followed token, a place in `names`, [P]."""
        return self.environment_R.repeat(self.length_R)[self.followed_L]

    def batches(self, most_tokens: int) -> Iterator[RowBatch]:
        """Cut the rows into batches of so many padded tokens, longest first, those without an answer apart."""
        start_R = np.cumsum(self.length_R) - self.length_R
        number_L = np.where(self.followed_L, np.cumsum(self.followed_L) - 1, -1)
        for is_answered in (True, False):
            rows = np.flatnonzero((self.num_written > 0) == is_answered)
            rows = rows[np.argsort(-self.length_R[rows], kind="stable")]
            while len(rows):
                width = int(self.length_R[rows[0]])
                now, rows = np.split(rows, [max(1, most_tokens // width)])
                spans = [slice(start_R[row], start_R[row] + self.length_R[row]) for row in now]
                mask_BT = _padded([self.mask_L[span] for span in spans], width, False)
                last_B = mask_BT.argmax(-1) if is_answered else self.length_R[now]
                yield RowBatch(
                    rows=now,
                    ids_BT=torch.from_numpy(_padded([self.ids_L[span] for span in spans], width, 0).astype(np.int64)),
                    mask_BT=torch.from_numpy(mask_BT),
                    followed_BT=torch.from_numpy(_padded([number_L[span] for span in spans], width, -1)),
                    last_B=torch.from_numpy(last_B - 1),
                    is_ranked_B=torch.from_numpy(self.is_ranked_R[now]),
                )

    def save(self, folder: Path) -> None:
        """Write them; the same rows are the same bytes."""
        save_file({f.name: getattr(self, f.name) for f in fields(self) if f.name != "names"}, folder / ROWS)
        (folder / NAMES).write_text(json.dumps(self.names), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> FrozenRows:
        """Read what `save` wrote."""
        return cls(names=tuple(json.loads((folder / NAMES).read_text("utf-8"))), **load_file(folder / ROWS))


def _written(prompt: Prompt) -> list[Answer]:
    """The answers of which the policy wrote anything."""
    return [(ids, mask) for ids, mask in prompt if mask.any()]


def _spread(mask_L: Bools, environment_L: Ints, num: int, positions: int) -> Bools:
    """Choose as many written tokens of every environment, evenly spaced: `positions` at most in all, or one of each."""
    followed_L = np.zeros(len(mask_L), np.bool_)
    for environment in range(num):
        own = np.flatnonzero(mask_L & (environment_L == environment))
        most = min(len(own), max(1, positions // num))
        followed_L[own[np.arange(most) * len(own) // max(1, most)]] = True
    return followed_L


def _joined(parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)


def _padded(parts: Sequence[NDArray[Any]], width: int, filler: int | bool) -> NDArray[Any]:
    padded = np.full((len(parts), width), filler, parts[0].dtype)
    for into, own in zip(padded, parts, strict=True):
        into[: len(own)] = own
    return padded
