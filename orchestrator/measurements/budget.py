"""What looking may cost, and what is therefore looked at when.

The unit is a pass: a sample of the training's mean length through the model. Forward is 1, forward and backward 3; so
a sample that is played costs 1 (a forward pass a token, all told once through the sample), one that is played and
trained on 4. Lengths are what is known beforehand: the tokens an environment leaves room for, `max_tokens`. Everything
is planned from the spec and the number of held-out tasks, before anything is measured: what is due follows from the
number of the boundary and from what was trained by then, so a resumed run looks at the same, and looking cannot
move training.

`evaluate.share` and `measure.share` are shares of the training's passes, of all stages together, at most: a stage that
ends early is counted as planned. The first boundary and the last are looked at in full, for everything is compared with
them. In between

- evaluation has every environment that had a stage, the one that a fixed order trains next (what it brings along is
  seen there), and a panel of the list in turn: as many as the share leaves, at least so many that each is seen
  within `evaluate.within` boundaries;
- a measurement is due at every boundary if that fits, the cheapest first; at fewer ones, evenly spaced, if not.

More stages, or a fork, make a new plan of the boundaries to come; what was measured stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from environments import Environment
from orchestrator.schedulers.round_robin import Config as RoundRobinConfig
from orchestrator.schedulers.sequence import Config as SequenceConfig
from orchestrator.spec.model import Spec
from orchestrator.spec.sections import Evaluate
from store.sentences import listed, percent

FORWARD, UPDATE = 1.0, 3.0  # passes of a sample: through the model, and through it and back
MANY = 10  # environments, from which on it is said that evaluating them all takes longer than the training
EVALUATION, INSIDE = "evaluation", "inside stages"  # parts of looking that are no entry of `measure`

Passes = Mapping[str, float]  # by environment
Lengths = Mapping[str, float]  # of a sample, by environment, over the mean of those that are trained


@dataclass(frozen=True)
class EvaluationPlan:
    """Which environments a boundary evaluates."""

    environments: tuple[str, ...]
    last: int  # stage
    panel: int  # how many of them a boundary has in turn; all of them: everything is evaluated everywhere
    order: tuple[str, ...] = ()  # of stages, over and over, where it is fixed
    has_stages: bool = True  # of single environments; False: each stage is of all, and none has had one (flat mode)

    @property
    def is_full(self) -> bool:
        """Whether every boundary has all environments."""
        return self.panel >= len(self.environments)

    def at(self, boundary: int, visited: Collection[str], upcoming: Collection[str] = ()) -> list[str]:
        """Name what the boundary after a stage evaluates; `visited` had a stage by then, `upcoming` has the next."""
        if self.is_full or boundary in (0, self.last):
            return list(self.environments)
        chosen = {*visited, *self.turn(boundary), *upcoming}
        return [name for name in self.environments if name in chosen]

    def turn(self, boundary: int) -> list[str]:
        """Name the panel of a boundary: the next ones of the list, begun again at its end."""
        names, start = self.environments, boundary * self.panel
        return [names[(start + i) % len(names)] for i in range(self.panel)]

    @property
    def between(self) -> str:
        """In words: what is evaluated at the boundaries between the first and the last."""
        if not self.has_stages:
            return f"{self.panel} in turn"
        return f"what had a stage{', what has the next,' if self.order else ''} and {self.panel} in turn"

    def planned(self, passes: Passes) -> list[float]:
        """Give the cost of every boundary, at most: where a scheduler chooses, it chose the most expensive ones."""
        costs = []
        for boundary in range(self.last + 1):
            upcoming = [self.order[boundary % len(self.order)]] if self.order else []
            names = self.at(boundary, self.order[:boundary], upcoming)
            rest = sorted((passes[name] for name in self.environments if name not in names), reverse=True)
            unknown = boundary if self.has_stages and not self.order else 0
            costs.append(sum(passes[name] for name in names) + sum(rest[:unknown]))
        return costs


@dataclass(frozen=True)
class LookingPart:
    """What one kind of looking takes, as planned."""

    name: str  # "evaluation", "inside stages", or a measurement's
    passes: float  # of the whole run
    share: float  # of the training's
    boundaries: tuple[int, ...]  # where it looks


@dataclass(frozen=True)
class LookingPlan:
    """All that a run looks at, and what it takes, of passes."""

    training: float
    evaluation: EvaluationPlan
    parts: tuple[LookingPart, ...]  # the evaluation first
    warnings: tuple[str, ...]

    @property
    def share(self) -> float:
        """All looking over the training."""
        return sum(part.share for part in self.parts)

    @property
    def a_boundary(self) -> float:
        """Passes of evaluating at a boundary, the mean of all."""
        return sum(part.passes / len(part.boundaries) for part in self.parts if part.name == EVALUATION)

    @property
    def inside_a_stage(self) -> float:
        """Passes of evaluating inside a stage."""
        return sum(part.passes / self.evaluation.last for part in self.parts if part.name == INSIDE)

    @property
    def is_plain(self) -> bool:
        """Whether all there is to look at is everything, at every boundary."""
        return len(self.parts) == 1 and self.evaluation.is_full

    @property
    def text(self) -> str:
        """In words: how much, by part, and what is left out where."""
        shown = [part for part in self.parts if part.passes]  # what only reads is no cost
        told = "; ".join(f"{part.name} {percent(part.share)}{self._where(part)}" for part in shown)
        return f"looking takes {percent(self.share)} of the training's compute: {told}"

    def _where(self, part: LookingPart) -> str:
        last, plan = self.evaluation.last, self.evaluation
        if part.name == EVALUATION and not plan.is_full:
            return f" (all {len(plan.environments)} environments at the start and the end, in between {plan.between})"
        if part.name in (EVALUATION, INSIDE) or len(part.boundaries) == last + 1:
            return ""
        where = listed([str(boundary) for boundary in part.boundaries], 9)
        return f" (after stage {where})"

    def includes(self, name: str, boundary: int) -> bool:
        """Whether a measurement looks at a boundary."""
        return any(boundary in part.boundaries for part in self.parts if part.name == name)


def of_stage(spec: Spec, lengths: Lengths, trainable: Sequence[str]) -> float:
    """Passes of a stage's training, as planned; where groups are of several sizes, of the mean environment."""
    names = known_order(spec, trainable) or trainable
    sizes = {name: spec.group_sizes[name] for name in names}
    is_one = len(set(sizes.values())) == 1
    size = sizes[names[0]] if is_one else fmean(sizes[name] * lengths[name] for name in names)
    return spec.curriculum.stage.steps * spec.step.groups * size * (FORWARD + UPDATE)


def sample_lengths(spec: Spec, environments: Mapping[str, Environment], trainable: Sequence[str]) -> Lengths:
    """Compare room for tokens; a fixed order trains its environments as often as it names them, others all alike."""
    rooms = {name: spec.budgets.tokens(one) for name, one in environments.items()}
    mean = fmean(rooms[name] for name in known_order(spec, trainable) or trainable)
    return {name: room / mean for name, room in rooms.items()}


def of_evaluation(section: Evaluate, num_tasks: Mapping[str, int], lengths: Lengths) -> dict[str, float]:
    """Passes of evaluating every environment once, by the number of its tasks."""
    a_task = FORWARD * (section.samples + section.greedy)
    return {name: num * a_task * lengths[name] for name, num in num_tasks.items()}


def plan_evaluation(spec: Spec, passes: Passes, trainable: Sequence[str], a_stage: float) -> EvaluationPlan:
    """Choose how many environments a boundary has in turn: as many as the share leaves; `a_stage`: its passes."""
    names, section, stages = tuple(passes), spec.evaluate, spec.curriculum.stages
    order, has_stages = known_order(spec, trainable), spec.curriculum.mode == "staged"
    if section.share is None:
        return EvaluationPlan(names, stages, len(names), order, has_stages)
    allowed = section.share * stages * a_stage - inside_stages(spec, passes, order)
    least, most = -(-len(names) // section.within), len(names)
    while least < most:  # the largest that fits
        middle = (least + most + 1) // 2
        if sum(EvaluationPlan(names, stages, middle, order, has_stages).planned(passes)) <= allowed:
            least = middle
        else:
            most = middle - 1
    return EvaluationPlan(names, stages, least, order, has_stages)


def known_order(spec: Spec, trainable: Sequence[str]) -> tuple[str, ...]:
    """Name the environments of the stages, begun again at the end, where the scheduler has a fixed order."""
    scheduler = spec.curriculum.scheduler
    if isinstance(scheduler, SequenceConfig):
        return tuple(scheduler.order)
    return tuple(trainable) if isinstance(scheduler, RoundRobinConfig) else ()


def inside_stages(spec: Spec, passes: Passes, order: Sequence[str]) -> float:
    """Passes of what is evaluated inside stages, at most."""
    section, curriculum = spec.evaluate, spec.curriculum
    a_stage = (curriculum.stage.steps - 1) // section.every if section.every else 0
    if section.every_on == "all" or curriculum.mode == "flat":
        return a_stage * curriculum.stages * sum(passes.values())
    known = [passes[order[i % len(order)]] for i in range(curriculum.stages)] if order else None
    return a_stage * (sum(known) if known else curriculum.stages * max(passes.values()))


def plan_looks(stages: int, allowed: float, passes: Passes) -> dict[str, tuple[int, ...]]:
    """Choose the boundaries at which every measurement looks, the cheapest first; `passes` is the cost of a look.

    All have the first and the last one. What reads only what is there has them all.
    """
    left = allowed - sum(2 * cost for cost in passes.values())
    looks: dict[str, tuple[int, ...]] = {}
    for name, cost in sorted(passes.items(), key=lambda one: one[1]):
        between = stages - 1 if cost == 0 else max(0, min(stages - 1, int(left / cost)))
        left -= between * cost
        looks[name] = tuple(round(i * stages / (between + 1)) for i in range(between + 2))
    return looks


def plan_looking(
    spec: Spec,
    num_tasks: Mapping[str, int],
    lengths: Lengths,
    trainable: Sequence[str],
    num_select: Mapping[str, int] | None = None,
    measurements: Passes | None = None,
) -> LookingPlan:
    """Plan a run's looking.

    `num_tasks`: held-out tasks by environment; `num_select`: those that only a scheduler looks at; `measurements`: what
    a look of each takes.
    """
    stages, a_stage = spec.curriculum.stages, of_stage(spec, lengths, trainable)
    training = stages * a_stage
    passes = of_evaluation(spec.evaluate, num_tasks, lengths)
    of_scheduler = spec.evaluate.samples * FORWARD * sum(num * lengths[n] for n, num in (num_select or {}).items())
    evaluation = plan_evaluation(spec, passes, trainable, a_stage)
    inside = inside_stages(spec, passes, evaluation.order)
    at_boundaries = sum(evaluation.planned(passes)) + (stages + 1) * of_scheduler
    parts = [LookingPart(EVALUATION, at_boundaries, at_boundaries / training, tuple(range(stages + 1)))]
    if inside:
        parts.append(LookingPart(INSIDE, inside, inside / training, ()))
    costs = dict(measurements or {})
    for name, boundaries in plan_looks(stages, spec.measure.share * training, costs).items():
        cost = len(boundaries) * costs[name]
        parts.append(LookingPart(name, cost, cost / training, boundaries))
    return LookingPlan(training, evaluation, tuple(parts), tuple(_warnings(spec, parts, evaluation)))


def _warnings(spec: Spec, parts: Sequence[LookingPart], evaluation: EvaluationPlan) -> list[str]:
    """Say what takes more than its share even so, and what to lower."""
    section, found = spec.evaluate, []
    evaluated = sum(part.share for part in parts if part.name in (EVALUATION, INSIDE))
    if section.share is not None and evaluated > section.share:
        as_it_is = ", or say the share that it takes" if evaluated <= 1 else ""  # the option takes no more
        inside = " Evaluating inside stages is in it: raise `evaluate.every`." if section.every else ""
        found.append(
            f"`evaluate.share: {section.share:g}`, and evaluation takes {evaluated:.0%} of the training's compute even "
            f"so: both ends in full, in between {evaluation.between}, of {len(evaluation.environments)}. Nothing of "
            f"that is left out: lower `evaluate.items` ({section.items}) or `samples` ({section.samples}), raise "
            f"`within` ({section.within}), train longer between boundaries{as_it_is}.{inside}"
        )
    if section.share is None and evaluated > 1 and len(evaluation.environments) >= MANY:
        found.append(
            f"every boundary evaluates all {len(evaluation.environments)} environments, and that takes {evaluated:.0%} "
            "of the training's compute: `evaluate.share: 0.3` has boundaries look at what had a stage and at some "
            f"others in turn; or lower `evaluate.items` ({section.items}) or `samples` ({section.samples}), or train "
            "longer between boundaries"
        )
    measured = [part for part in parts if part.name not in (EVALUATION, INSIDE) and part.passes]
    taken = sum(part.share for part in measured)
    if taken > spec.measure.share:
        names = ", ".join(f"{part.name} {part.share:.0%}" for part in measured)
        found.append(
            f"`measure.share: {spec.measure.share:g}`, and one look at the first boundary and one at the last alone "
            f"take {taken:.0%} of the training's compute ({names}): raise the share, ask less of them, or train longer"
        )
    return found
