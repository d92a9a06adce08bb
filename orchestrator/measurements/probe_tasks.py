"""The tasks that a probe works on, and what a linear one can read off them: asked before a run is entered anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from environments import Admission, Environment, Pool, Task, first_tasks
from orchestrator.errors import UserError
from orchestrator.measurements.probe_options import ProbeOptions
from orchestrator.spec import Spec
from policies.plasticity.label_classes import FOLDS, classes_to_tell
from store.errors import did_you_mean
from store.sentences import listed, num

MOST_TASKS = 4096  # that copies are trained on, of all categories together
OWN = ("category", "answer")  # labels that are no fields of the tasks' data


def probe_tasks(config: ProbeOptions, environment: Environment, pool: Pool, admission: Admission) -> list[Task]:
    """Tasks of a probe's environment, the same every time: what is trained on, or held-out ones that are looked at.

    Of every category alike, a closed environment's own.
    """
    most = min(MOST_TASKS, (config.steps or 0) * (config.batch or 0)) if pool == "train" else config.items or 0
    each = -(-most // len(environment.categories))
    found = [first_tasks(environment, one.name, pool, each, admission) for one in environment.categories]
    return [task for tasks in found for task in tasks]


def label_of(config: ProbeOptions, task: Task) -> str | None:
    """What a linear probe reads off a task; None: it has no such thing."""
    own = str(config.label)
    found = getattr(task, own) if own in OWN else task.data.get(own)
    return None if found is None else str(found)


def labels_of(config: ProbeOptions, tasks: Sequence[Task]) -> list[str]:
    """The labels of the tasks that have one."""
    return [label for task in tasks if (label := label_of(config, task)) is not None]


def nothing_to_tell(config: ProbeOptions, tasks: Sequence[Task]) -> str | None:
    """Say why no classifier can tell these tasks apart, and what to do; None: there are classes."""
    labels, name, label = labels_of(config, tasks), config.environment, str(config.label)
    if len(classes_to_tell(labels)) > 1:
        return None
    if not labels and label == "answer":
        return f"no held-out task of {name} has an answer: say another `label`"
    if not labels and label not in OWN:
        known = [*OWN, *sorted({field for task in tasks for field, value in task.data.items() if value is not None})]
        return f"no held-out task of {name} has {label!r}: `label` may be {listed(known)}.{did_you_mean(label, known)}"
    num_classes = len(set(labels))
    there = f"{num(len(labels), 'held-out task')} of {name}, of {_classes(num_classes)} of `{label}`"
    needs = f"a classifier needs two of {FOLDS} tasks at least, one for each fold"
    more = f", or more than {config.items} `items`" if num_classes > 1 else ""
    return f"it looks at {there}, and {needs}: say another `label`{more}"


def left_out(config: ProbeOptions, tasks: Sequence[Task]) -> str | None:
    """Say of how many tasks and classes a classifier's score is, where some are left out; None: of all."""
    labels = labels_of(config, tasks)
    told, num_classes = classes_to_tell(labels), len(set(labels))
    lacking = len(tasks) - len(labels)
    reasons = [
        *([f"classes of fewer than {FOLDS} tasks"] if len(told) < num_classes else []),
        *([f"{num(lacking, 'task')} without one"] if lacking else []),
    ]
    if not reasons:
        return None
    return (
        f"its score is of {sum(told.values()):,} of {num(len(tasks), 'task')}, and of {len(told):,} of "
        f"{_classes(num_classes)} of `{config.label}`: it leaves out {listed(reasons)}"
    )


def require_classes(spec: Spec, environments: Mapping[str, Environment], admission: Admission) -> None:
    """Refuse a linear probe that could find nothing, whatever the policy. Raises UserError."""
    for one in spec.measure.of:
        if not isinstance(one, ProbeOptions) or one.kind != "linear":
            continue
        environment, items = environments[str(one.environment)], one.items or 0
        why = None
        # the fewer are looked for, the fewer are made
        for most in dict.fromkeys((min(items, FOLDS * len(environment.categories)), items)):
            looked_at = probe_tasks(one.model_copy(update={"items": most}), environment, "anchor", admission)
            if (why := nothing_to_tell(one, looked_at)) is None:
                break
        if why is not None:
            raise UserError(f"measure: {one.name} would find nothing: {why}")


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count:,} classes"
