"""What a spec will do and take, said before it does: steps, episodes, evaluations, disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from environments import ALL, Admission, Environment, Flaw
from environments.user_code import is_user_code
from orchestrator import registry
from orchestrator.locations import kinds_of
from orchestrator.schedulers.sequence import Config as SequenceConfig
from orchestrator.spec import Spec
from orchestrator.spec.twin import settings_of, with_twin
from policies import kernels
from policies.errors import PolicyError
from policies.interventions.conditions import parse
from store.checkpoint_copies import require_lasting
from store.probes import GAIN_RATIO, TRAINABILITY
from store.run_summary import settings_in_words
from store.sentences import listed, num, percent, short, size_in_words

if TYPE_CHECKING:
    from orchestrator.measurements.budget import LookingPlan
    from orchestrator.measurements.contracts import HeldOut
    from orchestrator.rollout.task_supply import Unread
    from orchestrator.runs.task_pools import EnvironmentPools
    from policies.learner import Learner
    from policies.models.description import ModelSize
    from policies.models.tiny_tokenizer import VocabularySample

MOST_NAMED, FIRST_NAMED = 12, 3  # environments of a line that names all; of a longer list, named
SMALL_LISTED = 6  # categories of an environment
REASONS_LISTED = 10  # of an environment, where a plan is written in words
EXAMPLES = 8  # of the warm start, drawn to see whether there are answers


@dataclass(frozen=True)
class LeftOutPrompts:
    """What of an environment's data cannot be used."""

    environment: str
    num_rows: int
    reasons: tuple[Flaw, ...]  # the rarest first
    rows: tuple[str, ...]  # "file:line: reason" of the first thousand; the others counted by reason

    @classmethod
    def of(cls, environment: Environment, unread: Iterable[Unread]) -> LeftOutPrompts:
        """Gather what the environment says, and what the policy cannot read."""
        num, flaws, rows = environment.num_left_out, [*environment.flaws], [*environment.left_out]
        for one in unread:
            num, flaws, rows = num + one.num_tasks, [*flaws, one.flaw], rows + one.lines
        flaws.sort(key=lambda flaw: flaw.num_rows)
        return cls(environment.name, num, tuple(flaws), tuple(rows))

    @property
    def told(self) -> list[str]:
        """Why, a line each; which rows, where the environment does not say why."""
        lines = [str(reason) for reason in self.reasons] or [*self.rows]
        more = len(lines) - REASONS_LISTED
        rows = sum(reason.num_rows for reason in self.reasons[REASONS_LISTED:])
        of = f" reasons, of {rows:,} rows" if rows else ""
        return [*lines[:REASONS_LISTED], f"and {more:,} more{of} (--json lists rows)"] if more > 0 else lines

    def lines(self) -> list[str]:
        """In words: how many, and why."""
        said = f"left out: rows of {self.environment} that cannot be used: {self.num_rows:,}"
        return [said, *(f"      {line}" for line in self.told)]


@dataclass(frozen=True)
class DryRun:
    """A run's outline."""

    stages: str
    steps: int
    episodes: int  # at most, where groups are of several sizes or are played again
    evaluations: str
    parameters: int | None  # None: the model's size is not known here
    checkpoint_bytes: int | None
    num_checkpoints: int
    saved_bytes: int | None  # of all of them
    ledger_bytes: int
    free_bytes: int
    looking: LookingPlan  # what is looked at, and what that takes of the training's compute
    warnings: tuple[str, ...]
    left_out: tuple[LeftOutPrompts, ...] = ()  # of the environments whose data is not all usable
    remarks: tuple[str, ...] = ()  # what else there is to know of their data
    environments: tuple[EnvironmentPools, ...] = ()
    trains: str = ""  # what learns, and how
    looks: str = ""  # what is looked at when
    changes: str = ""  # what is done to the policy between stages
    costs: str = ""  # the same in words
    fewest_episodes: int | None = None  # None: as many as at most

    def lines(self) -> list[str]:
        """In words."""
        saved = f"{self.num_checkpoints} checkpoints"
        if self.checkpoint_bytes is None or self.saved_bytes is None:
            saved += " (the model's configuration is not here, so no size)"
        else:
            each, total = self.checkpoint_bytes, self.saved_bytes
            is_thinned = total < each * self.num_checkpoints
            equals = ", older boundaries weights only:" if is_thinned else " ="
            saved += f" of {size_in_words(each)} ({self.parameters:,} weights){equals} {size_in_words(total)}"
        fewest = "" if self.fewest_episodes is None else f"{self.fewest_episodes:,} to "
        about = "about" if self.fewest_episodes is None else "up to"
        of_ledger = f"{about} {size_in_words(self.ledger_bytes)}"
        lines = [
            f"plan: {self.stages}",
            f"      {self.steps:,} steps, {fewest}{self.episodes:,} episodes; {self.evaluations}",
            f"trains: {self.trains}",
            f"looks: {self.looks}",
            *([f"changes: {self.changes}"] if self.changes else []),
            *([f"costs: {self.costs}"] if self.costs else []),
            *self._aside(),
            f"disk: {saved}, ledger {of_ledger}; {size_in_words(self.free_bytes)} free",
        ]
        lines += [line for one in self.left_out for line in one.lines()]
        lines += [f"note: {text}" for text in self.remarks]
        return [*lines, *(f"warning: {text}" for text in self.warnings)]

    def _aside(self) -> list[str]:
        """Say where the tasks are that are neither to train on nor evaluated on."""
        nums = {one.name: sum(category.aside for category in one.categories) for one in self.environments}
        kept = [f"{short(name)} {num:,}" for name, num in nums.items() if num]
        has_final = any(category.final for one in self.environments for category in one.categories)
        why = "what a scheduler may look at (pool select)"
        why += " and what is for a study's end (final)" if has_final else ""
        return [f"aside: more held-out tasks, {listed(kept)}: {why}"] if kept else []


def make_plan(
    spec: Spec, home: Path, tell: Callable[[str], None] | None = None, *, reads_prompts: bool = True
) -> DryRun:
    """Work out what a spec will do: builds its environments, reads no weights.

    `tell` is called with how far it is where an environment's data is long; `reads_prompts`: a model folder without a
    tokenizer is refused, and else said to have none.
    """
    from orchestrator.measurements.probe_tasks import require_classes
    from orchestrator.rollout.task_supply import PromptLimits, check_supply
    from orchestrator.runs.disk_use import DiskUse
    from orchestrator.runs.end_tokens import endless_answers, require_end
    from orchestrator.runs.environments import build_environments, tokenizer_sample, train_on_admitted
    from orchestrator.runs.first_prompts import require_quick, require_readable
    from orchestrator.runs.reference_answers import too_long_answers
    from orchestrator.runs.task_pools import count_pools
    from policies.models.description import load_prompt_reader, weights_fault

    evaluate, runs = spec.evaluate, with_twin(spec)
    if spec.checkpoint.copy_to is not None:
        require_lasting(spec.checkpoint.copy_to)
    _, environments = build_environments(spec, tell, is_patient=False)
    for one in runs:
        refuse_unusable(one, environments, tell)
    require_quick(environments)
    sample = tokenizer_sample(spec.policy, environments)
    size = _known_size(spec, sample)
    reader = load_prompt_reader(spec.policy, sample, is_needed=reads_prompts)
    prompts = None
    if reader is not None:
        require_readable(environments, reader.encoder)
        prompts = PromptLimits(reader.encoder, reader.context, environments, spec.budgets, tell)
        train_on_admitted(environments, prompts)
    unmeasured = check_supply(spec, environments, prompts or ALL)
    require_classes(spec, environments, prompts or ALL)
    unread = prompts.unread if prompts else {}
    left_out = (LeftOutPrompts.of(one, unread.get(name, {}).values()) for name, one in environments.items())
    of_prompts = [f"prompts are not measured: the tokenizer of {spec.policy.model} is not here; a run needs it"]
    if prompts is not None:
        of_prompts = [f"{name}: {passed.text}" for name, passed in prompts.take_passed_over().items()]
    endings = reader.endings if reader else None
    for one in runs:
        require_end(one.warm_start, environments, endings, one.budgets, spec.policy.model)
    unreachable = [
        *endless_answers(environments.values(), endings, spec.budgets, spec.policy.model),
        *too_long_answers(environments.values(), reader.encoder if reader else None, spec.budgets),
    ]
    disk = DiskUse.of(spec, environments, size, home)
    pools = tuple(count_pools(one, spec.environments[name].type, prompts or ALL) for name, one in environments.items())
    num_tasks, num_select = evaluated_tasks(spec, environments, pools)
    num_plays = evaluate.samples * (sum(num_tasks.values()) + sum(num_select.values()))
    looking, unknown = plan_costs(spec, environments, num_tasks, num_select, prompts or ALL, size)
    fewest = sum(one.curriculum.num_steps * one.step.groups * min(one.group_sizes.values()) for one in runs)
    most = sum(one.curriculum.num_steps * one.step.groups * _most_of_place(one) for one in runs)
    return DryRun(
        stages=_stages(spec),
        steps=sum(one.curriculum.num_steps for one in runs),
        episodes=most,
        evaluations=f"{sum(one.num_boundaries for one in runs)} evaluations of {num_plays:,} samples at most"
        + (inside_stages(runs, environments) if evaluate.every else ""),
        parameters=size.num_parameters if size else None,
        checkpoint_bytes=disk.checkpoint_bytes,
        num_checkpoints=disk.num_checkpoints,
        saved_bytes=disk.saved_bytes,
        ledger_bytes=disk.ledger_bytes,
        free_bytes=disk.free_bytes,
        looking=looking,
        warnings=(
            *([disk.shortage] if disk.shortage else []),
            *([fault] if reads_prompts and (fault := weights_fault(spec.policy)) else []),
            *(f"{name}: {text}" for name, one in environments.items() for text in one.warnings),
            *dict.fromkeys(text for one in runs for text in one.warnings()),
            *looking.warnings,
            *_never_asked(spec, looking),
            *unreachable,
            *dict.fromkeys(text for one in runs for text in _missing(one)),
        ),
        left_out=tuple(one for one in left_out if one.num_rows),
        remarks=(
            *(f"{name}: {text}" for name, e in environments.items() for text in e.remarks),
            *_without_stage(spec),
            *_small_categories(pools, spec.step.groups),
            *unmeasured,
            *of_prompts,
        ),
        environments=pools,
        trains=_trains(spec, environments.values()),
        looks=_looks(spec, pools, looking),
        costs="; ".join([*([] if looking.is_plain else [looking.text]), *(f"{one}: not known yet" for one in unknown)]),
        changes=_changes(spec),
        fewest_episodes=fewest if fewest < most else None,
    )


def _most_of_place(spec: Spec) -> int:
    """Count the episodes of a place in the batch, at most."""
    rounds = spec.rounds
    return max(size * rounds[name] for name, size in spec.group_sizes.items())


def _small_categories(pools: Iterable[EnvironmentPools], groups: int) -> Iterator[str]:
    """Name the categories with fewer tasks to train on than a step has groups, which a step may ask twice."""
    for one in pools:
        own = () if one.closed else one.categories
        few = [f"{short(c.name)} ({c.train})" for c in own if c.trainable and c.train is not None and c.train < groups]
        if few:
            yield (
                f"{one.name}: fewer tasks to train on than a step has groups, {groups}: {listed(few, SMALL_LISTED)}; "
                "each is picked like any other category, so its tasks come often"
            )


def _known_size(spec: Spec, sample: VocabularySample | None) -> ModelSize | None:
    """Compute the policy's size from its configuration; that of a hub name may not be here."""
    from policies.models.description import describe_size

    try:
        return describe_size(spec.policy, sample, saves_base=spec.saves_base)
    except PolicyError:
        if spec.policy.kind != "hub":
            raise
        return None


def refuse_unusable(
    spec: Spec, environments: Mapping[str, Environment], tell: Callable[[str], None] | None = None
) -> None:
    """Make the parts as a run would, and drop them: each refuses what it cannot work with."""
    from orchestrator.choosing.choice import make_choice, require_known_arms
    from orchestrator.choosing.stage_scheduler import StopConditions
    from orchestrator.rollout.task_sampler import TaskSampler
    from orchestrator.rollout.warm_start_examples import WarmStartExamples
    from orchestrator.runs.environments import trainable
    from orchestrator.runs.tracker_process import require_trackers
    from orchestrator.webhook import url_from

    require_trackers(kinds_of(spec.tracker.model_dump()))
    require_known_arms(spec.curriculum, trainable(environments))
    make_choice(spec.curriculum, trainable(environments), spec.seed)
    TaskSampler(environments, spec.curriculum, spec.seed, tell).close()
    StopConditions(spec.curriculum.stage)
    registry.refuse_uncallable("samplers", spec.sampler, "policy")
    if spec.policy.adapter is not None:  # else nothing here needs torch
        from orchestrator.interventions import refuse_moving_reference

        refuse_moving_reference(spec)
    for intervention in spec.interventions:
        registry.refuse_uncallable("interventions", intervention)
    for measurement in spec.measure.of:
        registry.refuse_uncallable("measurements", measurement, "environments", "held_out")
    if spec.guards.webhook is not None:
        url_from(spec.guards.webhook)
    if spec.warm_start is not None and spec.warm_start.num_batches:
        WarmStartExamples(environments, spec.warm_start, spec.seed, spec.budgets)(EXAMPLES)


def plan_costs(
    spec: Spec,
    environments: Mapping[str, Environment],
    num_tasks: Mapping[str, int],
    num_select: Mapping[str, int],
    admission: Admission,
    size: ModelSize | None,
) -> tuple[LookingPlan, list[str]]:
    """Plan what is looked at when, by the numbers of tasks; and say of what the cost is not known here."""
    from orchestrator.measurements.budget import plan_looking, sample_lengths
    from orchestrator.runs.environments import trainable

    trained = list(trainable(environments))
    lengths = sample_lengths(spec, environments, trained)
    costs, unknown = measuring_costs(spec, environments, lengths, admission, size)
    return plan_looking(spec, num_tasks, lengths, trained, num_select, costs), unknown


def evaluated_tasks(
    spec: Spec, environments: Mapping[str, Environment], pools: Iterable[EnvironmentPools]
) -> tuple[dict[str, int], dict[str, int]]:
    """Count the tasks that a boundary evaluates, and about how many a scheduler looks at, by environment."""
    from orchestrator.rollout.task_supply import evaluated_pools

    num = spec.evaluate.items
    counted = {of.name: [num if c.held_out is None else min(num, c.held_out) for c in of.categories] for of in pools}
    num_tasks = {name: sum(own) for name, own in counted.items()}
    looks_apart = len(evaluated_pools(spec)) > 1
    return num_tasks, {n: num_tasks[n] for n, one in environments.items() if looks_apart and not one.closed}


def measuring_costs(
    spec: Spec,
    environments: Mapping[str, Environment],
    lengths: Mapping[str, float],
    admission: Admission,
    size: ModelSize | None,
) -> tuple[dict[str, float], list[str]]:
    """What a look of each measurement of ours takes, as a run would plan it, but for the policy's weights."""
    of_ours = [one for one in spec.measure.of if not is_user_code(registry.type_of(one))]
    if not of_ours:
        return {}, []
    from orchestrator.measurements.evaluation import Evaluation
    from orchestrator.measurements.surroundings import Surroundings
    from orchestrator.rollout.task_supply import evaluated_pools
    from orchestrator.runs.environments import find_held_out

    held_out: dict[str, HeldOut] = {
        pool: find_held_out(environments, pool, spec.evaluate.items, admission) for pool in evaluated_pools(spec)
    }
    evaluation = Evaluation(spec.evaluate, environments, held_out, lengths=lengths)
    nobody = cast("Learner", NoLearner(size))
    around = Surroundings(spec, environments, held_out, evaluation, nobody, lambda stage: None)
    costs, unknown = {}, []
    for config in of_ours:
        kind = registry.type_of(config)
        try:
            passes = registry.load(registry.find("measurements", kind)).passes(config, around)
        except NotHere:
            unknown.append(kind)
        else:
            costs[getattr(config, "name", kind)] = passes
    return costs, unknown


class NotHere(Exception):
    """A plan was asked for what only a run has."""


@dataclass(frozen=True)
class NoLearner:
    """Stands where a run has its learner: of the policy a plan knows the size, if its configuration is here."""

    size: ModelSize | None

    @property
    def policy(self) -> ModelSize:
        """Of which measurements ask the width before they measure."""
        if self.size is None:
            raise NotHere("policy")
        return self.size

    def __getattr__(self, name: str) -> Any:
        raise NotHere(name)


def _missing(spec: Spec) -> list[str]:
    """Say what a run would need that is not here: a spec may well be checked on another host."""
    required: list[Callable[[], None]] = [partial(registry.require_installed, "samplers", spec.sampler)]
    if spec.policy.adapter is not None:  # else nothing here needs torch
        from policies.adapters import require_installed

        required.append(require_installed)
    if spec.policy.kernels == "liger":
        required.append(kernels.require_installed)
    missing = []
    for require in required:
        try:
            require()
        except PolicyError as error:
            missing.append(str(error))
    return missing


def num_interim(spec: Spec) -> int:
    """Count the evaluations inside the stages of a run, at most."""
    every, curriculum = spec.evaluate.every, spec.curriculum
    return curriculum.stages * ((curriculum.stage.steps - 1) // every) if every else 0


def inside_stages(runs: Sequence[Spec], environments: Mapping[str, Environment]) -> str:
    """Say how many evaluations there are beside those of boundaries, and how large."""
    spec = runs[0]
    is_all = spec.evaluate.every_on == "all" or spec.curriculum.mode == "flat"
    categories = [len(environment.categories) for environment in environments.values()]
    num_samples = (sum if is_all else max)(categories) * spec.evaluate.items * spec.evaluate.samples
    return f", and {sum(map(num_interim, runs))} inside stages of {num_samples:,} at most"


def _trains(spec: Spec, environments: Iterable[Environment]) -> str:
    """Say what learns, on what batches, by which objective."""
    longest = max(map(spec.budgets.tokens, environments))
    warm = f" after a warm start of {spec.warm_start.num_batches:,} batches" if spec.warm_start else ""
    return (
        f"{spec.policy.model}{warm}; {spec.step.groups} groups of {_sizes(spec)} a step, objective "
        f"{spec.objective.title(spec.environments)}, learning rate {spec.learner.lr:g}{_fall(spec)}; sampler "
        f"{registry.type_of(spec.sampler)}, up to {longest:,} tokens an episode"
    )


def _sizes(spec: Spec) -> str:
    """Say how many episodes a group has: a number, or one for each environment."""
    own = spec.group_sizes
    if len(set(own.values())) == 1:
        return str(next(iter(own.values())))
    return listed([f"{size} ({short(name)})" for name, size in own.items()])


def _fall(spec: Spec) -> str:
    """Say how the learning rate falls, if it does."""
    schedule = spec.learner.schedule
    if schedule.type == "constant":
        return ""
    over = {"run": "the run", "stage": "every stage"}[schedule.over]
    return f", {schedule.type} over {over} to {schedule.end:.0%} of it"


def _looks(spec: Spec, pools: Iterable[EnvironmentPools], looking: LookingPlan) -> str:
    """Say what is measured when, beside the numbers of every step."""
    from orchestrator.rollout.task_supply import evaluated_pools

    evaluate = spec.evaluate
    also = [
        *(["the most likely answer too"] if evaluate.greedy else []),
        *(["other tasks for the scheduler"] if len(evaluated_pools(spec)) > 1 else []),
        *(f"your {one.type}" if is_user_code(one.type) else getattr(one, "name", one.type) for one in spec.measure.of),
        *([f"{percent(looking.share)} of the training's compute"] if looking.is_plain else []),
    ]
    when = "before training and after every stage"
    tasks = f"{evaluate.items} held-out tasks a category{_smaller(evaluate.items, pools)}"
    what = f"{tasks}, {evaluate.samples} samples of each"
    return "; ".join([f"{when}, {what}", *also])


def _changes(spec: Spec) -> str:
    """Say what may be done to the policy between stages, and when."""
    said = []
    for one in spec.interventions:
        options = one.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        given = ", ".join(f"{key} {value}" for key, value in options.items() if key not in ("type", "when"))
        condition = parse(one.when)
        when = "after every stage" if one.when == "always" else f"if {one.when}" if condition.metric else one.when
        said.append(f"{one.type}{f' ({given})' if given else ''} {when}")
    return f"{'; '.join(said)}; never after the last stage" if said else ""


def _never_asked(spec: Spec, looking: LookingPlan) -> list[str]:
    """Say which interventions wait for a probe that no boundary has at which they could act."""
    names = [one.name for one in spec.measure.of if getattr(one, "kind", None) in TRAINABILITY]
    last = spec.curriculum.stages
    if any(looking.includes(name, boundary) for name in names for boundary in range(1, last)):
        return []
    return [
        f"curriculum.boundary.interventions.{number}: `when: {one.when}` is never asked: probes are made before "
        f"training and after stage {last} only. Raise `measure.share` until one is made between"
        for number, one in enumerate(spec.curriculum.boundary.interventions)
        if parse(one.when).metric == GAIN_RATIO
    ]


def _smaller(num_items: int, pools: Iterable[EnvironmentPools]) -> str:
    """Name the categories with fewer tasks than are asked for, the smallest first."""
    few = sorted(
        (one.held_out, f"{short(of.name)}.{short(one.name)}")
        for of in pools
        for one in of.categories
        if one.held_out is not None and one.held_out < num_items
    )
    return f" ({listed([f'{name} has {num}' for num, name in few])})" if few else ""


def _stages(spec: Spec) -> str:
    curriculum, names = spec.curriculum, _some(spec.environments)
    twin = f", and the same again with {settings_in_words(settings_of(spec))}" if spec.baseline else ""
    if curriculum.mode == "flat":
        return f"one {curriculum.bandit.type} bandit over all categories of {names}{twin}"
    assert curriculum.scheduler is not None
    if isinstance(curriculum.scheduler, SequenceConfig):
        order = dict.fromkeys(curriculum.scheduler.order)
        left = [name for name in spec.environments if name not in order]
        names = _some(order) + (f", no stage on {_some(left)}" if left else "")
    replay = f"; replay {curriculum.stage.replay_share:g}{_rule(spec)}" if len(spec.environments) > 1 else ""
    return (
        f"{curriculum.stages} stages of {curriculum.stage.steps} steps, scheduler {curriculum.scheduler.type} over "
        f"{names}; a {curriculum.bandit.type} bandit each{replay}{twin}"
    )


def _some(names: Collection[str]) -> str:
    """Name environments; of many the first, and how many more there are."""
    return ", ".join(names) if len(names) <= MOST_NAMED else listed([*names], FIRST_NAMED)


def _without_stage(spec: Spec) -> Iterator[str]:
    """Say how many environments have no stage, however they are chosen."""
    curriculum, there = spec.curriculum, len(spec.environments)
    lacking, is_in_order = there - curriculum.stages, isinstance(curriculum.scheduler, SequenceConfig)
    if curriculum.mode == "staged" and not is_in_order and lacking > 0:
        stages, has = num(curriculum.stages, "stage"), "one has" if lacking == 1 else f"{lacking:,} have"
        yield f"{there:,} environments and {stages} (`curriculum.stages`): at least {has} none"


def _rule(spec: Spec) -> str:
    rule = spec.curriculum.stage.replay_rule
    return "" if rule == "random" else f" by rule ({rule})"
