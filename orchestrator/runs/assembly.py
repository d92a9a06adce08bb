"""Building a run from its spec, in the order in which bad input shows: environments, policy, then the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from environments import Environment, EnvironmentSource, Scorer
from orchestrator import random_streams, registry
from orchestrator.callbacks import Callback
from orchestrator.choosing.choice import Choice, make_choice, require_known_arms
from orchestrator.choosing.stage_scheduler import StopConditions
from orchestrator.components import Components
from orchestrator.interventions import Interventions, Planned, plan
from orchestrator.locations import kinds_of
from orchestrator.measurements.aftermath import Aftermath
from orchestrator.measurements.budget import plan_looking, sample_lengths
from orchestrator.measurements.contracts import HeldOut
from orchestrator.measurements.evaluation import Evaluation, num_tasks
from orchestrator.measurements.interim import InterimEvaluation
from orchestrator.measurements.network_reading import Network
from orchestrator.measurements.surroundings import Surroundings, make_measurement
from orchestrator.numeric_guards import NumericGuards
from orchestrator.recording.saved_state import weights_after, weights_at_start_of
from orchestrator.rollout.player import Player
from orchestrator.rollout.prefetch import Prefetch
from orchestrator.rollout.task_sampler import TaskSampler
from orchestrator.rollout.task_supply import PromptLimits, check_supply, evaluated_pools
from orchestrator.runs.end_tokens import endless_answers, require_end
from orchestrator.runs.environments import (
    build_environments,
    find_held_out,
    tokenizer_sample,
    train_on_admitted,
    trainable,
)
from orchestrator.runs.first_prompts import require_quick, require_readable
from orchestrator.runs.provenance import CODE, ENVIRONMENT, POLICY, RunRelations, describe_host, own_code, run_record
from orchestrator.runs.ranks import started_ranks
from orchestrator.runs.tracker_process import require_trackers
from orchestrator.runs.warm_start import warm_started
from orchestrator.spec import Spec
from orchestrator.webhook import url_from
from policies import adapters
from policies.hardware import choose_device, cpu_threads
from policies.learner import Learner
from policies.models.description import ModelSize
from policies.models.loader import load_policy
from policies.objectives import MixCorrectedEntropy
from policies.objectives.by_environment import make_objective
from policies.policy import Policy
from policies.ranks import Alone
from policies.samplers.contracts import Sampler
from store.home import Home
from store.records import CategoryRecord, EnvironmentRecord, RunRecord


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
    remarks: Sequence[str]  # of categories that cannot be measured, answers that nothing ends, gradients that vary
    is_resumed: bool  # its weights come from a checkpoint

    @property
    def host(self) -> dict[str, Any]:
        """What the run's bits depend on beside its spec, the versions of its environments included.

        Of the policy what no checkpoint gives back: that is read where the spec names it, by a resumed run too.
        """
        versions = {f"{ENVIRONMENT}{name}": e.version for name, e in self.environments.items()}
        digests = {f"{CODE}{ENVIRONMENT}{name}": source.code_digest for name, source in self.sources.items()}
        code = {key: digest for key, digest in digests.items() if digest is not None}
        policy = {f"{POLICY}{name}": digest for name, digest in self.policy.digests().items()}
        return {**describe_host(self.spec), **policy, **versions, **code, **own_code(self.spec)}

    @property
    def policy_size(self) -> ModelSize:
        """How much disk the policy takes."""
        config, policy = self.spec.policy, self.policy
        own = None if config.adapter is None else adapters.num_weights(policy.model, config.adapter, policy.name)
        return ModelSize.of(policy.num_parameters, policy.width, config, own, saves_base=self.spec.saves_base)

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
                options=self.spec.environments[name].measured,
                categories=[CategoryRecord(c.name, c.trainable, c.parameters) for c in built.categories],
            )
            for name, built in self.environments.items()
        ]


def lay_foundation(
    spec: Spec,
    weights: Path | None = None,
    tell: Callable[[str], None] | None = None,
    begun: Collection[str] = (),
    folder: Path | None = None,
) -> Foundation:
    """Build the environments and load the policy, from a checkpoint's weights when they are given.

    `tell` is called with how far it is where an environment's data is long. `begun` names environments that an earlier
    part of the run trained on and measured: they are as they are, others must have tasks for that.
    `folder`: of the run that goes on, or of the one that it comes from, which keeps its slices.
    """
    registry.search_in(spec.resources.search_path)
    registry.require_installed("samplers", spec.sampler)
    require_trackers(kinds_of(spec.tracker.model_dump()))
    if spec.guards.webhook is not None:
        url_from(spec.guards.webhook)
    sources, environments = build_environments(spec, tell, folder, begun)
    if not begun:  # what an earlier version began with may go on
        require_known_arms(spec.curriculum, trainable(environments))
    choice = make_choice(spec.curriculum, trainable(environments), spec.seed)
    device = choose_device(spec.resources.device)
    seed = random_streams.integer(spec.seed, "policy")
    new = {name: one for name, one in environments.items() if name not in begun}
    require_quick(new)
    sample = tokenizer_sample(spec.policy, environments)
    policy = load_policy(spec.policy, device, seed=seed, sample=sample, saved=weights)
    require_readable(new, policy.encoder)
    prompts = PromptLimits(policy.encoder, policy.context, environments, spec.budgets, tell)
    if train_on_admitted(environments, prompts):  # it was made before as it may refuse, and loading takes long
        choice = make_choice(spec.curriculum, trainable(environments), spec.seed)
    interventions = plan(spec)
    for one in interventions:
        one.intervention.require_suited(policy.model)
    if weights is None:
        require_end(spec.warm_start, environments, policy.endings, spec.budgets, policy.name)
    remarks = [
        *endless_answers(environments.values(), policy.endings, spec.budgets, policy.name),
        *check_supply(spec, new, prompts),
        *_nondeterminism(policy),
    ]
    tasks = TaskSampler(environments, spec.curriculum, spec.seed, tell, prompts)
    is_resumed = weights is not None
    return Foundation(spec, sources, environments, choice, policy, prompts, tasks, interventions, remarks, is_resumed)


def _nondeterminism(policy: Policy) -> list[str]:
    """Say where the policy's gradients have other last bits each time."""
    if (operation := policy.nondeterministic_operation) is None:
        return []
    return [
        f"{policy.name} computes with {operation}, which has no kernel for a GPU that gives the same bits each time: a "
        "run that is resumed goes on, but not bit for bit"
    ]


@contextmanager
def assemble(
    foundation: Foundation, home: Home, watcher: Callback, stop: Callable[[], str | None]
) -> Iterator[Components]:
    """Put a run together; workers end and thread counts return when the block does."""
    spec, environments = foundation.spec, foundation.environments
    with (
        cpu_threads(spec.resources.threads),
        closing(foundation.tasks),
        Scorer(list(foundation.sources.values()), environments, spec.scoring, watcher.phase) as scorer,
    ):
        policy = foundation.policy
        if not foundation.is_resumed:
            warm_started(policy, environments, foundation.prompts, spec, home, watcher, stop)
            if spec.policy.adapter is not None:
                seed = random_streams.integer(spec.seed, "policy", "adapters")
                policy.put_adapters(spec.policy.adapter, seed, has_own_base=not spec.begins_as_named)
        watcher.phase("finding the held-out tasks")
        held_out: dict[str, HeldOut] = {
            pool: find_held_out(environments, pool, spec.evaluate.items, foundation.prompts)
            for pool in evaluated_pools(spec)
        }
        with (
            closing(registry.create("samplers", spec.sampler, policy=policy)) as sampler,
            started_ranks(spec, policy, home.run_folder(spec.name)) as work,
        ):
            weights_of = partial(weights_after, home, spec.name)
            start_of_stage = partial(weights_at_start_of, home, spec.name)
            parts = put_together(foundation, sampler, scorer, held_out, weights_of, start_of_stage, work)
            with parts.rollouts.running():
                yield parts


def put_together(
    foundation: Foundation,
    sampler: Sampler,
    scorer: Scorer,
    held_out: Mapping[str, HeldOut],
    weights_of: Callable[[int], Path | None] = lambda stage: None,
    start_of_stage: Callable[[int], Path | None] = lambda stage: None,
    work: Alone | None = None,
) -> Components:
    """Make the parts that take no time."""
    spec, environments, policy = foundation.spec, foundation.environments, foundation.policy
    objective = make_objective(
        spec.objective,
        list(spec.environments),
        random_streams.integer(spec.seed, "objective"),
        spec.sampler.temperature,
    )
    player = Player(spec.seed, policy, sampler, scorer, environments, spec.budgets)
    keeps_reference, is_on_host = objective.may_need_reference, spec.resources.offload == "optimizer"
    learner = Learner(
        policy,
        spec.learner,
        spec.sampler.temperature,
        keeps_reference,
        work,
        is_on_host,
        spec.resources.replicas,
    )
    tasks, choice = foundation.tasks, foundation.choice
    rollouts = Prefetch(spec, choice, tasks, player, learner, objective)
    on_anchors = Evaluation(spec.evaluate, environments, {"anchor": held_out["anchor"]})
    keeps_answers = any(registry.type_of(one) == "samples" for one in spec.measure.of)
    trained = list(trainable(environments))
    lengths = sample_lengths(spec, environments, trained)
    evaluation = Evaluation(spec.evaluate, environments, held_out, None, keeps_answers, lengths, choice.upcoming)
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
        entropy=MixCorrectedEntropy(
            spec.objective.reading,
            modes={name: one.reading for name, one in spec.objective.by.items()},
            source=entropy_source(spec, sampler.entropy),
        ),
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
                spec.evaluate,
                environments,
                {"anchor": held_out["anchor"]},
                looking.evaluation,
                lengths=lengths,
                upcoming=choice.upcoming,
            ),
            next((one for one in measurements if isinstance(one, Network)), None),
        ),
        guards=NumericGuards(spec, learner, start_of_stage),
        stopping=StopConditions(spec.curriculum.stage),
    )


def entropy_source(spec: Spec, kind: str) -> dict[str, Any]:
    """Say what the entropies that are read are of, and by which estimate: `kind` is that of a sampler's own.

    Exact ones and surprisals compare, as their means estimate the same; those of the likeliest tokens do not.
    """
    is_part = spec.objective.entropy == "sampler" and kind not in ("exact", "sampled")
    return {**asdict(spec.sampler.sampling), "estimate": kind if is_part else "whole"}
