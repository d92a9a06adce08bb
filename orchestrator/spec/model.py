"""The spec as a model: its sections and fields, with meaning and default, and what of them cannot work together.

A section is described where it is used: by a method (`environments`, `sampler`) beside its code, by the run in
`sections`. What cannot work together is refused here, before anything is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    field_validator,
    model_validator,
)

from environments.scoring import ScoringOptions
from environments.user_code import as_written
from orchestrator.episode_options import Budgets
from orchestrator.locations import URLS, unkept
from orchestrator.registry import config_class, nearest, type_of
from orchestrator.schedulers.rewards import rewards_of
from orchestrator.schedulers.sequence import Config as SequenceConfig
from orchestrator.spec.echo import shown
from orchestrator.spec.fields import (
    EnvironmentSection,
    Section,
    method,
    nested_model,
    refuse,
    short_form,
)
from orchestrator.spec.guard_options import Guards, parse_limit
from orchestrator.spec.sections import (
    Checkpointing,
    CurriculumSection,
    Evaluate,
    Ledger,
    Measure,
    Resources,
    Step,
    Tracker,
)
from orchestrator.user_options import UserOptions
from policies.config import LearnerConfig, PolicyConfig, WarmStartConfig
from policies.interventions.conditions import parse
from policies.objectives.config import ObjectiveConfig
from policies.samplers.transformers import Config as TransformersConfig
from store.secrets import without_passwords
from store.sentences import listed

SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]*")
LONGEST_NAME = 80  # characters: runs of a study, twins and second runs add to a name, and it is a folder's
OF_ADAPTERS = ("merge_adapters", "reset_adapters")  # interventions
MEASURED_BY = {  # how the numbers of each measurement begin
    "gradients": ("gradient_", "cosine"),
    "samples": ("pass_", "maj_", "entropy_answer", "effective_answers", "answer", "distinct", "support"),
    "network": (
        *("entropy_fixed", "kl_", "flip_", "dormant_", "log_activation_", "weight_", "rank_rows"),
        *("erank", "stable_rank", "srank", "approx_rank", "participation"),
    ),
}
SAMPLES_ASKED = re.compile(r"(?:pass|maj)_(\d+)")  # metrics of so many samples of a task


def _as_list(raw: Any) -> Any:
    """Let an entry, by its name or with its options, or a list of them stand for the section."""
    if isinstance(raw, str) or (isinstance(raw, dict) and {"type", "when"} & set(raw)):
        return {"of": [raw]}
    return {"of": raw} if isinstance(raw, list) else raw


def _uniform_or_settings(raw: Any) -> Any:
    if raw is None or raw == "uniform" or isinstance(raw, Mapping):
        return raw
    raise refuse(f"`uniform` is wanted, or a map of settings like {{objective: grpo}}, not {shown(raw)}")


class Spec(Section):
    """A whole run."""

    name: str = Field(
        "run",
        description="The run's name, and its folder's. Lower-case letters, digits, `_ . -`; if not given, the file's.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Where every random stream of the run begins.")
    policy: nested_model(PolicyConfig) = Field(  # type: ignore[valid-type]
        default_factory=PolicyConfig, description="The language model that learns."
    )
    warm_start: WarmStartConfig | None = Field(None, description="A short supervised start before step 0. Null: none.")
    environments: dict[str, EnvironmentSection] = Field(
        min_length=1,
        description="Where tasks come from. The names are used everywhere else: lower-case letters, digits, `_ -`. "
        "Beside a type's own options, `slices` splits any of them into categories afterwards (docs/slices.md), and "
        "`episodes` says what its episodes have of their own: `group_size`, `max_tokens`, `turn_tokens`, `max_turns`, "
        "`cut_off` (docs/environment.md).",
    )
    curriculum: CurriculumSection = Field(
        default_factory=CurriculumSection, description="How environments and categories are chosen."
    )
    baseline: Annotated[Literal["uniform"] | dict[str, Any] | None, BeforeValidator(_uniform_or_settings)] = Field(
        None,
        description="Whether a twin is run too. Afterwards, from the same warm start and seed, with the uniform bandit "
        "(`uniform`) or with a map of other settings, as `--set` writes them: `{objective: grpo}`; the report draws "
        "both. Null: no twin.",
    )
    step: Step = Field(default_factory=Step, description="One batch: how many groups of how many episodes.")
    objective: nested_model(ObjectiveConfig) = Field(  # type: ignore[valid-type]
        default_factory=ObjectiveConfig, description="The loss: a preset, and what it changes."
    )
    learner: LearnerConfig = Field(default_factory=LearnerConfig, description="The optimiser, and how a batch is cut.")
    sampler: method("samplers") = Field(  # type: ignore[valid-type]
        default_factory=TransformersConfig,
        json_schema_extra={"default": "transformers"},
        description="The engine that generates. Its distribution, and budgets of tokens and turns.",
    )
    evaluate: Evaluate = Field(
        default_factory=Evaluate, description="What is measured at boundaries. Between them too, if asked."
    )
    checkpoint: Checkpointing = Field(
        default_factory=Checkpointing, description="When state is saved, and how much stays."
    )
    scoring: ScoringOptions = Field(
        default_factory=ScoringOptions, description="How answers are scored: limits and processes."
    )
    measure: Annotated[Measure, BeforeValidator(_as_list)] = Field(
        default_factory=Measure,
        description="What is measured beside the evaluation. At boundaries, and within a budget.",
    )
    guards: Annotated[Guards, BeforeValidator(_as_list)] = Field(
        default_factory=Guards, description="What must not be in training. Limits, and what is done then."
    )
    tracker: Annotated[Tracker, BeforeValidator(short_form("type"))] = Field(
        default_factory=Tracker, description="The record that people look at. MLflow, Weights & Biases, TensorBoard."
    )
    ledger: Ledger = Field(default_factory=Ledger, description="The database that remembers the run.")
    resources: Resources = Field(default_factory=Resources, description="What the run may use of its machine.")

    def kept(self) -> dict[str, Any]:
        """As plain data for whatever outlives this process: without the passwords of the ledger and the tracker."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        for section, (key, _) in URLS.items():
            if data[section][key] is not None:
                data[section][key] = without_passwords(data[section][key])
        return data

    @property
    def interventions(self) -> list[Any]:
        """What may be done to the policy between two stages: the list of the section, then what adapters ask for."""
        asked = list(self.curriculum.boundary.interventions)
        if self.policy.adapter is not None and self.policy.adapter.boundary != "carry":
            asked.append(config_class("interventions", f"{self.policy.adapter.boundary}_adapters")())
        return asked

    @property
    def group_sizes(self) -> dict[str, int]:
        """Training episodes of a task, by environment."""
        return {name: one.episodes.group_size or self.step.group_size for name, one in self.environments.items()}

    @property
    def rounds(self) -> dict[str, int]:
        """How often a place of a batch is played at most, another task each time, by environment."""
        return {name: self._rounds_of(self.objective.of(name)) for name in self.environments}

    def _rounds_of(self, objective: ObjectiveConfig) -> int:
        plans = [one for one in objective.modules("plans") if one.info.plan == "drops_even_groups"]
        return max((one.create(objective.options_of(one)).rounds for one in plans), default=1)

    @property
    def budgets(self) -> Budgets:
        """What limits the episodes of each environment."""
        own = {name: one.episodes for name, one in self.environments.items() if one.episodes.budgets}
        return Budgets(self.sampler, own)

    @property
    def saves_base(self) -> bool:
        """Whether checkpoints of adapters hold the model beside which they stand too: no name stands for it."""
        merges = any(type_of(one) == "merge_adapters" for one in self.interventions)
        return merges or not self.begins_as_named

    @property
    def begins_as_named(self) -> bool:
        """Whether the first step's policy is the model that the spec names: not made here, and without warm start."""
        is_trained = self.warm_start is not None and self.warm_start.num_batches > 0
        return self.policy.kind != "tiny" and not is_trained

    @property
    def objectives(self) -> dict[str, ObjectiveConfig]:
        """The objectives that environments have, by the key of each in the spec."""
        used = [self.objective.of(name) for name in self.environments]
        every = {f"objective.{key}" if key else "objective": one for key, one in self.objective.every.items()}
        return {key: one for key, one in every.items() if any(one is other for other in used)}

    @property
    def times_measured(self) -> list[int]:
        """How often a run is measured at each boundary: once more after what may change the policy there, at most."""
        conditions = [parse(one.when) for one in self.interventions]
        stages = range(1, self.curriculum.stages)
        return [1, *(1 + any(one.may_hold(stage) for one in conditions) for stage in stages), 1]

    @property
    def num_boundaries(self) -> int:
        """How often a run is measured at boundaries, at most."""
        return sum(self.times_measured)

    @property
    def turn_limits(self) -> list[str]:
        """The limits of turns that environments have of their own: `sampler.max_turns` does not hold for these."""
        own = {name: one.episodes.max_turns for name, one in self.environments.items()}
        return [f"`environments.{name}.episodes.max_turns: {most}`" for name, most in own.items() if most is not None]

    @property
    def all_have_turn_limits(self) -> bool:
        """Whether every environment has a limit of its own, so that `sampler.max_turns` has no effect."""
        return len(self.turn_limits) == len(self.environments)

    def warnings(self) -> list[str]:
        """List what is allowed and usually a mistake, one sentence each."""
        found: list[str] = []
        for key, section in self.objectives.items():
            found += [
                f"`{key}`: {text}" if section is not self.objective else text
                for text in section.warnings(self.learner.updates)
            ]
        found += unkept(self.model_dump(include={"ledger", "tracker"}))
        if self.warm_start and not self.warm_start.environments:
            found.append(
                "`warm_start` names no `environments`, so there is none: name those whose reference answers it "
                "teaches, or leave it out."
            )
        for key, section in self.objectives.items():
            length = section.max_length or 0
            longest = max(
                one.episodes.max_tokens or one.options.get("max_tokens") or self.sampler.max_tokens
                for name, one in self.environments.items()
                if self.objective.of(name) is section
            )
            if section.divides_by_max_length and length >= 2 * longest:
                found.append(
                    f"`{key}.max_length: {length}`, and no answer has more than {longest} tokens: the policy's loss is "
                    "that many times smaller, and terms with a mean of their own outweigh it. Say `max_length: "
                    f"{longest}`."
                )
        found += self._turns_without_effect()
        turns, default = self.sampler.max_turns, type(self.sampler).model_fields["max_turns"].default
        if self.all_have_turn_limits and turns != default:  # the default stands in resolved specs where nobody said one
            found.append(
                f"`sampler.max_turns: {turns}` has no effect, because every environment has its own limit, "
                f"{listed(self.turn_limits)}: change or remove {'that' if len(self.turn_limits) == 1 else 'those'}, or "
                "leave `sampler.max_turns` out."
            )
        num = self.evaluate.samples
        asked = [k for one in self.measure.of if type_of(one) == "samples" for k in one.k or ()]
        if large := [k for k in asked if k > 4 and 2 * k > num]:
            found.append(
                f"`measure.of.samples.k`: pass@{large[0]} of {num} samples scatters widely: `evaluate.samples` of "
                f"{2 * large[0]} or more is better."
            )
        return found

    def _turns_without_effect(self) -> list[str]:
        """Say which environments would end their episodes later than a limit cuts them off, a sentence a limit."""
        later: dict[str, list[str]] = {}
        for name, one in self.environments.items():
            limit = one.episodes.max_turns or self.sampler.max_turns
            if one.own_turns > limit:
                key = "sampler" if one.episodes.max_turns is None else f"environments.{name}.episodes"
                later.setdefault(f"{key}.max_turns: {limit}", []).append(
                    f"`environments.{name}.turns: {one.own_turns}`"
                )
        return [
            f"`{limit}` cuts episodes off before their environments end them, at {listed(turns)}: leave "
            "`max_turns` out, raise it, or lower `turns`."
            for limit, turns in later.items()
        ]

    @field_serializer("objective", mode="wrap")
    def _files_as_written(self, objective: ObjectiveConfig, write: SerializerFunctionWrapHandler) -> Any:
        """Write the files of parts relative to the spec's folder again: they move with it."""
        return _relative(write(objective), self.resources.search_path)

    @model_validator(mode="after")
    def _learner_suits_the_policy(self) -> Spec:
        object.__setattr__(self, "learner", self.learner.resolved(self.policy))
        return self

    @model_validator(mode="after")
    def _episodes_have_the_turns_of_their_environments(self) -> Spec:
        # Only where nobody says `max_turns`. Said of the environment alone: the numbers of others stay comparable.
        if "max_turns" not in self.sampler.model_fields_set:
            resolved = {
                name: one.with_max_turns(one.own_turns)
                if one.episodes.max_turns is None and one.own_turns > self.sampler.max_turns
                else one
                for name, one in self.environments.items()
            }
            object.__setattr__(self, "environments", resolved)
        return self

    @model_validator(mode="after")
    def _learning_rate_has_room_to_fall(self) -> Spec:
        schedule, curriculum = self.learner.schedule, self.curriculum
        if schedule.type == "constant":
            return self
        if schedule.over == "stage" and curriculum.mode == "flat":
            raise refuse(
                "learner.schedule: flat mode has no stages that a learning rate could fall over: set `over: run`, or "
                "`curriculum: {mode: staged}`"
            )
        num_steps = curriculum.stage.steps * (curriculum.stages if schedule.over == "run" else 1)
        num_updates = num_steps * (self.learner.updates or self.objective.most_updates)
        if self.learner.warmup >= num_updates:
            raise refuse(
                f"learner.schedule: a {schedule.type} learning rate falls after its warm-up, and `warmup: "
                f"{self.learner.warmup}` leaves none of the {num_updates} updates of a {schedule.over}: lower `warmup`"
            )
        return self

    @model_validator(mode="after")
    def _stages_are_longer_than_what_is_evaluated_in_them(self) -> Spec:
        every, num_steps = self.evaluate.every, self.curriculum.stage.steps
        if every >= num_steps:
            raise refuse(
                f"evaluate.every: {every} steps are all of a stage ({num_steps}), whose end is evaluated anyway: say "
                "fewer, or 0 for none in between"
            )
        return self

    @model_validator(mode="after")
    def _what_decides_is_evaluated_everywhere(self) -> Spec:
        if self.evaluate.share is None:
            return self
        reward = rewards_of(self.curriculum.scheduler).reward
        if reward != "advantage":
            raise refuse(
                "evaluate.share: a share leaves environments out of boundaries, and the scheduler is rewarded with "
                f"changes of held-out scores (`reward: {reward}`): remove `share`, or say `reward: advantage`"
            )
        if self.curriculum.boundary.controllers == "rescale":
            raise refuse(
                "evaluate.share: a share leaves environments out of boundaries, and `boundary.controllers: rescale` "
                "steers by the entropy of all that is measured there, so that training would follow what is looked at: "
                "remove `share`, or say `controllers: keep`"
            )
        return self

    @model_validator(mode="after")
    def _replay_by_rule_has_a_choice(self) -> Spec:
        stage, groups = self.curriculum.stage, self.step.groups
        where = f"curriculum.stage.replay.rule: {stage.replay_rule}"
        if stage.replay_rule == "random":
            return self
        if len(self.environments) < 2:
            raise refuse(f"{where} chooses among other environments, and there is one: say `replay: 0`")
        if not min(groups - 1, round(stage.replay_share * groups)):
            share = f"{stage.replay_share:g} of {groups} groups is none"
            raise refuse(f"{where} has nothing to give: `share` {share}: raise it, or `step.groups`")
        return self

    @model_validator(mode="after")
    def _samples_are_enough(self) -> Spec:
        own = [one for one in self.measure.of if type_of(one) == "samples"]
        num = self.evaluate.samples
        for k in [k for one in own for k in one.k or ()]:
            if not 1 <= k <= num:
                raise refuse(
                    f"measure.of.samples.k: {k} samples cannot be drawn of the {num} that are evaluated: raise "
                    f"`evaluate.samples`, {2 * k} or more are wanted, or leave {k} out"
                    if k > num
                    else f"measure.of.samples.k: at least 1 sample is drawn, not {k}"
                )
        return self

    @model_validator(mode="after")
    def _older_weights_are_weighed(self) -> Spec:
        for key, objective in self.objectives.items():
            if self.sampler.ahead and not objective.weighs_mismatch:
                raise refuse(
                    f"sampler.ahead: 1 plays with weights one version behind, and the objective ({key}) has no "
                    "importance weight that corrects for it: set `ahead: 0`, or add `mismatch: tis` with a `tis_cap`"
                )
        return self

    @model_validator(mode="after")
    def _objectives_fit_the_environments(self) -> Spec:
        for name in self.objective.by:
            if name not in self.environments:
                known = ", ".join(self.environments)
                raise refuse(
                    f"objective.by: {name!r} is no environment of this spec ({known}){nearest(name, self.environments)}"
                )
        for refusal in self.objective.clashes(self.environments) if self.objective.by else ():
            raise refuse(f"objective.by: {refusal}")
        return self

    @model_validator(mode="after")
    def _masked_answers_have_no_tokens(self) -> Spec:
        for name, one in self.environments.items():
            if self.budgets.options(name).cut_off != "mask":
                continue
            masking = "sampler" if one.episodes.cut_off is None else f"environments.{name}.episodes"
            objective = self.objective.of(name)
            key = next(key for key, used in self.objectives.items() if used is objective)
            for part in objective.modules():
                if part.info.reads_tokens and part.create(objective.options_of(part)) is not None:
                    kind, leave = ("estimator", "take another estimator")
                    if part.kind == "reward_maps":
                        kind, leave = (part.kind, f"leave {part.name} out of `{key}.{part.kind}`")
                    raise refuse(
                        f"{key}.{kind}: {part.name} reads the tokens of answers, and {masking}.cut_off: mask leaves "
                        f"those that were cut off none, though their scores count: say `cut_off: score`, or {leave}"
                    )
        return self

    @model_validator(mode="after")
    def _plans_can_be_carried_out(self) -> Spec:
        pairs = [(key, one, plan) for key, one in self.objectives.items() for plan in one.modules("plans")]
        for key, objective, plan in pairs:
            effect, name = plan.info.plan, plan.name
            if effect is None:
                raise refuse(
                    f"{key}.plans: {name} is none that a run can carry out: what it does belongs into its "
                    "`INFO = PartInfo(plan=...)` (docs/extend.md)"
                )
            if effect == "sizes_groups":
                made = plan.create(objective.options_of(plan))
                if self.sampler.ahead:
                    raise refuse(
                        f"{key}.plans: {name} looks at gradients while it plays, and sampler.ahead: 1 plays while "
                        "the learner updates: set `ahead: 0`"
                    )
                asked, sizes = made.pilot + made.floor, self.group_sizes
                own = [one for one in sizes if self.objective.of(one) is objective]
                smallest = min(own, key=lambda one: sizes[one])
                if asked > sizes[smallest]:
                    is_own = self.environments[smallest].episodes.group_size is not None
                    where = f"environments.{smallest}.episodes.group_size" if is_own else "step.group_size"
                    option = "`gvm_pilot`" if "gvm_pilot" in objective.options else "its pilot"
                    raise refuse(
                        f"{key}.plans: {name} plays a pilot and a floor of {asked} samples a task, and "
                        f"{where} is {sizes[smallest]}: raise it, or lower {option}"
                    )
            if effect == "adds_tempered_rows" and not objective.weighs_mismatch:
                raise refuse(
                    f"{key}.plans: {name} learns from rows drawn at another temperature, and nothing weighs the "
                    "difference: give `mismatch: tis`"
                )
        return self

    @model_validator(mode="after")
    def _controllers_read_what_is_measured(self) -> Spec:
        from store.errors import UnknownMetric
        from store.metrics import METRICS, metric

        pairs = [(key, controller) for key, one in self.objectives.items() for controller in one.controllers]
        for key, controller in pairs:
            name = controller.options.get("metric")
            if name is None:
                continue
            try:
                metric(name)
            except UnknownMetric:
                raise refuse(
                    f"{key}.controllers: {name!r} is no number of a step, so nothing would move{nearest(name, METRICS)}"
                ) from None
        return self

    @model_validator(mode="after")
    def _guards_can_be_kept(self) -> Spec:
        from store.errors import UnknownMetric
        from store.metrics import METRICS, metric

        for number, one in enumerate(self.guards.of):
            key, limit = f"guards.of.{number}", parse_limit(one.when)
            try:
                is_of_steps = metric(limit.metric).group == "train"
            except UnknownMetric:
                of_steps = [name for name, known in METRICS.items() if known.group == "train"]
                raise refuse(
                    f"{key}: {limit.metric!r} is no number of a step{nearest(limit.metric, of_steps)}"
                ) from None
            if not is_of_steps:
                raise refuse(
                    f"{key}: {limit.metric} is measured at boundaries, not in steps: guard a number of steps "
                    "(docs/metrics.md), or set `curriculum.boundary.interventions`"
                )
            name, known = limit.condition.environment, list(self.environments)
            if name is not None and name not in known:
                raise refuse(
                    f"{key}: {name!r} is no environment of this spec ({', '.join(known)}){nearest(name, known)}"
                )
            if one.action == "roll_back" and self.sampler.ahead:
                raise refuse(
                    f"{key}: `roll_back` takes up older weights, and sampler.ahead: 1 has a batch of the newer ones "
                    "under way: set `ahead: 0`, or say `lower` or `stop`"
                )
        return self

    @model_validator(mode="after")
    def _ranks_can_do_it(self) -> Spec:
        if self.resources.ranks == 1:
            return self
        key = f"resources.ranks: {self.resources.ranks}"
        if type_of(self.sampler) == "vllm":
            raise refuse(
                f"{key}: sampler vllm makes a group of processes of its own, and that of rank 0 is in one: take "
                "`vllm_server`"
            )
        return self

    @model_validator(mode="after")
    def _kernels_have_a_gpu(self) -> Spec:
        if self.policy.kernels == "liger" and self.resources.device == "cpu":
            raise refuse(
                "policy.kernels: liger: its kernels run on a GPU, and resources.device is cpu: say `kernels: torch`, "
                "or `device: auto`"
            )
        return self

    @model_validator(mode="after")
    def _servers_get_what_there_is(self) -> Spec:
        if getattr(self.sampler, "hand_over", None) == "adapter" and self.policy.adapter is None:
            raise refuse("sampler.hand_over: adapter: the policy has none: say `policy: {adapter: 32}`, or `files`")
        if getattr(self.sampler, "hand_over", None) == "nccl":
            if self.policy.adapter is not None:
                raise refuse(
                    "sampler.hand_over: nccl: weights go whole, and of this policy only adapters learn: say `adapter`, "
                    "which hands over these alone, or `files`"
                )
            if self.resources.device == "cpu":
                raise refuse(
                    "sampler.hand_over: nccl: resources.device: cpu: NCCL is for GPUs: say `files` or `device: cuda`"
                )
        return self

    @model_validator(mode="after")
    def _interventions_suit_what_learns(self) -> Spec:
        adapter = self.policy.adapter
        for number, one in enumerate(self.curriculum.boundary.interventions):
            key, kind = f"curriculum.boundary.interventions.{number}", type_of(one)
            if adapter is None and kind in OF_ADAPTERS:
                raise refuse(f"{key}: {kind}: all weights learn, there are no adapters: say `policy.adapter`")
            if adapter is not None and kind not in (*OF_ADAPTERS, "reset_optimizer"):
                raise refuse(
                    f"{key}: {kind} changes the weights of the model, which stay frozen beside policy.adapter: leave "
                    f"it out, or take {' or '.join(OF_ADAPTERS)}"
                )
        return self

    @model_validator(mode="after")
    def _interventions_read_what_is_measured(self) -> Spec:
        from store.errors import UnknownMetric
        from store.metrics import EVALUATED, INTERIM, METRICS, metric
        from store.probes import GAIN_RATIO, TRAINABILITY

        at_boundaries = [n for n, m in METRICS.items() if m.group == "measure" and not n.startswith(INTERIM)]
        evaluated = [*EVALUATED, *(["greedy_accuracy"] if self.evaluate.greedy else [])]
        for number, one in enumerate(self.curriculum.boundary.interventions):
            condition, key = parse(one.when), f"curriculum.boundary.interventions.{number}.when"
            if (name := condition.metric) is None:
                continue
            if name == GAIN_RATIO:
                if not any(getattr(probe, "kind", None) in TRAINABILITY for probe in self.measure.of):
                    raise refuse(f"{key}: {name} is of probes, and none is measured: say `measure: {{type: probe}}`")
                continue
            try:
                is_measured = metric(name).group == "measure" and not name.startswith(INTERIM)
            except UnknownMetric:
                known = [*EVALUATED, *at_boundaries, GAIN_RATIO]
                raise refuse(f"{key}: {name!r} is no number of a boundary{nearest(name, known)}") from None
            has_one = is_measured and self.measure.of and name != "greedy_accuracy"
            if name not in evaluated and not has_one:
                among = "is not measured at boundaries" if is_measured else "is a number of steps, not of boundaries"
                raise refuse(
                    f"{key}: {name} {among}: say one that is, {', '.join(evaluated)}, or have it measured by `measure`"
                )
            by = None if name in evaluated else _measures(name)
            if by is not None and by not in {type_of(one) for one in self.measure.of}:
                raise refuse(f"{key}: {name} is not measured: say `measure: {{type: {by}}}`")
            asked, samples = SAMPLES_ASKED.fullmatch(name), self.evaluate.samples
            if asked and int(asked[1]) > samples:
                raise refuse(f"{key}: {name} is of {asked[1]} samples of a task, and evaluate.samples is {samples}")
            if name.startswith("own_") and not any(isinstance(one, UserOptions) for one in self.measure.of):
                raise refuse(f"{key}: {name} is of a measurement of your own, and `measure` names none")
            is_of_evaluation = name in evaluated or by == "samples"
            if is_of_evaluation and condition.environment is None and self.evaluate.share is not None:
                raise refuse(
                    f"{key}: {name} is of all environments, and evaluate.share leaves some out of boundaries, so that "
                    f"training would follow what is looked at: remove `share`, or say `{name} on ENVIRONMENT`, which "
                    "is asked where that is measured"
                )
            if condition.environment is not None and condition.environment not in self.environments:
                known = list(self.environments)
                raise refuse(
                    f"{key}: {condition.environment!r} is no environment of this spec ({', '.join(known)})"
                    f"{nearest(condition.environment, known)}"
                )
        return self

    @field_validator("name")
    @classmethod
    def _name_is_a_slug(cls, name: str) -> str:
        from store.errors import HomeError
        from store.home import check_name

        slug(name, "a run's name")
        try:
            check_name(name)
        except HomeError as error:
            raise refuse(str(error)) from error
        return name

    @field_validator("environments")
    @classmethod
    def _environment_names_are_slugs(cls, environments: dict[str, Any]) -> dict[str, Any]:
        for name in environments:
            slug(name, "an environment's name")
            if "." in name:  # a category's may have dots: `a.b.c` is the category `b.c` of `a` wherever it is shown
                raise refuse(
                    f"an environment's name has no dot, which stands between it and its category, as in "
                    f"`environment.category`: say {name.replace('.', '-')} instead of {name}"
                )
        return environments

    @model_validator(mode="after")
    def _names_are_known(self) -> Spec:
        known, scheduler = list(self.environments), self.curriculum.scheduler
        named = {
            "warm_start.environments": list(self.warm_start.environments) if self.warm_start else [],
            "curriculum.scheduler.order": scheduler.order if isinstance(scheduler, SequenceConfig) else [],
            "measure.of": [name for one in self.measure.of if (name := _environment_of(one)) is not None],
        }
        for key, names in named.items():
            for name in names:
                if name not in known:
                    raise refuse(
                        f"{key} names {name!r}, but the environments are {', '.join(known)}{nearest(name, known)}"
                    )
        return self


def _environment_of(measurement: BaseModel) -> str | None:
    """The environment that a measurement of ours is about; None: of none in particular."""
    return None if isinstance(measurement, UserOptions) else getattr(measurement, "environment", None)


def _relative(section: Any, folder: str | None) -> Any:
    if isinstance(section, Mapping):
        return {key: _relative(value, folder) for key, value in section.items()}
    if isinstance(section, list | tuple):
        return type(section)(_relative(value, folder) for value in section)
    return as_written(section, folder) if isinstance(section, str) else section


def slug(name: str, what: str) -> str:
    """Refuse a name that cannot be a folder's, a link's and a metric's at once."""
    if not SLUG.fullmatch(name):
        raise refuse(
            f"{what} has lower-case letters, digits and `_ . -` only, and begins with one of the first two, not "
            f"{shown(name)}"
        )
    if len(name) > LONGEST_NAME:
        raise refuse(f"{what} has at most {LONGEST_NAME} characters, not {len(name):,}")
    return name


def _measures(metric: str) -> str | None:
    """Name the measurement that gives a number of a boundary; None: none of ours."""
    return next((kind for kind, names in MEASURED_BY.items() if metric.startswith(names)), None)
