"""The sections of a spec about the run itself: curriculum, steps, what is measured, saved and recorded, resources.

Fields that name a method (`bandit`, `scheduler`) hold its own options, which live beside its code.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from orchestrator.bandits.headroom import Config as HeadroomConfig
from orchestrator.registry import type_of
from orchestrator.schedulers.headroom import Config as StageHeadroomConfig
from orchestrator.selections.cursor import Config as CursorConfig
from orchestrator.spec.fields import (
    ONE_OR_MORE,
    Section,
    method,
    nested,
    refuse,
)
from orchestrator.stop_rules.contracts import STEPS_PER_EVAL
from orchestrator.user_options import UserOptions
from store.secrets import url_without_logins

TRACKING = ("http://", "https://", "sqlite:///", "postgresql", "mysql", "mssql", "databricks")


ReplayRule = Literal["random", "due", "weakest"]
Share = Annotated[float, Field(ge=0, lt=1)]
Others = Literal["visited", "all"]


REPLAYED = 0.25  # of every batch, where there are stages: decision 25


class Replay(Section):
    """How much of a batch goes to other environments than the stage's, and to which of them."""

    share: Share = Field(
        REPLAYED, description="Share of every batch that goes to other environments, as fresh episodes."
    )
    rule: ReplayRule = Field(
        "random",
        description="Which others get how much. random: all alike. due: by the held-out tasks that they lost, most "
        "when these are about to leave `window`. weakest: by how far their accuracy fell from its best.",
    )
    replay_from: Others = Field("visited", alias="from", description="The same as the stage's `from`.")
    window: int = Field(3, ge=1, description="Stages for which a lost task is best repaired; older ones weigh less.")


_SHARE: TypeAdapter[float] = TypeAdapter(Share)


def _replay(raw: Any, info: ValidationInfo) -> Any:
    if isinstance(raw, Replay):
        return raw
    is_map = isinstance(raw, dict)
    return Replay.model_validate(raw, context=info.context) if is_map else _SHARE.validate_python(raw)


class Stage(Section):
    """Consecutive steps on one environment."""

    steps: int = Field(40, ge=1, description="Steps a stage; in flat mode only where the boundaries are.")
    stop: Annotated[
        list[method("stop_rules")],  # type: ignore[valid-type]
        ONE_OR_MORE,
    ] = Field(
        default_factory=list,
        json_schema_extra={"default": []},
        description="Rules that end a stage early. The first that fires does; they are asked every ten steps.",
    )
    min_steps: int = Field(30, ge=1, description="Steps before a stop rule may end the stage.")
    replay: Annotated[Share | Replay, BeforeValidator(nested(_replay))] = Field(
        REPLAYED,
        description="Share of a batch for other environments. What it plays are fresh episodes; a map says "
        "by which rule the environments are chosen. 0: none; flat mode has none.",
    )
    replay_from: Others = Field(
        "visited", alias="from", description="Which others are replayed: those that had a stage already, or all."
    )

    @property
    def replay_share(self) -> float:
        """Share of every batch for other environments."""
        return self.replay.share if isinstance(self.replay, Replay) else self.replay

    @property
    def replay_rule(self) -> ReplayRule:
        """What chooses among the other environments."""
        return self.replay.rule if isinstance(self.replay, Replay) else "random"

    @model_validator(mode="before")
    @classmethod
    def _from_is_said_once(cls, raw: Any) -> Any:
        """Let `from` stand in the stage or in its `replay`, and in both where it says the same."""
        if not isinstance(raw, dict) or not isinstance(raw.get("replay"), dict):
            return raw
        said = {key: one["from"] for key, one in (("from", raw), ("replay.from", raw["replay"])) if "from" in one}
        if len(set(map(str, said.values()))) > 1:
            both = " and ".join(f"`{key}: {value}`" for key, value in said.items())
            raise refuse(f"{both} say different things: leave out one of them")
        own = dict.fromkeys(("from",), next(iter(said.values()))) if said else {}
        return {**raw, **own, "replay": {**raw["replay"], **own}}

    @model_validator(mode="after")
    def _a_rule_has_groups_to_give(self) -> Stage:
        if self.replay_rule != "random" and not self.replay_share:
            raise refuse(f"replay.rule: {self.replay_rule}: nothing is replayed: raise `replay.share` above 0")
        return self

    @model_validator(mode="after")
    def _stop_rules_get_a_turn(self) -> Stage:
        first = math.ceil(max(self.min_steps, STEPS_PER_EVAL) / STEPS_PER_EVAL) * STEPS_PER_EVAL
        if self.stop and self.steps <= first:
            raise refuse(
                f"stop rules are first asked after {first} steps, and a stage has {self.steps}: raise `steps`, lower "
                "`min_steps`, or remove `stop`"
            )
        return self


class Boundary(Section):
    """What happens to the learner's state between two stages."""

    optimizer: Literal["carry", "reset"] = Field(
        "carry", description="Adam's moments and the warm-up: kept, or begun anew."
    )
    controllers: Annotated[
        Literal["keep", "reset", "rescale"],
        BeforeValidator(lambda raw: "keep" if raw == "carry" else raw),  # as earlier versions called it
    ] = Field(
        "keep",
        description="The objective's controllers. keep: coefficients and targets stay, so that the entropy of the "
        "start of the run is held over all stages. reset: coefficients begin anew, at their start. rescale: "
        "coefficients stay, and the entropy measured here becomes the 1.0 that targets are fractions of.",
    )
    interventions: Annotated[
        list[method("interventions")],  # type: ignore[valid-type]
        ONE_OR_MORE,
    ] = Field(
        default_factory=list,
        json_schema_extra={"default": []},
        description="What is done to the policy between stages. In this order, each if its `when` holds, once the "
        "boundary was measured; never after the last stage.",
    )


class Quarantine(Section):
    """When what cannot be scored is set aside, and tried again."""

    after: int = Field(
        3,
        ge=1,
        le=1000,
        description="A category is picked no more after so many steps in a row, of those that played it, in which no "
        "sample of it could be scored; an environment after twice as many.",
    )
    steps: int = Field(
        20,
        ge=1,
        le=1_000_000,
        description="For so many steps; then it is tried again, and the first step without a scored sample puts it "
        "back for twice as many.",
    )


class CurriculumSection(Section):
    """How the environments and categories of a run are chosen."""

    mode: Literal["staged", "flat"] = Field(
        "staged",
        description="staged: a scheduler picks an environment a stage, its bandit a category a group. "
        "flat: one bandit over all (environment, category) arms.",
    )
    stages: int = Field(
        6, ge=1, le=100_000, description="How many stages; `evergreen resume RUN --stages N` adds more."
    )
    scheduler: method("schedulers") | None = Field(  # type: ignore[valid-type]
        None,
        json_schema_extra={"default": "headroom"},
        description="What picks the environment of a stage. Flat mode has none.",
    )
    bandit: method("bandits") = Field(  # type: ignore[valid-type]
        default_factory=HeadroomConfig,
        json_schema_extra={"default": "headroom"},
        description="What picks the category of every group. Each environment has a bandit of its own; in flat mode "
        "there is one, over the categories of all.",
    )
    selection: method("selections") = Field(  # type: ignore[valid-type]
        default_factory=CursorConfig,
        json_schema_extra={"default": "cursor"},
        description="What picks the task inside a category. cursor: each once, then again.",
    )
    teacher: method("teachers") | None = Field(  # type: ignore[valid-type]
        None,
        json_schema_extra={"default": "random"},
        description="What picks the parameters of generated tasks. Only categories with ranges of them have any.",
    )
    stage: Stage = Field(default_factory=Stage, description="How long a stage is, what ends it, and replay.")
    boundary: Boundary = Field(default_factory=Boundary, description="What happens to the learner between stages.")
    quarantine: Quarantine | None = Field(
        default_factory=Quarantine,
        description="When what has no scores is set aside. null: three steps without stop the run.",
    )

    @property
    def num_steps(self) -> int:
        """Steps of a run, at most."""
        return self.stages * self.stage.steps

    @model_validator(mode="before")
    @classmethod
    def _flat_has_no_stages_to_schedule(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("mode") == "flat" and raw.get("scheduler") is not None:
            raise refuse("flat mode has no scheduler: remove `scheduler`, or set `mode: staged`")
        return raw

    @model_validator(mode="after")
    def _a_mode_has_its_defaults(self) -> CurriculumSection:
        if self.mode == "flat":
            asked = self.stage.model_fields_set
            for key, is_on, what in (
                ("replay", "replay" in asked and self.stage.replay_share, "replay"),
                ("stop", self.stage.stop, "stages that a rule could end"),
            ):
                if is_on:
                    raise refuse(f"flat mode has no {what}: remove `stage.{key}`, or set `mode: staged`")
            object.__setattr__(self, "stage", self.stage.model_copy(update={"replay": 0.0}))
        elif self.scheduler is None:
            object.__setattr__(self, "scheduler", StageHeadroomConfig())
        return self


class Step(Section):
    """One batch: what is played, then learnt from."""

    groups: int = Field(32, ge=1, le=100_000, description="Groups a step, each of one task.")
    group_size: int = Field(8, ge=2, le=10_000, description="Episodes of a task: advantages compare within a group.")


class Evaluate(Section):
    """What is evaluated at step 0 and at every boundary, for every environment and category; `every` asks for more."""

    items: int = Field(64, ge=1, description="Held-out tasks a category, always the same ones.")
    samples: int = Field(8, ge=4, description="Samples a task at temperature 1; pass@4 needs at least 4.")
    greedy: bool = Field(False, description="Also the most likely answer, under its own name.")
    share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="How much of the training's compute it may take, as planned: the first and the last boundary have "
        "all environments, those between what had a stage so far, and as many others in turn as the share leaves. "
        "Null: every boundary has all.",
    )
    within: int = Field(
        4, ge=1, description="With a share: every environment is evaluated at least once in so many boundaries."
    )
    every: int = Field(
        0,
        ge=0,
        description="Also inside a stage, every so many of its steps (`eval_steps` elsewhere), for learning curves: "
        "numbers only, which no scheduler sees and no boundary's. 0: at boundaries only.",
    )
    every_on: Literal["stage", "all"] = Field(
        "stage", description="Which environments are evaluated then: the stage's own (in flat mode all), or all."
    )

    @model_validator(mode="after")
    def _what_is_evaluated_in_between_has_a_time(self) -> Evaluate:
        if self.every_on == "all" and not self.every:
            raise refuse("every_on: all: nothing is evaluated inside stages; say `every: N` too, or remove it")
        return self


class Measure(Section):
    """What is measured at boundaries beside the evaluation: plasticity, and measurements of your own."""

    share: float = Field(
        0.1,
        gt=0,
        le=100,
        description="How much of the training's compute it may take, as planned. What does not fit at every boundary "
        "is measured at fewer of them, always at the first and the last.",
    )
    of: Annotated[
        list[method("measurements")],  # type: ignore[valid-type]
        ONE_OR_MORE,
    ] = Field(
        default_factory=list,
        json_schema_extra={"default": []},
        description="What is measured. A `package.module:factory` or `./file.py:factory` is a measurement of your own.",
    )

    @model_validator(mode="after")
    def _each_has_a_name_of_its_own(self) -> Measure:
        names = [getattr(one, "name", type_of(one)) for one in self.of if not isinstance(one, UserOptions)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise refuse(f"{twice[0]} stands in `of` twice, and its numbers would have one name: remove one")
        return self


HEAVY = 1_000_000_000  # bytes of a checkpoint


class Checkpointing(Section):
    """When state is saved, and how much of it stays. May change on resume."""

    every_steps: int = Field(20, ge=0, description="Steps between two periodic checkpoints; 0: none by steps.")
    every_minutes: float = Field(
        10.0, ge=0, description="Minutes after which one is made all the same; 0: none by time."
    )
    keep: int = Field(
        3, ge=1, description="Periodic checkpoints that stay, the newest; `boundaries` says what stays of the others."
    )
    boundaries: Annotated[
        Literal["all", "weights", "none"] | None,
        BeforeValidator(lambda raw: "all" if raw == "full" else raw),  # as earlier versions called it
    ] = Field(
        None,
        description="What stays of all but the two newest boundaries. `all`; `weights`, a third of it, and a fork's "
        "optimiser begins anew; `none`: no run is forked from them. Null: `all` up to 1 GB a checkpoint, then "
        "`weights`.",
    )
    background: bool = Field(
        True,
        description="Written while the run goes on, from a copy of weights and moments in memory; false: it waits.",
    )

    copy_to: str | None = Field(
        None,
        description="A URL, such as s3://bucket/runs, to which each checkpoint is copied beside the run, by fsspec; "
        "`evergreen resume RUN --from URL` goes on from there. null: nowhere.",
    )

    @field_validator("copy_to")
    @classmethod
    def _is_a_place(cls, url: str | None) -> str | None:
        if url is None:
            return None
        import fsspec

        scheme, separator, place = url.partition("://")
        if not separator or not place:
            raise refuse(
                f"a URL is wanted, like s3://bucket/runs or file:///backup/runs, not {url_without_logins(url)!r}"
            )
        if url_without_logins(url) != url:
            raise refuse("no login stands in this URL: fsspec's drivers read their own variables and files")
        if scheme == "memory":
            raise refuse("what memory:// holds ends with the run's process: name a place that stays")
        if scheme not in fsspec.available_protocols():
            raise refuse(f"fsspec knows no {scheme}://; it knows {', '.join(sorted(fsspec.available_protocols()))}")
        return url.rstrip("/")

    def thins(self, num_bytes: int) -> bool:
        """Whether the optimiser's state of older boundaries goes, where a checkpoint has so many bytes."""
        return self.boundaries == "weights" or (self.boundaries is None and num_bytes > HEAVY)


def _absolute(path: str | None) -> str | None:
    """Refuse a path that means another file in another folder."""
    if path is not None and not path.startswith(("/", "~")):
        raise refuse(f"a path from / or ~ is wanted, because later commands run in other folders, not {path!r}")
    return path


PasswordFile = Annotated[str | None, AfterValidator(_absolute)]


class Ledger(Section):
    """The database that holds all that a run did (docs/ledger.md)."""

    url: str | None = Field(None, description="Any SQLAlchemy URL; null: SQLite, evergreen.db in the home folder.")
    password_file: PasswordFile = Field(
        None,
        description="A file that holds the database's password and no more; null: it is read from "
        "EVERGREEN_LEDGER_PASSWORD, or by PostgreSQL's library from PGPASSWORD or ~/.pgpass.",
    )
    patience: float = Field(
        10.0,
        ge=0,
        description="Minutes for which a run waits for a database that is away; then it saves and stops, resumable.",
    )

    @field_validator("url")
    @classmethod
    def _url_is_a_databases(cls, url: str | None) -> str | None:
        from store.errors import LedgerError
        from store.ledger.engine import check_url

        try:
            if url is not None:
                check_url(url)
        except LedgerError as error:
            raise refuse(str(error)) from error
        return url


def _no_project_of_wandb(name: str) -> str | None:
    """Say why Weights & Biases has no project of this name; None where it may."""
    if found := [char for char in "/\\#?%:" if char in name]:
        entity = "; the team is WANDB_ENTITY's" if found == ["/"] else ""
        return f"the name of a W&B project holds none of / \\ # ? % :, and {name!r} has {' '.join(found)}{entity}"
    return f"the name of a W&B project has 128 characters at most, not {len(name)}" if len(name) > 128 else None


class Tracker(Section):
    """The record that people look at (docs/mlflow.md); `tracker: none` is a short form. May change on resume."""

    type: Literal["mlflow", "wandb", "tensorboard", "none"] = Field(
        "mlflow",
        description="Who keeps it: MLflow, Weights & Biases (the extra `wandb`) or TensorBoard (`tensorboard`). "
        "none: nothing is tracked; the ledger and the reports stay.",
    )
    also: list[Literal["mlflow", "wandb", "tensorboard"]] = Field(
        [], description="Who keeps one beside it, each with a cursor of its own."
    )
    uri: str | None = Field(None, description="An MLflow tracking URI; null: SQLite, mlflow.db in the home folder.")
    password_file: PasswordFile = Field(
        None,
        description="A file that holds the password of the URI's user and no more; null: it is read from "
        "EVERGREEN_TRACKER_PASSWORD, or by MLflow from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
    )
    experiment: str = Field(
        "evergreen", min_length=1, description="The MLflow experiment, or the W&B project, that holds the run."
    )

    @model_validator(mode="after")
    def _each_keeps_one(self) -> Tracker:
        if self.type == "none" and self.also:
            raise refuse(f"also: nothing is tracked beside `none`: say `type: {self.also[0]}`")
        kinds: list[str] = [self.type, *self.also]
        if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
            raise refuse(f"also: {twice[0]} is named twice")
        if "wandb" in kinds and (wrong := _no_project_of_wandb(self.experiment)) is not None:
            raise refuse(f"experiment: {wrong}: name another, as `experiment: puzzles`")
        if self.type != "none" and "mlflow" not in kinds:
            for key in ("uri", "password_file"):
                if getattr(self, key) is not None:
                    raise refuse(f"{key}: this is MLflow's, and {self.type} does not read it: leave it out")
        return self

    @field_validator("uri")
    @classmethod
    def _uri_is_a_server_or_a_database(cls, uri: str | None) -> str | None:
        from policies.samplers.serving.server_list import SCHEMES, has_host_and_port  # vLLM's servers are named alike

        is_broken = uri is not None and uri.startswith(SCHEMES) and not has_host_and_port(uri)
        if uri is not None and (is_broken or not uri.startswith(TRACKING)):  # of a database's its driver sees to that
            raise refuse(
                "an MLflow server or database is wanted, like http://localhost:5000 or sqlite:////data/mlflow.db, not "
                f"{url_without_logins(uri)!r}"
            )
        return uri


class Resources(Section):
    """What a run may use of its machine. May change on resume."""

    threads: int = Field(1, ge=1, le=1024, description="Threads of the trainer; another number, other last bits.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU if there is one.")
    ranks: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that update the policy. Each holds a share of weights and optimiser, on a GPU of its "
        "own where there are GPUs; another number, other last bits.",
    )
    replicas: int = Field(
        1,
        ge=1,
        le=64,
        description="Groups that the ranks form; each holds all of weights and optimiser, a share on each of its "
        "ranks. Divides `ranks`; as many as ranks: nothing is shared; another number, other last bits.",
    )
    offload: Literal["none", "optimizer"] = Field(
        "none",
        description="`optimizer`: masters, gradients and moments are on the host, which takes the step; slower, and a "
        "GPU holds 4 bytes a weight of bfloat16 and not 20. Of several ranks the first's policy, which plays and is "
        "measured, is there too while they update.",
    )
    search_path: str | None = Field(
        None,
        description="Where `package.module:factory` is looked for, and `./file.py:factory` begins; null: the spec's "
        "folder.",
    )

    @property
    def num_shards(self) -> int:
        """Ranks of a replica, over which it is spread."""
        return self.ranks // self.replicas

    @field_validator("replicas")
    @classmethod
    def _replicas_have_equally_many_ranks(cls, replicas: int, info: ValidationInfo) -> int:
        ranks = info.data.get("ranks", replicas)  # absent: refused itself
        if ranks % replicas:
            fits = [str(number) for number in range(1, ranks + 1) if ranks % number == 0]
            raise refuse(
                f"{ranks} {'rank' if ranks == 1 else 'ranks'} cannot be {replicas} replicas of equally many: say "
                f"{' or '.join(fits)}, or `ranks` as a multiple of {replicas}"
            )
        return replicas
