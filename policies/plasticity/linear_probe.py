"""The linear probe: what of an item can be read off the policy's hidden states by a linear classifier.

Features are the hidden states of the last prompt token, at the middle layer and at the last. Scaled to unit variance,
they go into a logistic regression (C = 1), judged on five stratified folds by balanced accuracy, less its chance: 1 /
the number of classes, which any constant answer scores, whatever the classes' shares. With fewer items than twice the
width, a PCA fitted inside each fold comes before the regression, of half as many components as the fold has items to
fit. A drop after a stage is information lost.

Dimension letters: N items, F features.

Source: plasticity.md 3.2.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from policies.forward import evaluating
from policies.layers import decoder_layers
from policies.plasticity.label_classes import FOLDS, classes_to_tell
from policies.policy import Policy

ROWS = 32  # read at once


@torch.no_grad()
def last_hidden_states(policy: Policy, prompts: Sequence[tuple[int, ...]]) -> dict[str, NDArray[np.float64]]:
    """Read the hidden states [N, F] of each prompt's last token: at the "middle" layer, and at the "last".

    The last is behind the model's final norm. Without a list of layers there is no middle.
    """
    found: dict[str, list[NDArray[np.float64]]] = {}
    with evaluating(policy.model), _watching_the_middle(policy.model) as middle:
        for first in range(0, len(prompts), ROWS):
            rows = [torch.tensor(prompt) for prompt in prompts[first : first + ROWS]]
            end_B = torch.tensor([len(row) - 1 for row in rows], device=policy.device)
            ids_BT = pad_sequence(rows, batch_first=True, padding_value=policy.pad_id).to(policy.device)
            # causal, so that padding on the right is read by nothing that counts
            last_BTF = policy.model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
            for name, states_BTF in (*(("middle", one) for one in middle), ("last", last_BTF)):
                states_BF = states_BTF[torch.arange(len(rows), device=policy.device), end_B]
                found.setdefault(name, []).append(states_BF.double().cpu().numpy())
            middle.clear()
    return {name: np.concatenate(own) for name, own in found.items()}


@contextmanager
def _watching_the_middle(model: Any) -> Iterator[list[Tensor]]:
    """Keep what the middle layer of a model gives, inside the block.

    A hook of our own: the library leaves its hooks on the model once it was asked for all hidden states.
    """
    layers = list(decoder_layers(model).values())
    kept: list[Tensor] = []
    if not layers:
        yield kept
        return
    watched = layers[(len(layers) - 1) // 2]
    hook = watched.register_forward_hook(
        lambda module, given, made: kept.append(made[0] if isinstance(made, tuple) else made)
    )
    try:
        yield kept
    finally:
        hook.remove()


def decodability(features_NF: NDArray[np.float64], labels: Sequence[str], seed: int = 0) -> float | None:
    """Balanced accuracy over chance, mean of the folds; None: not two classes to tell apart.

    Classes with fewer members than folds are left out. The folds depend on the labels and the seed alone.
    """
    python = random.getstate()  # which importing scikit-learn draws from
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random.setstate(python)
    classes = classes_to_tell(labels)
    if len(classes) < 2:
        return None
    kept = np.array([label in classes for label in labels], bool)
    x_NF, y_N = features_NF[kept], np.array(labels)[kept]
    scores = []
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x_NF, y_N):
        steps = [StandardScaler(), LogisticRegression(C=1.0, max_iter=1000)]
        if len(y_N) < 2 * x_NF.shape[1]:
            steps.insert(1, PCA(min(len(train) // 2, x_NF.shape[1]), svd_solver="full"))
        with warnings.catch_warnings():  # that it has not converged is part of the score
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = make_pipeline(*steps).fit(x_NF[train], y_N[train])
        scores.append(balanced_accuracy_score(y_N[test], model.predict(x_NF[test])))
    return float(np.mean(scores)) - 1 / len(classes)
