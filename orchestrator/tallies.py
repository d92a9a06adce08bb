"""How the answers of policies that are only played ended: which budgets cut off, and why some have no score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from environments import Score
from environments.display import brief

MOST_CUT_OFF = 0.5  # share of an environment's answers; above it they say more of the budget than of the policy
REASONS = 3  # named
LONGEST_REASON = 200  # characters that are shown


@dataclass(frozen=True)
class Tally:
    """How so many answers ended."""

    num: int
    num_cut_off: int  # by a budget of tokens, turns or context
    reasons: Mapping[str, int]  # why answers have no score, the most frequent first

    @classmethod
    def of(cls, ended: Iterable[tuple[Score, bool]]) -> Tally:
        """Count answers: the score of each, and whether it was cut off."""
        known = list(ended)
        reasons = Counter(score.reason for score, _ in known if score.reason is not None)
        return cls(len(known), sum(was_cut_off for _, was_cut_off in known), dict(reasons.most_common()))

    @classmethod
    def together(cls, tallies: Iterable[Tally]) -> Tally:
        """Add them up."""
        known = list(tallies)
        reasons = sum((Counter(one.reasons) for one in known), Counter[str]())
        return cls(sum(one.num for one in known), sum(one.num_cut_off for one in known), dict(reasons.most_common()))

    @property
    def num_unscorable(self) -> int:
        """Answers without a score."""
        return sum(self.reasons.values())

    def facts(self) -> dict[str, Any]:
        """Say it as JSON; of the reasons the most frequent ones."""
        first = list(self.reasons.items())[:REASONS]
        reasons = [{"reason": brief(reason, LONGEST_REASON), "answers": num} for reason, num in first]
        return {"unscorable": self.num_unscorable, "reasons": reasons, "cut_off": self.num_cut_off}

    def sentences(self, environment: str) -> Iterator[str]:
        """Say what makes the numbers of an environment mean little; nothing where all is well."""
        if self.reasons:
            told = [f"{one['reason']} ({one['answers']:,})" for one in self.facts()["reasons"]]
            more = len(self.reasons) - len(told)
            told += [f"and {more:,} more {'reason' if more == 1 else 'reasons'}"] if more else []
            what = f"{self.num_unscorable:,} of {self.num:,} answers could not be scored"
            yield f"{environment}: {what}: {'; '.join(told)}"
        if self.num_cut_off > MOST_CUT_OFF * self.num:
            what = f"{self.num_cut_off:,} of {self.num:,} answers were cut off by a budget"
            remedy = "raise `max_tokens` or `max_turns` (of the environment, its `episodes` or the sampler)"
            yield f"{environment}: {what} and may be worth nothing for that alone: {remedy}"
