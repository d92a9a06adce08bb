"""Beta Thompson sampling down a tree of arms: at each node the child whose success rate is plausibly the highest.

    S_n = sum of S_k, F_n = sum of F_k over the arms k below node n           (S_k, F_k as `beta_thompson` keeps them)
    at a node: theta_c ~ Beta(1 + S_c, 1 + F_c) for its children c; go to the child of the highest theta; until an arm
    P(arm) = product over its nodes of P(theta_c is the highest among its siblings)

Source: arXiv 1707.09727 for the discounted posteriors. That a curriculum's arms are the leaves of a tree of clusters of
the policy's hidden states is from arXiv 2606.19750, of which the abstract and its authors' summary were read and not
the algorithm: what is done at a node here is the plain rule, and no reproduction of theirs.
An arm's name is a path (`math/algebra`); a slice of a tree (docs/slices.md) brings the way to it in its parameters
`node_0`, `node_1`, ... Without either all arms are children of the root, and the rule is `beta_thompson`.
Reward: in [0, 1], others are refused. What was learnt of an arm counts for its neighbours too, level by level: a large
tree is searched in few picks, and an arm that is unlike its neighbours is found late. Weight gamma^s after s steps.
The probabilities at a node are computed by quadrature (`probability_of_best`), multiplied, drawn from and recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count, islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits import beta_thompson
from orchestrator.bandits.beta_thompson import BetaThompson
from orchestrator.bandits.contracts import ArmInfo, Floats
from orchestrator.bandits.probability_of_best import best_of_betas
from orchestrator.bandits.softmax import normalised

SOURCE = "arXiv 1707.09727, arXiv 2606.19750"

Way = tuple[str, ...]  # from the root to an arm
NODE = "node_"  # begins the names of the parameters that bring it


class Config(beta_thompson.Config):
    type: Literal["beta_thompson_tree"] = "beta_thompson_tree"  # type: ignore[assignment]


class BetaThompsonTree(BetaThompson):
    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config)
        self.ways = {arm: way_to(arm, {}) for arm in self.arms}
        self._placed = set[str]()  # arms whose way is not their name's

    def introduce(self, about: Mapping[str, ArmInfo], num_steps: int | None = None) -> None:
        super().introduce(about, num_steps)
        for arm in self.arms:
            self._place_arm(arm, about.get(arm))

    def preferences(self) -> Floats:
        found: Floats = np.zeros(len(self.arms), np.float64)
        self._share(np.arange(len(self.arms)), 0, 1.0, found)
        return normalised(found)

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        super().add(arm, about)
        self._place_arm(arm, about)

    def state(self) -> dict[str, Any]:
        if not self.as_arrays:
            return {**super().state(), "ways": {arm: list(self.ways[arm]) for arm in self.arms}}
        placed = [k for k, arm in enumerate(self.arms) if arm in self._placed]
        ways = [self.ways[self.arms[k]] for k in placed]
        steps = [*chain.from_iterable(ways)]  # of all ways, one after the other
        numbers = {node: number for number, node in enumerate(dict.fromkeys(steps))}
        return {
            **super().state(),
            "placed": np.array(placed, np.int64),
            "nodes": [*numbers],
            "ways_by_number": np.fromiter(map(numbers.__getitem__, steps), np.int64, len(steps)),
            "way_lengths": np.fromiter(map(len, ways), np.int64, len(ways)),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        if "ways" in state:
            ways = {arm: tuple(way) for arm, way in state["ways"].items()}
        else:
            steps = map(state["nodes"].__getitem__, np.asarray(state["ways_by_number"]).tolist())
            placed = zip(np.asarray(state["placed"]).tolist(), np.asarray(state["way_lengths"]).tolist(), strict=True)
            ways = {self.arms[k]: tuple(islice(steps, length)) for k, length in placed}
        self._placed = {arm for arm, way in ways.items() if way != way_to(arm, {})}
        self.ways = {arm: ways[arm] if arm in ways else way_to(arm, {}) for arm in self.arms}

    def _place_arm(self, arm: str, about: ArmInfo | None) -> None:
        features = about.features if about else {}
        self.ways[arm] = way_to(arm, features)
        (self._placed.add if f"{NODE}0" in features else self._placed.discard)(arm)

    def _share(self, arms: NDArray[np.intp], depth: int, probability: float, found: Floats) -> None:
        """Share a node's probability among its children, [K] in place; `arms` are those below it."""
        while len(children := self._children(arms, depth)) == 1 and len(arms) > 1:
            depth += 1
        if len(arms) == 1:
            found[arms] = probability
            return
        total = np.array([self.total[own].sum() for own in children])
        weight = np.array([self.weight[own].sum() for own in children])
        shares = best_of_betas(1 + total, 1 + np.maximum(weight - total, 0.0))
        for own, share in zip(children, shares.tolist(), strict=True):
            self._share(own, depth + 1, probability * share, found)

    def _children(self, arms: NDArray[np.intp], depth: int) -> Sequence[NDArray[np.intp]]:
        """Group the arms below a node by where they go next; an arm that ends there is a child of its own."""
        groups: dict[tuple[str, str], list[int]] = {}
        for k in arms.tolist():
            way = self.ways[self.arms[k]]
            key = (way[depth], "") if depth < len(way) else ("", self.arms[k])
            groups.setdefault(key, []).append(k)
        return [np.array(own, np.intp) for _, own in sorted(groups.items())]


def way_to(arm: str, features: Mapping[str, float]) -> Way:
    """Give the way to an arm: the folders of its name, then its nodes, or where it has none its own name."""
    *folders, name = arm.split("/")
    nodes: list[str] = []
    for depth in count():
        if (branch := features.get(f"{NODE}{depth}")) is None:
            return (*folders, *(nodes or [name]))
        nodes.append(f"{branch:g}")
    raise AssertionError("a way has no end")


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> BetaThompsonTree:
    return BetaThompsonTree(arms, rng, config)
