"""The section `guards`: limits on a step's numbers, and what is done where one is passed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from orchestrator.spec.fields import ONE_OR_MORE, Section, refuse
from policies.interventions.conditions import Condition, parse

FORMS = "`METRIC > NUMBER`, `METRIC > NUMBER x median` or `x start`, each also `METRIC on ENVIRONMENT ...`"
_RELATIVE = re.compile(r"(.*\S)\s*x\s+(?:its\s+)?(median|start)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What is known before the weights move: of the update itself, and of the batch that was played.
OF_UPDATES = ("loss", "grad_norm")
OF_BATCHES = (
    "reward",
    "accuracy",
    "signal",
    "zero_var_groups",
    "response_len",
    "repeated_frac",
    "truncated_frac",
    "num_turns",
    "entropy_token",
    "num_unscorable",
)

Action = Literal["tell", "skip", "lower", "roll_back", "stop"]
Reference = Literal["median", "start"]


@dataclass(frozen=True)
class Limit:
    """A guard's `when` that was understood."""

    condition: Condition  # a comparison with a number
    reference: Reference | None = None  # the number is so many times this; None: it is the limit itself

    @property
    def metric(self) -> str:
        """The number of a step that is compared."""
        assert self.condition.metric is not None
        return self.condition.metric


def parse_limit(text: str) -> Limit:
    """Understand a guard's `when`. Raises ValueError with the forms there are."""
    words = " ".join(text.split())
    relative = _RELATIVE.fullmatch(words)
    condition = parse(relative[1] if relative else words) if re.search("[<>]", words) else None
    if condition is None or condition.metric is None:
        raise ValueError(f"{text!r} is no limit of a step's number; there are {FORMS}")
    reference: Any = relative[2] if relative else None
    return Limit(condition, reference)


def _understood(text: str) -> str:
    parse_limit(text)
    return " ".join(text.split())


class GuardOptions(Section):
    """A limit on a number of the steps, and what is done where it is passed."""

    when: Annotated[str, AfterValidator(_understood)] = Field(
        description=f"What must not be: {FORMS}. `median` is that of the last 50 values within the limit, `start` "
        "the mean of the first 10; nothing is compared before there are 10.",
    )
    steps: int = Field(1, ge=1, description="For so many steps in a row.")
    action: Action = Field(
        "tell",
        description="tell: an event, as for all others. skip: the update is left out. lower: the learning rate is "
        "multiplied by `factor` from here on. roll_back: so too, and the weights are again those with which the stage "
        "began. stop: the run saves and stops, resumable.",
    )
    factor: float = Field(0.5, gt=0, le=1, description="Of the learning rate, for lower and roll_back.")
    most: int = Field(3, ge=1, description="Lower and roll_back happen so often; the next time the run stops.")

    @model_validator(mode="after")
    def _can_be_skipped(self) -> GuardOptions:
        limit = parse_limit(self.when)
        metric = limit.metric
        if self.action == "skip" and metric not in (*OF_UPDATES, *OF_BATCHES):
            raise refuse(
                f"`skip` leaves out an update before weights move, and {metric} is known after it: say `tell`, "
                f"`lower`, `roll_back` or `stop`, or guard one of {', '.join((*OF_UPDATES, *OF_BATCHES))}"
            )
        is_of_updates = metric in ("grad_norm", "lr") or (self.action == "skip" and metric in OF_UPDATES)
        if is_of_updates and limit.condition.environment is not None:
            raise refuse(f"{metric} is of an update, which all environments of a step make: remove `on` behind it")
        if self.action == "skip" and self.steps > 1:
            raise refuse("`skip` leaves out each update that passes the limit: remove `steps`")
        return self


class Guards(Section):
    """What must not be in training, and what is done then (docs/guards.md)."""

    of: Annotated[list[GuardOptions], ONE_OR_MORE] = Field(
        default_factory=list,
        json_schema_extra={"default": []},
        description="Limits on numbers of steps, each with an action.",
    )
    webhook: str | None = Field(
        None,
        description="The environment variable that holds a URL, to which incidents and the run's end are posted as "
        "JSON: a URL is a secret, so the spec only names where it is; null: nothing is posted.",
    )

    @field_validator("webhook")
    @classmethod
    def _webhook_is_a_variable(cls, name: str | None) -> str | None:
        if name is not None and not _VARIABLE.fullmatch(name):
            raise refuse(
                "the name of an environment variable is wanted, such as EVERGREEN_WEBHOOK, and there the URL: a spec "
                "is kept with the run, and whoever has the URL can post to it"
            )
        return name

    @model_validator(mode="after")
    def _each_stands_once(self) -> Guards:
        names = [(one.when, one.action) for one in self.of]
        if twice := [name for name in names if names.count(name) > 1]:
            raise refuse(f"`{twice[0][0]}` stands in `of` twice with `{twice[0][1]}`: remove one")
        return self
