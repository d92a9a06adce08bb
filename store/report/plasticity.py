"""The section on plasticity: probes beside the base's, the network by layer, drift, turnover, interventions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from store.carryover import difference
from store.ledger.query_rows import by_key
from store.metrics import metric
from store.report import charts
from store.report.learning_curves import frame_of_steps
from store.report.report_data import ReportData
from store.run_summary import Facts, compact
from store.sentences import number, probe_name, when

BASE = "c0"  # the colour of what is compared with
NOW = "c1"
# What is drawn of the network; the table has all of it.
DRAWN = {"dormant_0.025": "Dormant units", "dormant_0.1": "Dormant units, below a tenth", "erank": "Effective rank"}
TASKS = {"gained": "c3", "lost": "c5", "repaired": "c1"}
KL = {"kl_base": "KL to the base", "kl_prev": "KL to the policy measured last"}


def has_any(data: ReportData) -> bool:
    """Whether there is anything to tell that the other sections do not."""
    found = data.facts["plasticity"]
    return bool(found["is_measured"] or found["turnover"])


# --- samples ---


def pass_at_k(data: ReportData) -> str | None:
    """Name the pass@k that is told beside the answers."""
    return next((name for name in data.facts["plasticity"]["answers"] if name.startswith("pass_")), None)


def answer_rows(data: ReportData) -> list[dict[str, Any]]:
    """What the samples say of every environment: at the first boundary that measured it, and at the last.

    What these two did not measure is not filled from others: support is against a base that played the same tasks, and
    nothing is known of it after these changed.
    """
    found = data.facts["plasticity"]["answers"]
    told = [one for one in ("entropy_answer", pass_at_k(data), "distinct") if one]
    rows = []
    for name in data.environments if found else ():
        boundaries = sorted((i for i, row in found["entropy_answer"].items() if name in row), key=int)
        ends = [boundaries[at] for at in (0, -1) if boundaries]
        values = [found.get(one, {}).get(i, {}).get(name) for one in told for i in ends]
        if any(value is not None for value in values[:2]):
            reached, kept = (
                found.get(f"support_{what}_base", {}).get(ends[-1], {}).get(name) for what in ("found", "kept")
            )
            lost = None if kept is None else 1 - kept
            rows.append({"name": name, "ends": values, "found": reached, "lost": lost})
    return rows


# --- probes ---


def probe_panels(data: ReportData) -> list[charts.Chart]:
    """A chart a probe: its curve now, the base's, and those of the boundaries between in grey."""
    found = data.facts["plasticity"]["curves"]
    panels = []
    for (kind, task, name), own in by_key(found, lambda one: (one["kind"], one["task"], one["metric"])).items():
        stages = by_key(own, lambda one: one["after_stage"])
        if all(len(one["points"]) < 2 for one in own):
            continue  # one that trains nothing has no curve
        last = max(stages)
        series = [_probe_series(after, curves, last) for after, curves in sorted(stages.items())]
        panels.append(charts.probe_chart(probe_name({"kind": kind, "task": task}), metric(name), series))
    return panels


def _probe_series(after: int, curves: Sequence[Facts], last: int) -> charts.Series:
    """The mean of a boundary's seeds, with the range that they span where it is the base's or the last."""
    by_step = by_key((point for one in curves for point in one["points"]), lambda point: point[0])
    values = {step: [value for _, value in own] for step, own in sorted(by_step.items())}
    is_end, css = after in (0, last), NOW if after == last and after else BASE if after == 0 else "k0"
    return charts.Series(
        "base" if after == 0 else f"stage {after}",
        f"{css} twin" if after == 0 else css,
        [(step, fmean(own)) for step, own in values.items()],
        is_named=is_end,
        gap=math.inf,
        ranges=[(step, min(own), max(own)) for step, own in values.items()] if is_end else (),
    )


# --- the network, and how far the policy moved ---


def network_panels(data: ReportData) -> list[charts.Chart]:
    """A chart a number of the network: a line a layer over the stages."""
    found = data.facts["plasticity"]["network"]
    panels = []
    for name, title in DRAWN.items():
        layers = {layer: own for layer, own in found.get(name, {}).items() if layer >= 0} or found.get(name, {})
        known = {layer: [v for v in own.values() if v is not None] for layer, own in layers.items()}
        if not any(known.values()):
            continue
        names = {layer: f"layer {layer}" if layer >= 0 else "all layers" for layer in sorted(layers)}
        least, most, digits = (0.01, 1.0, 2) if metric(name).unit == "fraction" else (1.0, math.inf, 1)
        moved = {names[layer]: max(own) - min(own) if own else 0.0 for layer, own in known.items()}
        colours = charts.ramp(list(names.values()), moved)
        series = [
            _over_stages(data, names[layer], colours[names[layer]], own, colours[names[layer]] != "k0", digits)
            for layer, own in sorted(layers.items())
        ]
        y = charts.Scale(0, charts.nice_top([v for own in known.values() for v in own], least, most))
        ends = "; ".join(f"{names[i]} {number(own[0])} to {number(own[-1])}" for i, own in known.items() if own)
        about = f"{title} by layer over the stages. {ends}."
        panels.append(charts.line_chart(title, about, series, frame_of_steps(data, y, charts.LOW), "low"))
    return panels


def network_rows(data: ReportData) -> list[dict[str, Any]]:
    """Every number of the network, by layer: first, last, and what it means."""
    rows = []
    for name, layers in data.facts["plasticity"]["network"].items():
        for layer, own in sorted(layers.items()):
            values = [own[after] for after in sorted(own)]
            where = "all" if layer < 0 else str(layer)
            row = {"metric": name, "layer": where, "meaning": metric(name).meaning}
            rows.append({**row, "start": _compact(values[0]), "end": _compact(values[-1])})
    return rows


def _compact(value: float | None) -> str:
    return "-" if value is None else compact(value)


def fixed_and_written(data: ReportData) -> list[charts.Chart]:
    """Entropy on frozen texts beside that on what the policy wrote, on one scale."""
    found = data.facts["plasticity"]["entropy_fixed"]
    if not found:
        return []
    written = {i: row for i, row in data.facts["matrices"]["entropy_token"].items() if i in found}
    titles = {"On the same frozen answers": found, "On what the policy wrote": written}
    return _by_environment(data, titles, "Entropy, nats a token", has_one_scale=True)


def drift_panels(data: ReportData) -> list[charts.Chart]:
    """KL to the base, and to the policy that was measured last, by environment."""
    found = data.facts["plasticity"]["drift"]
    titles = {f"{KL[name]}, nats a token": table for name, table in found.items()}
    return _by_environment(data, titles, "KL", has_one_scale=False)


def _by_environment(
    data: ReportData, tables: Mapping[str, Mapping[str, Any]], what: str, has_one_scale: bool
) -> list[charts.Chart]:
    tops = {
        title: [v for row in table.values() for v in row.values() if v is not None] for title, table in tables.items()
    }
    every = [value for own in tops.values() for value in own]
    made = []
    for title, table in tables.items():
        y = charts.Scale(0, charts.nice_top(every if has_one_scale else tops[title], 0.01))
        frame = frame_of_steps(data, y, charts.TALL)
        columns = {
            name: {int(i): row[name] for i, row in table.items() if name in row}
            for name in data.environments
            if any(name in row for row in table.values())
        }
        series = [
            _over_stages(data, name, data.colours[name], own, data.colours[name] != "c0")
            for name, own in columns.items()
        ]
        ends = "; ".join(f"{one.name} {number(one.measured[-1][1])}" for one in series if one.measured)
        about = f"{what}, {title}, by environment. At the end: {ends}."
        made.append(charts.line_chart(title, about, series, frame, "tall"))
    return made


def tables_of(data: ReportData) -> list[charts.HeatMap]:
    """What the charts by environment show, as numbers: after stage i, on environment j."""
    found = data.facts["plasticity"]
    titles = {"Entropy on frozen answers, nats": found["entropy_fixed"]}
    titles |= {f"{KL[name]}, nats": table for name, table in found["drift"].items()}
    made = []
    for title, table in titles.items():
        columns = [name for name in data.environments if any(name in row for row in table.values())]
        rows = [
            charts.HeatRow(
                "start" if i == "0" else i,
                data.trained(int(i)),
                [charts.HeatCell(number(table[i].get(name)), "h0", f"{name} {when(int(i))}") for name in columns],
            )
            for i in sorted(table, key=int)
        ]
        if rows:
            made.append(charts.HeatMap(title, "plain", columns, rows, None))
    return made


def _over_stages(
    data: ReportData, name: str, css: str, values: Mapping[int, float | None], is_named: bool = True, digits: int = 2
) -> charts.Series:
    """A line through the boundaries, at their steps."""
    steps = {boundary.after_stage: boundary.step for boundary in data.boundaries}
    known = [(after, value) for after, value in sorted(values.items()) if value is not None and after in steps]
    measured: list[charts.Measured] = [
        (steps[after], value, None, f"{name}, {when(after)}: {number(value, digits)}") for after, value in known
    ]
    return charts.Series(
        name, css, [(step, v) for step, v, *_ in measured], measured, is_named, digits=digits, gap=math.inf
    )


# --- tasks that come and go, and which stage changed what ---


def turnover_panels(data: ReportData) -> list[charts.Chart]:
    """A chart an environment: how many held-out tasks each look found gained, lost, repaired."""
    by_name = by_key(data.facts["plasticity"]["turnover"], lambda row: row["environment"])
    top = max((row[key] for own in by_name.values() for row in own for key in TASKS), default=0)
    frame = frame_of_steps(data, charts.Scale(0, charts.nice_top([top], 1)), charts.LOW)
    panels = []
    for name, own in by_name.items():
        series = [
            _over_stages(data, key, css, {r["later"]: float(r[key]) for r in own}, digits=0)
            for key, css in TASKS.items()
        ]
        sums = ", ".join(f"{key} {sum(row[key] for row in own)}" for key in TASKS)
        about = f"Held-out tasks of {name}, in all looks: {sums}."
        panels.append(charts.line_chart(f"{name}, of {own[-1]['num_items']} tasks", about, series, frame, "low"))
    return panels


# --- interventions ---


def intervention_rows(data: ReportData) -> list[dict[str, Any]]:
    """Every intervention with a row a number: before, after."""
    found = data.facts["plasticity"]["interventions"]
    rows = []
    for one in found:
        options = ", ".join(f"{key} {value}" for key, value in one["params"].items())
        first = {"when": when(one["after_stage"]), "kind": one["kind"], "options": options, "why": one["why"]}
        measured = list(one["after"]) or [""]
        for place, name in enumerate(measured):
            was, now = one["before"].get(name), one["after"].get(name)
            change = None if name == "kl_prev" else difference(was, now)  # of the stage, and of the intervention
            numbers = {"metric": name, "was": was, "now": now, "change": change}
            rows.append({**first, **numbers, "is_first": place == 0, "num": len(measured)})
    return rows
