"""What the evaluation's own samples say beside accuracy: answers, pass@k, majorities, variety, support.

Nothing is played: it reads the groups of the same boundary's evaluation, so it costs no pass of the policy.

    entropy_answer, ...      how the answers to a task spread          plasticity reference, 1.4
    pass_<k>, maj_<k>        any of k samples, most of k samples       2.1, 2.2
    distinct_<n>             different n-grams of tokens               2.4
    support_<what>_base      tasks within reach, against the base      2.3
    support_<what>_previous  the same against the boundary before at which the environment was evaluated

Evaluated items then keep their answers in the ledger, with counts. An answer is what the environment's verifier reads;
a sample that was cut off without being correct gave none.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from orchestrator.measurements.contracts import Findings, Measurement, Tell
from orchestrator.measurements.evaluation import answers_of, means
from orchestrator.measurements.surroundings import Surroundings
from orchestrator.played_group import Group
from orchestrator.progress import Progress
from orchestrator.rollout.player import Player
from orchestrator.stopwatch import Stopwatch
from policies.plasticity.diversity import distinct_n
from store.answers import corrected_entropy, disagreement, entropy, maj_at_k, pass_at_k
from store.records import AnswerCount, CellRecord, EventRecord
from store.support import Outcome, Support, support

SOURCE = "plasticity reference, 1.4 and 2"
DEFAULT_K = (1, 4, 8, 16)
EVALUATED = (1, 4)  # pass@k of these is the evaluation's own
MOST_GRAMS = 4  # distinct-n is measured for n up to this
FILE = "correct.json"

Outcomes = dict[str, dict[str, dict[str, Outcome]]]  # of every task by its key, by environment and category
Measure = Callable[[Group, Sequence[AnswerCount]], float | None]


class Config(BaseModel):
    """Options of what is read from samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["samples"] = "samples"
    k: list[int] | None = Field(
        None,
        description="For pass@k and maj@k: how many samples are drawn of a task's. Null: of 1, 4, 8 and 16 those up to "
        "`evaluate.samples`, for pass@k up to half of them, since it scatters widely beyond.",
    )
    distinct_tokens: int = Field(
        64, ge=1, description="Responses are cut to so many tokens before n-grams are counted: longer ones repeat more."
    )

    def majorities(self, num_samples: int) -> list[int]:
        """List the k of maj@k; of one sample it is accuracy."""
        asked = DEFAULT_K if self.k is None else self.k
        return [k for k in dict.fromkeys(asked) if 1 < k <= num_samples]

    def solved_once(self, num_samples: int) -> list[int]:
        """List the k of pass@k, but for those that the evaluation measures anyway."""
        asked = [k for k in DEFAULT_K if 2 * k <= num_samples] if self.k is None else self.k
        return [k for k in dict.fromkeys(asked) if k not in EVALUATED and k <= num_samples]


class Samples(Measurement):
    """Reads what the evaluation of the same boundary played."""

    name = "samples"

    def __init__(self, config: Config, around: Surroundings) -> None:
        self.config, self.around = config, around
        self._base: Outcomes = {}  # of environments since they were first measured, where that was their start
        self._previous: Outcomes = {}
        self._joining: Sequence[str] = ()  # environments whose first boundary this is, whatever its number
        num = around.spec.evaluate.samples
        self._measures: dict[str, Measure] = {
            **{f"pass_{k}": partial(_pass, k) for k in config.solved_once(num)},
            **{f"maj_{k}": partial(_majority, k) for k in config.majorities(num)},
            **ANSWERS,
            **{f"distinct_{n}": partial(_distinct, n, config.distinct_tokens) for n in range(1, MOST_GRAMS + 1)},
            "distinct": partial(_mean_distinct, config.distinct_tokens),
        }

    @override
    def is_due(self, at: Progress) -> bool:
        return at.is_at_boundary

    @override
    def of(self, environments: Sequence[str]) -> Samples:
        part = Samples(self.config, self.around)
        part._base, part._previous, part._joining = self._base, self._previous, environments
        return part

    @override
    def run(self, player: Player, at: Progress, watch: Stopwatch, tell: Tell) -> Findings:
        played: dict[str, dict[str, list[Group]]] = defaultdict(lambda: defaultdict(list))
        for group in self.around.evaluation.played:
            played[group.task.environment][group.task.category].append(group)
        for name in self._joining:  # measured once more after a kill, they have nothing behind them all the same
            self._base.pop(name, None)
            self._previous.pop(name, None)
        cells: list[CellRecord] = []
        late: list[str] = []
        for place, (name, by_category) in enumerate(played.items()):
            tell(f"reading the samples of {name}", place, len(played))
            own = [cell for category, groups in by_category.items() for cell in self._cells(name, category, groups)]
            cells += [*own, *means(self.around.environments[name], own, CONDITIONAL), *self._support(name, by_category)]
            now = {category: _outcomes(groups) for category, groups in by_category.items()}
            if at.stage == 0 or name in self._joining:
                self._base[name] = now
            elif name not in self._base and name not in self._previous:
                late.append(name)
            self._previous[name] = now
        return Findings(config={}, cells=cells, events=[EventRecord("samples", _late(late))] if late else [])

    @override
    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps({"base": self._base, "previous": self._previous}, sort_keys=True))

    @override
    def load(self, folder: Path) -> None:
        saved = json.loads((folder / FILE).read_text())
        for mine, kept in ((self._base, saved["base"]), (self._previous, saved["previous"])):
            mine.clear()
            mine |= {
                name: {category: self._by_task(name, category, own) for category, own in by_category.items()}
                for name, by_category in kept.items()
            }

    def _by_task(self, name: str, category: str, kept: Mapping[str, Outcome] | list[Outcome]) -> dict[str, Outcome]:
        """Read a category's outcomes; earlier versions kept no keys: theirs are of today's tasks, in their order."""
        if isinstance(kept, list):
            tasks = self.around.held_out["anchor"].get(name, {}).get(category, ())
            kept = dict(zip((task.key for task in tasks), kept, strict=True)) if len(tasks) == len(kept) else {}
        return {key: (n, c) for key, (n, c) in kept.items()}

    def _cells(self, name: str, category: str, groups: Sequence[Group]) -> list[CellRecord]:
        """Measure a category: the mean over its tasks that have the number, and the standard error of that mean."""
        environment = self.around.environments[name]
        answers = [answers_of(environment, group) for group in groups]
        split, per_item = _split(environment.closed), len(groups[0].samples)
        cells = []
        for metric, measure in self._measures.items():
            found = (measure(group, own) if group.scored else None for group, own in zip(groups, answers, strict=True))
            values = [value for value in found if value is not None]
            value = fmean(values) if values else None
            stderr = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
            cells.append(CellRecord(name, category, metric, value, stderr, len(values), per_item, split))
        return cells

    def _support(self, name: str, by_category: Mapping[str, Sequence[Group]]) -> list[CellRecord]:
        """Compare what is within reach with before, by category and over the trainable ones' tasks together.

        Tasks that were not measured then have no part in it.
        """
        environment = self.around.environments[name]
        trainable = {one.name for one in environment.categories if one.trainable}
        pairs: dict[tuple[str, str], list[tuple[Outcome, Outcome]]] = {}  # by what it is against, and category
        for category, groups in by_category.items():
            now = _outcomes(groups)
            for against, reference in (("base", self._base), ("previous", self._previous)):
                before = reference.get(name, {}).get(category, {})
                if same := [(before[key], outcome) for key, outcome in now.items() if key in before]:
                    pairs[against, category] = same
            pairs["halves", category] = [_halves(group) for group in groups]
        cells = []
        for against in dict.fromkeys(against for against, _ in pairs):
            own = {category: found for (what, category), found in pairs.items() if what == against}
            whole = [pair for category, found in own.items() if category in trainable for pair in found]
            compared: list[tuple[str | None, list[tuple[Outcome, Outcome]]]] = [*own.items(), (None, whole)]
            for place, found in compared:
                per_item = max((n for _, (n, _) in found), default=0)
                counts, split = support(found), _split(environment.closed)
                for metric, (value, stderr) in _numbers(counts, against).items():
                    cells.append(CellRecord(name, place, metric, value, stderr, counts.num, per_item, split))
        return cells


def _late(names: Sequence[str]) -> str:
    return (
        f"what the base could do on {', '.join(names)} is not known to `samples`, which began later: "
        "there is no support against the base for them"
    )


def _split(is_closed: bool) -> str:
    return "own" if is_closed else "anchor"


def _outcomes(groups: Sequence[Group]) -> dict[str, Outcome]:
    return {group.task.key: (len(group.correct), sum(group.correct)) for group in groups}


def _halves(group: Group) -> tuple[Outcome, Outcome]:
    """Divide a task's samples into two alike: every other one."""
    num = len(group.correct) // 2
    first, second = (group.correct[start : 2 * num : 2] for start in (0, 1))
    return (num, sum(first)), (num, sum(second))


def _numbers(counts: Support, against: str) -> dict[str, tuple[float | None, float | None]]:
    """Name the numbers of a comparison, shares with their standard errors over tasks."""
    kept = {f"support_kept_{against}": (counts.retention, _error(counts.retention, counts.kept + counts.lost))}
    if against == "halves":
        return kept
    sure = {"surely_lost": counts.surely_lost, "surely_found": counts.surely_found}
    shares = {what: num / counts.num if counts.num else None for what, num in sure.items()}
    return {
        **kept,
        f"support_found_{against}": (counts.discovery, _error(counts.discovery, counts.kept + counts.found)),
        f"support_harmonic_{against}": (counts.harmonic, None),
        f"support_net_{against}": (counts.net, None),
        **{f"support_{what}_{against}": (share, _error(share, counts.num)) for what, share in shares.items()},
    }


def _error(share: float | None, num: int) -> float | None:
    return math.sqrt(share * (1 - share) / num) if share is not None and num > 1 else None


# --- of one task, whose scored samples are at least one ---


def _pass(k: int, group: Group, answers: Sequence[AnswerCount]) -> float | None:
    return pass_at_k(len(group.correct), sum(group.correct), k) if len(group.correct) >= k else None


def _majority(k: int, group: Group, answers: Sequence[AnswerCount]) -> float | None:
    return maj_at_k(answers, k)


def _counts(group: Group, answers: Sequence[AnswerCount]) -> list[int]:
    return [one.num for one in answers]


def _wrong(group: Group, answers: Sequence[AnswerCount]) -> float | None:
    counts = [one.num - one.num_correct for one in answers if one.num > one.num_correct]
    return entropy(counts) if counts else None


def _right(group: Group, answers: Sequence[AnswerCount]) -> float | None:
    counts = [one.num_correct for one in answers if one.num_correct]
    return entropy(counts) if counts else None


def _distinct(n: int, most: int, group: Group, answers: Sequence[AnswerCount]) -> float | None:
    return distinct_n([sample.ids[sample.mask][:most].tolist() for sample in group.samples], n)


def _mean_distinct(most: int, group: Group, answers: Sequence[AnswerCount]) -> float | None:
    found = [_distinct(n, most, group, answers) for n in range(1, MOST_GRAMS + 1)]
    known = [value for value in found if value is not None]
    return fmean(known) if known else None


ANSWERS: dict[str, Measure] = {
    "entropy_answer": lambda group, answers: entropy(_counts(group, answers)),
    "entropy_answer_corrected": lambda group, answers: corrected_entropy(_counts(group, answers)),
    "entropy_answer_wrong": _wrong,
    "entropy_answer_right": _right,
    "effective_answers": lambda group, answers: math.exp(entropy(_counts(group, answers))),
    "answer_disagreement": lambda group, answers: disagreement(_counts(group, answers)),
    "answerless_frac": lambda group, answers: (
        sum(one.num for one in answers if one.text is None) / sum(_counts(group, answers))
    ),
}
# there are none where nothing is wrong, or right, or long enough
CONDITIONAL = frozenset(
    {"entropy_answer_wrong", "entropy_answer_right", "distinct", *(f"distinct_{n}" for n in range(1, MOST_GRAMS + 1))}
)


def passes(config: Config, around: Surroundings) -> float:
    """Passes of a look: none, it reads what the evaluation has played."""
    return 0.0


def create(config: Config, around: Surroundings) -> Samples:
    """Make it of what surrounds it."""
    return Samples(config, around)
