"""Building a run from its spec, in the order in which bad input shows: environments, policy, then the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from environments import ALL, Admission, Environment, EnvironmentSource, Pool, Scorer, first_tasks, make_task
from environments.contracts import is_whole
from environments.user_code import is_user_code
from orchestrator import random_streams, registry
from orchestrator.bandits import ArmInfo
from orchestrator.callbacks import Callback
from orchestrator.choosing.choice import Arms, Choice, make_choice
from orchestrator.choosing.stage_scheduler import StopConditions
from orchestrator.components import Components
from orchestrator.errors import UserError
from orchestrator.interventions import Interventions, Planned, plan
from orchestrator.measurements.aftermath import Aftermath
from orchestrator.measurements.budget import plan_looking, sample_lengths
from orchestrator.measurements.contracts import HeldOut, Measurement
from orchestrator.measurements.evaluation import Evaluation, num_tasks
from orchestrator.measurements.interim import InterimEvaluation
from orchestrator.measurements.network import Network
from orchestrator.measurements.surroundings import Surroundings
from orchestrator.recording.checkpoint import weights_after
from orchestrator.rollout.player import Player
from orchestrator.rollout.prefetch import Prefetch
from orchestrator.rollout.task_sampler import TaskSampler
from orchestrator.rollout.task_supply import PromptLimits, check_supply, evaluated_categories, evaluated_pools
from orchestrator.runs.end_tokens import endless_answers, require_end
from orchestrator.runs.first_prompts import require_quick, require_readable
from orchestrator.runs.provenance import ENVIRONMENT, RunRelations, describe_host, run_record
from orchestrator.runs.warm_start import warm_started
from orchestrator.spec import Spec
from policies.hardware import choose_device, cpu_threads
from policies.learner import Learner
from policies.models.loader import ModelSize, load_policy, size_of
from policies.models.tiny import VocabularySample, prompt_text
from policies.objectives import MixCorrectedEntropy, Objective
from policies.policy import Policy
from policies.samplers.contracts import Sampler
from store import identity
from store.home import Home
from store.records import CategoryRecord, EnvironmentRecord, RunRecord

VOCABULARY_TASKS = 64  # looked at in every category when `tiny` makes its vocabulary
REASONS = 10  # named where there is nothing to train on


@dataclass(frozen=True)
class Foundation:
    """What bad input breaks: built before a run is entered anywhere."""

    spec: Spec
    sources: Mapping[str, EnvironmentSource]
    environments: Mapping[str, Environment]
    choice: Choice
    policy: Policy
    prompts: PromptLimits
    tasks: TaskSampler
    interventions: Sequence[Planned]
    remarks: Sequence[str]  # of categories that cannot be measured, and of answers that nothing ends
    is_resumed: bool  # its weights come from a checkpoint

    @property
    def host(self) -> dict[str, Any]:
        """What the run's bits depend on beside its spec, the versions of its environments included."""
        versions = {f"{ENVIRONMENT}{name}": e.version for name, e in self.environments.items()}
        return {**describe_host(self.spec), **versions}

    @property
    def policy_size(self) -> ModelSize:
        """How much disk the policy takes."""
        return size_of(self.policy.model, self.spec.policy)

    def new_run(self, spec: Spec, relations: RunRelations) -> RunRecord:
        """Describe a new run for the ledger, with what it is built on."""
        return run_record(spec, relations, None, self.host, self.records())

    def records(self) -> list[EnvironmentRecord]:
        """Describe the environments for the ledger."""
        return [
            EnvironmentRecord(
                name=name,
                type=self.sources[name].type,
                version=built.version,
                closed=built.closed,
                options=self.sources[name].options,
                categories=[CategoryRecord(c.name, c.trainable, c.parameters) for c in built.categories],
            )
            for name, built in self.environments.items()
        ]


def lay_foundation(
    spec: Spec,
    weights: Path | None = None,
    tell: Callable[[str], None] | None = None,
    begun: Collection[str] = (),
) -> Foundation:
    """Build the environments and load the policy, from a checkpoint's weights when they are given.

    `tell` is called with how far it is where an environment's data is long. `begun` names environments that an earlier
    part of the run trained on and measured: they are as they are, others must have tasks for that.
    """
    registry.search_in(spec.resources.search_path)
    registry.require_installed("samplers", spec.sampler)
    sources, environments = build_environments(spec, tell)
    choice = make_choice(spec.curriculum, trainable(environments), spec.seed)
    device = choose_device(spec.resources.device)
    seed = random_streams.integer(spec.seed, "policy")
    new = {name: one for name, one in environments.items() if name not in begun}
    require_quick(new)
    sample = vocabulary_sample(environments) if spec.policy.kind == "tiny" else None
    policy = load_policy(spec.policy, device, seed=seed, sample=sample, saved=weights)
    require_readable(new, policy.encoder)
    prompts = PromptLimits(policy.encoder, policy.context, environments, spec.sampler, tell)
    interventions = plan(spec)
    for one in interventions:
        one.intervention.require_suited(policy.model)
    if weights is None:
        require_end(spec.warm_start, environments, policy.endings, policy.name)
    remarks = [
        *endless_answers(environments.values(), policy.endings, spec.sampler, policy.name),
        *check_supply(spec, new, prompts),
    ]
    tasks = TaskSampler(environments, spec.curriculum, spec.seed, tell, prompts)
    is_resumed = weights is not None
    return Foundation(spec, sources, environments, choice, policy, prompts, tasks, interventions, remarks, is_resumed)


def build_environments(
    spec: Spec, tell: Callable[[str], None] | None = None
) -> tuple[dict[str, EnvironmentSource], dict[str, Environment]]:
    """Build the environments; the sources build them again in other processes."""
    sources = {
        name: EnvironmentSource(name, section.type, section.options, spec.resources.search_path)
        for name, section in spec.environments.items()
    }
    environments = {name: source.create(tell) for name, source in sources.items()}
    for name, environment in environments.items():
        # an answer that hits an environment's limit must be scorable
        if environment.seconds >= spec.scoring.timeout_s:
            raise UserError(
                f"scoring.timeout_s is {spec.scoring.timeout_s:g}, but by its own limits a score of {name} may take "
                f"{environment.seconds:g} s: raise the one, or lower the other"
            )
    return sources, environments


@contextmanager
def assemble(
    foundation: Foundation, home: Home, watcher: Callback, stop: Callable[[], str | None]
) -> Iterator[Components]:
    """Put a run together; workers end and thread counts return when the block does."""
    spec, environments = foundation.spec, foundation.environments
    with (
        cpu_threads(spec.resources.threads),
        closing(foundation.tasks),
        Scorer(list(foundation.sources.values()), environments, spec.scoring) as scorer,
    ):
        policy = foundation.policy
        if not foundation.is_resumed:
            warm_started(policy, environments, foundation.prompts, spec, home, watcher, stop)
        watcher.phase("finding the held-out tasks")
        held_out: dict[str, HeldOut] = {
            pool: find_held_out(environments, pool, spec.evaluate.items, foundation.prompts)
            for pool in evaluated_pools(spec)
        }
        with closing(registry.create("samplers", spec.sampler, policy=policy)) as sampler:
            weights_of = partial(_weights_after, home, spec.name)
            parts = put_together(foundation, sampler, scorer, held_out, weights_of)
            with parts.rollouts.running():
                yield parts


def put_together(
    foundation: Foundation,
    sampler: Sampler,
    scorer: Scorer,
    held_out: Mapping[str, HeldOut],
    weights_of: Callable[[int], Path | None] = lambda stage: None,
) -> Components:
    """Make the parts that take no time."""
    spec, environments, policy = foundation.spec, foundation.environments, foundation.policy
    objective = Objective(spec.objective, random_streams.integer(spec.seed, "objective"))
    # a controller may raise the KL's coefficient from 0 later: the reference is of the weights as they are now
    keeps_reference = "lp_ref" in objective.needs or "kl" in spec.objective.knobs
    player = Player(spec.seed, policy, sampler, scorer, environments, spec.sampler)
    learner = Learner(policy, spec.learner, spec.sampler.temperature, keeps_reference)
    tasks, choice = foundation.tasks, foundation.choice
    rollouts = Prefetch(spec, choice, tasks, player, learner, objective)
    on_anchors = Evaluation(spec.evaluate, environments, {"anchor": held_out["anchor"]})
    keeps_answers = any(registry.type_of(one) == "samples" for one in spec.measure.of)
    trained = list(trainable(environments))
    lengths = sample_lengths(spec, environments, trained)
    evaluation = Evaluation(spec.evaluate, environments, held_out, None, keeps_answers, lengths)
    around = Surroundings(spec, environments, held_out, evaluation, learner, weights_of)
    measurements = [make_measurement(one, around) for one in spec.measure.of]
    selects = {n: own for n, own in held_out.get("select", {}).items() if not environments[n].closed}
    costs = {one.name: one.passes for one in measurements}
    looking = plan_looking(spec, num_tasks(held_out["anchor"]), lengths, trained, num_tasks(selects), costs)
    evaluation.plan = looking.evaluation
    return Components(
        spec=spec,
        environments=environments,
        held_out=held_out,
        policy=policy,
        sampler=sampler,
        player=player,
        learner=learner,
        objective=objective,
        entropy=MixCorrectedEntropy(spec.objective.reading),
        choice=choice,
        tasks=tasks,
        rollouts=rollouts,
        measurements=[evaluation, *measurements],
        looking=looking,
        interim=InterimEvaluation(spec.evaluate, on_anchors, player, rollouts),
        interventions=Interventions(
            spec, foundation.interventions, environments, foundation.prompts, player, learner, weights_of
        ),
        aftermath=Aftermath(
            Evaluation(
                spec.evaluate, environments, {"anchor": held_out["anchor"]}, looking.evaluation, lengths=lengths
            ),
            next((one for one in measurements if isinstance(one, Network)), None),
        ),
        stopping=StopConditions(spec.curriculum.stage),
    )


def _weights_after(home: Home, name: str, stage: int) -> Path | None:
    """Find the weights after a stage in a run's own checkpoints, else in those of the run that it was forked from."""
    folder = home.run_folder(name)
    if (found := weights_after(folder, stage)) is not None:
        return found
    own = identity.read(folder)
    if own is None or own.lineage is None or stage > own.lineage.stage:
        return None
    return _weights_after(home, own.lineage.parent, stage)


def make_measurement(config: BaseModel, around: Surroundings) -> Measurement:
    """Make an entry of `measure`: ours see all that is around them, a user's own what docs/extend.md says."""
    given: dict[str, Any]
    if is_user_code(registry.type_of(config)):
        given = {"environments": around.environments, "held_out": around.held_out}
    else:
        given = {"around": around}
    made: Measurement = registry.create("measurements", config, **given)
    return made


def trainable(environments: Mapping[str, Environment]) -> Arms:
    """Describe what can be trained on: sizes and numbers of categories. What is only held out is never chosen."""
    categories = {
        name: {
            one.name: ArmInfo.of(environment.size(one.name), one.parameters)
            for one in environment.categories
            if one.trainable
        }
        for name, environment in environments.items()
    }
    if not any(categories.values()):
        raise UserError(_nothing_to_train_on(environments))
    return {name: own for name, own in categories.items() if own}


def _nothing_to_train_on(environments: Mapping[str, Environment]) -> str:
    """Say why, as the environments' remarks have it, and what to do; where they have none, the spec asked for it."""
    found = f"nothing to train on: every category of {', '.join(environments)} is only held out"
    why = [f"{name}: {text}" for name, one in environments.items() for text in (*one.remarks, *map(str, one.flaws))]
    if len(why) > REASONS:
        why[REASONS:] = [f"and {len(why) - REASONS:,} more reasons"]
    remedies = ["give it more rows to train on, or another `holdout` file"] if why else []
    if not all(environment.remarks for environment in environments.values()):
        remedies.append("leave out `trainable: false` for some")
    return f"{found}; {', or '.join(remedies)}" + "".join(f"\n  {line}" for line in why)


def find_held_out(
    environments: Mapping[str, Environment], pool: Pool, num_items: int, admission: Admission = ALL
) -> HeldOut:
    """Find what is evaluated: the first tasks of every category's pool, the same in every run."""
    return {
        name: {
            category: first_tasks(environment, category, pool, num_items, admission)
            for category in evaluated_categories(environment, pool)
        }
        for name, environment in environments.items()
    }


def vocabulary_sample(environments: Mapping[str, Environment]) -> VocabularySample:
    """Show `tiny` what its environments look like: prompts, answers and symbols."""
    prompts: dict[str, list[str]] = {}
    answers: list[str] = []
    for name, environment in environments.items():
        tasks = [
            make_task(environment, category.name, index)
            for category in environment.categories
            for index in range(min(VOCABULARY_TASKS, environment.size(category.name) or VOCABULARY_TASKS))
        ]
        prompts[name] = [prompt_text(task.messages) for task in tasks if is_whole(task.messages)]
        answers += [task.answer for task in tasks if task.answer is not None and is_whole(task.answer)]
    symbols = [symbol for environment in environments.values() for symbol in environment.symbols]
    return VocabularySample(prompts, answers, symbols)
