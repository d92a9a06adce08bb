"""Dynamic sampling: a group whose rewards are all equal is left out, and another task is played in its place.

    keep group g  <=>  max_i r_i > min_i r_i

Symbols: r_i the verifier's rewards of the group (the score's value or its correctness, as the objective reads them)
before any reward map, so that a length penalty does not make a solved group look useful. Groups are drawn until every
place of the batch holds one with spread, or `dynamic_sampling_rounds` rounds of generation are through; then the
update is made of what there is.

Ours: the bandit hears of every group that was generated, the dropped ones included; else solved and hopeless arms would
look as good as the rest. And a place is filled again from the arm that was picked for it, so that the mix that is
learned from is the mix that was chosen (DAPO knows no arms and keeps the first groups that come).

Entropy: groups without spread no longer stand in the denominator of a mean over tokens, so steps are larger, and
whatever the objective does to entropy it does faster. With parts that push where there is no signal (REPO, an entropy
bonus) fewer rows are pushed. Hazards: up to `dynamic_sampling_rounds` times as much generation where nearly everything
is solved or out of reach, so that the time of a step depends on the policy.

Empty cases: a group with fewer than two scored members carries no comparison and is not "without spread": it stays,
and gets an advantage of 0 as without this plan. If no group has spread there is no update.

Source: DAPO, arXiv 2503.14476, section 3.2, equation 11; verl `recipe/dapo` (`filter_groups`, `max_num_gen_batches`
10; users set 10 to 30).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from policies.objectives.parts import PartInfo, PartOptions

SOURCE = "arXiv 2503.14476"
INFO = PartInfo(
    plan="drops_even_groups", cost="more generation: groups without spread are played anew, up to ten times"
)


class Config(PartOptions):
    dynamic_sampling_rounds: int = Field(10, ge=1)
    """Most rounds of generation in a step, the first included; 1: groups without spread are dropped, not replaced."""


@dataclass(frozen=True)
class DynamicSampling:
    rounds: int

    def drops(self, rewards: Sequence[float]) -> bool:
        """Whether a group with these rewards of its scored members is left out, and played again."""
        return len(rewards) > 1 and max(rewards) == min(rewards)


def create(config: Config) -> DynamicSampling:
    return DynamicSampling(config.dynamic_sampling_rounds)
