"""What a spec says of a probe: pydantic only, so that reading a spec does not load torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from policies.config import Options

if TYPE_CHECKING:
    from orchestrator.measurements.surroundings import Surroundings

Kind = Literal["supervised", "rl", "random_labels", "linear"]

# What each kind has beside its environment, with the defaults; it has no other option.
DEFAULTS: dict[str, dict[str, Any]] = {
    "supervised": {"steps": 200, "batch": 32, "lr": None, "seeds": 1, "eval_every": 20, "items": 64, "length": 32},
    "rl": {
        **{"steps": 30, "batch": 32, "lr": None, "seeds": 3, "eval_every": 5, "items": 128},
        **{"group_size": 8, "samples": 4},
    },
    "random_labels": {
        **{"steps": 200, "batch": 32, "lr": None, "seeds": 3, "eval_every": 10, "items": 256},
        **{"classes": 10, "length": 8},
    },
    "linear": {"items": 256, "label": "category"},
}
NEEDS_ENVIRONMENT = ("rl", "linear")


class ProbeOptions(Options):
    """Options of a probe; those of other kinds are refused."""

    type: Literal["probe"] = "probe"
    kind: Kind = "supervised"
    """What the copy is trained on."""
    environment: str | None = None
    """Where the tasks of `rl` and `linear` come from, and the prompts of `random_labels`; null: nowhere, and those
    prompts are random tokens."""
    steps: int | None = Field(default=None, ge=1)
    """Steps of the copy's optimiser; null: 200, and 30 of `rl`."""
    batch: int | None = Field(default=None, ge=1)
    """Rows a step, of `rl` tasks; null: 32."""
    group_size: int | None = Field(default=None, ge=2)
    """Of `rl`: samples of a task in a step; null: 8."""
    lr: float | None = Field(default=None, gt=0, le=10)
    """Learning rate. Null: 1e-3 for `tiny` and 1e-5 for others; of `rl` the learner's own."""
    seeds: int | None = Field(default=None, ge=1, le=100)
    """How often it is done, each time on other data; null: 1, and 3 of `rl` and `random_labels`."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between two looks; there is one before the first step and one after the last. Where it does not divide
    `steps`, fewer are between the last two, of `random_labels` between the first two. Null: 20, of `rl` 5, of
    `random_labels` 10."""
    items: int | None = Field(default=None, ge=1)
    """What is looked at: texts (null: 64), held-out tasks of `rl` (128), prompts of `random_labels` and tasks of
    `linear` (256)."""
    samples: int | None = Field(default=None, ge=1)
    """Of `rl`: samples of each held-out task in a look; null: 4."""
    classes: int | None = Field(default=None, ge=2)
    """Of `random_labels`: how many labels there are, at most one a token of the vocabulary; null: 10."""
    length: int | None = Field(default=None, ge=2)
    """Tokens of a text (`supervised`; null: 32), or of a prompt of random tokens (`random_labels`; null: 8)."""
    label: str | None = None
    """Of `linear`: what is to be read off: `category` (null), `answer`, or a field of the tasks' data. Two values of it
    need five tasks each."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_its_kind(cls, raw: Any) -> Any:
        """Fill in what is null and refuse what the kind has not."""
        own = DEFAULTS.get(raw.get("kind", "supervised")) if isinstance(raw, dict) else None
        if own is None:
            return raw
        kind, every = raw.get("kind", "supervised"), {name for one in DEFAULTS.values() for name in one}
        if foreign := [name for name in every - own.keys() if raw.get(name) is not None]:
            raise ValueError(f"a probe of kind {kind} has no {foreign[0]}; it has {', '.join(own)}")
        return {**own, **{name: value for name, value in raw.items() if value is not None or name not in own}}

    @model_validator(mode="after")
    def _can_be_carried_out(self) -> ProbeOptions:
        if self.environment is None and self.kind in NEEDS_ENVIRONMENT:
            raise ValueError(f"a probe of kind {self.kind} needs an `environment` of this spec")
        if self.environment is not None and self.kind == "supervised":
            raise ValueError(
                "a probe of kind supervised makes its own language: remove `environment`, or say `kind: rl`"
            )
        if self.steps is not None and self.eval_every is not None and self.steps < self.eval_every:
            raise ValueError(
                f"steps ({self.steps}) are fewer than eval_every ({self.eval_every}): a curve needs a look in between"
            )
        if (
            self.kind == "random_labels"
            and self.items is not None
            and self.batch is not None
            and self.items < self.batch
        ):
            raise ValueError(
                f"items ({self.items}) are fewer than batch ({self.batch}): a step has each prompt once at most"
            )
        return self

    @property
    def task(self) -> str:
        """What the copy is trained on, in a word."""
        return self.environment or {"supervised": "language", "random_labels": "strings"}[self.kind]

    @property
    def name(self) -> str:
        """The measurement's name: two probes of a spec have two."""
        return f"probe_{self.kind}" + (f"_{self.environment}" if self.environment else "")

    @property
    def looks(self) -> list[int]:
        """After which steps there is a look: before the first, every so many, and after the last.

        The last of random labels, which they are judged by, is of `eval_every` steps: theirs are counted from the end.
        """
        steps, every = self.steps or 0, self.eval_every or 1
        if self.kind == "random_labels":
            return [0, *reversed(range(steps, 0, -every))]
        return [*range(0, steps, every), steps]

    @property
    def passes(self) -> float:
        """Planned cost of all seeds: looking at an item and playing a sample cost 1, learning from one costs 3."""
        seeds, items, rows = self.seeds or 1, self.items or 0, (self.steps or 0) * (self.batch or 0)
        if self.kind == "linear":
            return items
        if self.kind == "random_labels":
            return seeds * (3.0 * rows + items)
        if self.kind == "supervised":
            return seeds * (3.0 * rows + len(self.looks) * items)
        return seeds * (4.0 * rows * (self.group_size or 0) + len(self.looks) * items * (self.samples or 0))


def probe_passes(config: ProbeOptions, around: Surroundings) -> float:
    """Passes of a look: texts and strings, of no environment, count as samples of the training."""
    lengths = around.evaluation.lengths
    return config.passes * (1.0 if config.environment is None else lengths[config.environment])
