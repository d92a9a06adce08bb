"""Clusters of environments: a scheduler over the clusters, and in each one of the same kind over its environments.

    P(environment) = P(cluster) P(environment | cluster)

Both levels hear what a stage earned. What was learnt of an environment so counts for its neighbours: among a hundred
environments a good cluster is found in as many stages as there are clusters, where a scheduler over all of them has to
begin with a hundred. Guards hold at each level: every cluster has a first stage, then every environment of one that is
picked; `min_share` is that of a cluster, and inside it that of an environment. A cluster of which nothing is left to
pick, because all of it is in quarantine, is not picked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback, Floats, Pick, StepFeedback
from orchestrator.schedulers.guards import GuardedScheduler

Make = Callable[[Sequence[str], str], Bandit]  # a scheduler over these names; and of what, in words


class ClusteredScheduler(Bandit):
    """Picks a cluster and in it an environment; `cluster_of` names that of every environment there may be."""

    def __init__(
        self, arms: Iterable[str], cluster_of: Mapping[str, str], make: Make, rng: np.random.Generator
    ) -> None:
        super().__init__(arms, rng)
        self.cluster_of = dict(cluster_of)
        names = sorted({self.cluster_of[arm] for arm in self.arms})
        self.outer = make(names, "clusters")
        self.inner = {name: make(self._members(name), f"cluster {name}") for name in names}
        self._make = make
        self._below: dict[str, tuple[Pick, Pick]] = {}  # by pending pick: the cluster's, and that inside it

    def why(self) -> Literal["new", "chosen"]:
        """Which guard decides the next cluster; `chosen`: none does."""
        is_new = isinstance(self.outer, GuardedScheduler) and self.outer.why() == "new"
        return "new" if is_new else "chosen"

    def preferences(self) -> Floats:
        clusters = self.outer.probabilities()
        inside = {name: self.inner[name].probabilities() for name in clusters}
        of = [(arm, self.cluster_of[arm]) for arm in self.arms]
        return np.array([clusters[name] * inside[name][arm] for arm, name in of])

    def enter(self, places: NDArray[np.intp], probabilities: Floats) -> list[Pick]:
        clusters = self.outer.probabilities()
        inside = {name: self.inner[name].probabilities() for name in clusters}
        picks = super().enter(places, probabilities)
        names = [self.cluster_of[pick.arm] for pick in picks]
        outer = self.outer.witness(names, [clusters[name] for name in names])
        for name in dict.fromkeys(names):
            own = [k for k, other in enumerate(names) if other == name]
            arms = [picks[k].arm for k in own]
            for k, pick in zip(own, self.inner[name].witness(arms, [inside[name][a] for a in arms]), strict=True):
                self._below[picks[k].id] = outer[k], pick
        return picks

    def learn(self, feedback: Sequence[Feedback]) -> None:
        super().learn(feedback)
        known = [(item, self._below.pop(item.pick.id)) for item in feedback if item.pick.id in self._below]
        self.outer.learn([replace(item, pick=outer) for item, (outer, _) in known])
        for name in dict.fromkeys(outer.arm for _, (outer, _) in known):
            own = [replace(item, pick=inner) for item, (outer, inner) in known if outer.arm == name]
            self.inner[name].learn(own)

    def observe(self, seen: StepFeedback) -> None:
        """Nothing is learnt here: the schedulers of both levels do."""

    def estimates(self) -> Floats:
        of_each = {name: self.inner[name] for name in self.outer.arms}
        values = {arm: value for inner in of_each.values() for arm, value in inner.by_arm(inner.estimates()).items()}
        return np.array([values[arm] for arm in self.arms])

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        super().add(arm, about)
        name = self.cluster_of[arm]
        inner = self.inner.setdefault(name, self._make([arm], f"cluster {name}"))
        if arm not in inner.arms:
            inner.add(arm, about)
        if name not in self.outer.arms:
            self.outer.add(name)
            for other in sorted({*inner.arms} - {*self.arms}):
                inner.retire(other)

    def retire(self, arm: str) -> None:
        super().retire(arm)
        name = self.cluster_of[arm]
        if self._members(name):
            self.inner[name].retire(arm)
        else:
            self.outer.retire(name)

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "clusters": self.cluster_of,
            "outer": self.outer.state(),
            "inner": {name: inner.state() for name, inner in self.inner.items()},
            "below": {number: [astuple(pick) for pick in both] for number, both in self._below.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.cluster_of = {**state["clusters"], **self.cluster_of}
        self.outer.load_state(state["outer"])
        for name, saved in state["inner"].items():
            self.inner.setdefault(name, self._make(saved["arms"], f"cluster {name}")).load_state(saved)
        self._below = {number: (Pick(*outer), Pick(*inner)) for number, (outer, inner) in state["below"].items()}

    def _members(self, cluster: str) -> list[str]:
        return [arm for arm in self.arms if self.cluster_of[arm] == cluster]


def clusters_of(clusters: Mapping[str, Sequence[str]], environments: Iterable[str]) -> dict[str, str]:
    """Give the cluster of each environment, by names and patterns such as `math_*`.

    Raises ValueError where a name or pattern means no environment, two clusters mean the same one, or none does.
    """
    names = sorted(environments)
    found: dict[str, str] = {}
    for cluster, patterns in clusters.items():
        for pattern in patterns:
            own = [name for name in names if fnmatchcase(name, pattern)]
            if not own:
                raise ValueError(
                    f"clusters.{cluster}: {pattern!r} is no environment to train on; there are {', '.join(names)}"
                )
            for name in own:
                if found.setdefault(name, cluster) != cluster:
                    raise ValueError(f"clusters: {name} is in {found[name]} and in {cluster}: leave it in one of them")
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"clusters: {', '.join(missing)} in none of them: put each into one, or into one of its own")
    return found
