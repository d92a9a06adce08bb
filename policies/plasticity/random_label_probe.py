"""The random-label probe: how well a copy learns arbitrary labels by heart, by the loss at the label's position.

Every prompt gets one of C classes at random, each a token of its own; nothing but memory helps, and chance is ln C. The
first look is at all prompts; the loss of every later one is the mean over the steps since the last, of the batches as
they were trained on.

Source: plasticity.md 3.2; the idea is from arXiv 2303.01486, whose target function and budget are not verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from policies.plasticity.copy_fit import Rows, fit, look_at, ordinary_tokens, rounds
from policies.plasticity.curves import Budget, Curve
from policies.policy import Policy


def random_prompts(tokens: Sequence[int], num: int, length: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Draw strings of ordinary tokens, for a probe that has no environment's prompts."""
    return [tuple(rng.choice(np.array(tokens), length).tolist()) for _ in range(num)]


def num_classes(asked: int, num_tokens: int) -> int:
    """How many classes there are: as many as asked for, and no more than ordinary tokens to name them."""
    return min(asked, num_tokens)


def labelled(prompts: Sequence[tuple[int, ...]], tokens: Sequence[int], classes: int, rng: np.random.Generator) -> Rows:
    """Put a random one of `classes` tokens behind each prompt; it alone is to be predicted."""
    names = rng.permutation(np.array(tokens))[: num_classes(classes, len(tokens))]
    labels = names[rng.integers(len(names), size=len(prompts))]
    rows = [torch.tensor([*prompt, int(label)]) for prompt, label in zip(prompts, labels, strict=True)]
    is_label = [torch.arange(len(row)) == len(row) - 1 for row in rows]
    return Rows(pad_sequence(rows, batch_first=True), pad_sequence(is_label, batch_first=True))


def probe(
    copy: Policy,
    budget: Budget,
    curve: Curve,
    stream: Callable[[str], np.random.Generator],
    *,
    batch: int,
    classes: int,
    prompts: Sequence[tuple[int, ...]],
) -> Iterator[int]:
    """Train a copy on labelled prompts, each once before any comes again. Yields the steps done.

    Metrics: loss and grad_norm, means of the steps since the last look.
    """
    rows = labelled(prompts, ordinary_tokens(copy), classes, stream("labels"))
    batches = (rows.take(torch.from_numpy(places)) for places in rounds(len(rows.ids_BT), batch, stream("batches")))
    for step in fit(copy, batches, budget, curve):
        if step in budget.looks:
            curve.look(step, {} if step else {"loss": look_at(copy, rows, budget.micro_tokens)["loss"]})
        yield step
