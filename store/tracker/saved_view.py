"""The view that MLflow opens on: our columns, our charts, runs in groups of a setting.

MLflow keeps a view as a tag of its experiment, under a key that an address names, and lists it by name under *Views*.
What is in the tag is not part of its API: this follows 3.17's pages, and what a server of another version does not
understand leaves its plain list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from store.tracker.names import PER_CATEGORY, PER_ENVIRONMENT, SEED, SETTING, TRAINABILITY

KEY = "evergreen"
TAG = f"mlflow.sharedViewState.{KEY}"
NAME = "Evergreen: accuracy and entropy"
FACE = "workflowType=machine_learning"  # MLflow's UI has another one, for traces and judges

CURRICULA = "tags.`evergreen.kind` = 'curriculum'"
ACCURACY, CARRIED, LEFT = "cl/acc", "cl/entropy_carried", "final/entropy_ratio"
PARAMS = ("objective", "scheduler", "bandit")

_RUN_NAME, _CREATED = "attributes.`Run Name`", "runDateAndNestInfo"  # MLflow shows these two first, and always
_WIDTHS = {  # pixels, in the order of the columns: what fits a window of 1280 comes first
    _RUN_NAME: 210,
    _CREATED: 100,
    f"metrics.`{ACCURACY}`": 76,
    f"metrics.`{LEFT}`": 127,
    f"metrics.`{CARRIED}`": 133,
    "params.`objective`": 82,
    "params.`bandit`": 80,
    "params.`scheduler`": 94,
    f"tags.`{SEED}`": 46,
    "metrics.`cl/forgetting`": 100,
    "duration": 80,
}

_TRAINABILITY_WIDTH = 116

_OURS, _COURSES = "Accuracy and entropy", "Carry-over"  # the second has charts as wide as the page: many axes
# how much of what: every one is of the run, so a line of parallel coordinates is a run's carry-over
_CARRY_OVER = ("cl/acc", "cl/bwt", "cl/fwt", "cl/forgetting", "cl/entropy_retained", "cl/entropy_carried")
_MATRICES = (
    *("value", "pass_1", "pass_4", "pass_8", "maj_8", "greedy_accuracy"),
    *("entropy_token", "entropy_fixed", "entropy_answer", "kl_base", "kl_prev", "truncated_frac"),
)
_OPEN = ("R_pass_1", "R_entropy_token")  # sections of MLflow's own making: a chart an environment
_CLOSED = (
    *("cl", "switch", "probe", "net"),
    *(f"R_{metric}" for metric in _MATRICES),
    *(f"support_{what}_{against}" for what in ("kept", "found") for against in ("base", "previous")),
    *PER_ENVIRONMENT.values(),
    *(f"{metric}_by_category" for metric in (*PER_CATEGORY, "bandit_prob")),
    *("bandit", "bandit_prob", "bandit_index", "bandit_pulls", "train", "progress", "time"),
    *("looking_seconds", "looking_passes"),
)


def tag(has_trainability: bool = False) -> str:
    """Write the view as MLflow's pages read it. The same at every call, so that it is written once.

    `has_trainability`: with the column and the charts of what probes found, once a run of the experiment has any.
    """
    return json.dumps({"name": NAME, "createdAt": 0, "updatedAt": 0, "state": json.dumps(_state(has_trainability))})


def of_runs(experiment: str, has_view: bool) -> str:
    """Address the list of an experiment's runs: the end of a URL."""
    return f"/#/experiments/{experiment}/runs?{FACE}" + (f"&viewStateShareKey={KEY}" if has_view else "")


def of_charts(experiment: str, has_view: bool) -> str:
    """Address their charts, which lay all runs over each other."""
    return f"{of_runs(experiment, has_view)}&compareRunsMode=CHART"


def of_run(experiment: str, run: str) -> str:
    """Address a run's page."""
    return f"/#/experiments/{experiment}/runs/{run}?{FACE}"


def _state(has_trainability: bool) -> Mapping[str, Any]:
    """What is shown and how. MLflow fills in the rest."""
    widths = dict(_WIDTHS)
    if has_trainability:  # beside the other outcomes
        rest = list(widths.items())
        place = 1 + list(widths).index(f"metrics.`{CARRIED}`")
        widths = dict([*rest[:place], (f"metrics.`{TRAINABILITY}`", _TRAINABILITY_WIDTH), *rest[place:]])
    by_setting = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": SETTING}]}
    return {
        "searchFilter": CURRICULA,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "selectedColumns": [column for column in widths if column.startswith(("metrics.", "params.", "tags."))],
        "columnOrder": list(widths),
        "columnWidths": widths,
        "groupBy": by_setting,
        "useGroupedValuesInCharts": False,  # seeds stay apart: their spread is part of the answer
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,  # keeps the sections in our order
        "compareRunSections": _sections(),
        "compareRunCharts": _charts(has_trainability),
    }


def _sections() -> list[Mapping[str, Any]]:
    """Ours first, then those that MLflow fills by itself; most of them folded."""
    ours = [
        {"uuid": name, "name": name, "display": True, "isReordered": True, "columns": columns, "cardHeight": 290}
        for name, columns in ((_OURS, 2), (_COURSES, 1))
    ]
    rest = dict.fromkeys((*_OPEN, *_CLOSED))
    others = [{"uuid": name, "name": name, "display": name in _OPEN, "isReordered": False} for name in rest]
    own = [{**section, "deleted": False, "isGenerated": False} for section in ours]
    return [*own, *({**section, "deleted": False, "isGenerated": True} for section in others)]


def _charts(has_trainability: bool) -> list[Mapping[str, Any]]:
    """Accuracy against entropy; each run's own; both on their way. Below, what was set beside it, and carry-over.

    Where there are probes, first of all accuracy against what is left of the ability to learn.
    """
    trainability = [TRAINABILITY] if has_trainability else []
    ours: list[dict[str, Any]] = [
        *({"type": "SCATTER", "xaxis": _axis(one), "yaxis": _axis(ACCURACY)} for one in trainability),
        {"type": "SCATTER", "xaxis": _axis(LEFT), "yaxis": _axis(ACCURACY)},
        *({"type": "BAR", "metricKey": metric} for metric in (ACCURACY, LEFT, *trainability)),
        *({"type": "LINE", "metricKey": metric, **_LINE} for metric in (ACCURACY, LEFT)),
    ]
    courses: list[dict[str, Any]] = [
        {"type": "PARALLEL", "selectedParams": list(PARAMS), "selectedMetrics": [CARRIED, ACCURACY, LEFT]},
        {"type": "PARALLEL", "selectedParams": ["objective"], "selectedMetrics": [*_CARRY_OVER, *trainability]},
    ]
    common = {"runsCountToCompare": 100, "deleted": False, "isGenerated": False}
    return [
        {"uuid": f"{section} {number}", "metricSectionId": section, **common, **chart}
        for section, charts in ((_OURS, ours), (_COURSES, courses))
        for number, chart in enumerate(charts)
    ]


_LINE = {
    "lineSmoothness": 0,
    "xAxisKey": "step",
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
    "range": {},
}


def _axis(metric: str) -> Mapping[str, str]:
    return {"key": metric, "type": "METRIC"}
