"""Which environment helped which: what stages on one changed on the others, as a network and as a matrix.

The network has an arrow for each change that is more than chance over the tasks makes anywhere among so many, so that
it stays readable; the matrix has them all, with their errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from store.ledger.query_rows import by_key
from store.report import charts
from store.report.report_data import ReportData
from store.run_summary import Facts
from store.sentences import num, number, short, signed

COLUMNS = 24  # environments that the matrix has room for
NODES = 12  # and the network
WIDTH, HEIGHT, RADIUS = 640, 340, 120  # of the drawing, and of the circle that its names stand on
GAP = 12  # between a node and the end of an arrow
BEND = 0.16  # of an arrow's length, to its right: so that there and back are two
THINNEST, THICKEST = 1.25, 6.0


@dataclass(frozen=True)
class Node:
    """An environment on the circle."""

    name: str
    x: float
    y: float
    label_x: float
    label_y: float
    anchor: str  # of the label: start, middle, end


@dataclass(frozen=True)
class Arrow:
    """From an environment that was trained to one that it changed."""

    path: str
    css: str  # up or down
    width: float
    label: str
    x: float  # of the label
    y: float
    about: str


@dataclass(frozen=True)
class TransferGraph:
    """The drawing, in a box of `WIDTH` by `HEIGHT`."""

    nodes: Sequence[Node]
    arrows: Sequence[Arrow]
    about: str
    width: int = WIDTH
    height: int = HEIGHT


def transfer_graph(data: ReportData) -> TransferGraph | None:
    """Draw the changes on other environments that are more than chance; None: there are none."""
    rows = data.facts["plasticity"]["transfer"]
    found = [row for row in rows if row["is_carried"] and row["trained"] != row["changed"]]
    found.sort(key=lambda row: -abs(row["change"]))
    ranked = dict.fromkeys(name for row in found for name in (row["trained"], row["changed"]))
    names = [name for name in data.environments if name in [*ranked][:NODES]]
    shown = [row for row in found if {row["trained"], row["changed"]} <= {*names}]
    if not shown:
        return None
    nodes = {name: _node(name, 2 * math.pi * place / len(names)) for place, name in enumerate(names)}
    top = abs(shown[0]["change"])
    arrows = [_arrow(row, nodes[row["trained"]], nodes[row["changed"]], top) for row in shown]
    return TransferGraph([*nodes.values()], arrows, "; ".join(arrow.about for arrow in arrows))


def _node(name: str, angle: float) -> Node:
    """Place an environment on the circle, from the top, clockwise; its name outside."""
    x, y = math.sin(angle), -math.cos(angle)
    anchor = "middle" if abs(x) < 0.2 else "start" if x > 0 else "end"
    far = RADIUS + 14
    below = 5 + (8 if y > 0.8 else 0)
    return Node(
        short(name, 24),
        WIDTH / 2 + RADIUS * x,
        HEIGHT / 2 + RADIUS * y,
        WIDTH / 2 + far * x,
        HEIGHT / 2 + far * y + below,
        anchor,
    )


def _arrow(row: Facts, start: Node, end: Node, top: float) -> Arrow:
    """Draw a bent line that keeps off both nodes; as thick as what was changed is much."""
    dx, dy = end.x - start.x, end.y - start.y
    length = math.hypot(dx, dy)
    to_right = (-dy / length, dx / length)
    middle = [
        (a + b) / 2 + BEND * length * side
        for a, b, side in zip((start.x, start.y), (end.x, end.y), to_right, strict=True)
    ]
    first, last = (_towards(node, middle, GAP) for node in (start, end))
    change = row["change"]
    about = (
        f"{num(row['num_visits'], 'stage')} on {row['trained']} changed {row['changed']} by {signed(change, 3)}, "
        f"\u00b1{number(row['margin'])}"
    )
    return Arrow(
        f"M{first[0]:.1f} {first[1]:.1f} Q{middle[0]:.1f} {middle[1]:.1f} {last[0]:.1f} {last[1]:.1f}",
        "up" if change > 0 else "down",
        THINNEST + (THICKEST - THINNEST) * abs(change) / top,
        signed(change),
        (first[0] + 2 * middle[0] + last[0]) / 4,  # the middle of the curve
        (first[1] + 2 * middle[1] + last[1]) / 4,
        about,
    )


def _towards(node: Node, point: Sequence[float], by: float) -> tuple[float, float]:
    """Go some way from a node towards a point."""
    dx, dy = point[0] - node.x, point[1] - node.y
    length = math.hypot(dx, dy)
    return node.x + by * dx / length, node.y + by * dy / length


def transfer_map(data: ReportData) -> charts.HeatMap | None:
    """What a stage on i changed on j: shaded where it is more than chance; of many, those most changed."""
    found = data.facts["plasticity"]["transfer"]
    if not found:
        return None
    top = charts.nice_top([abs(row["change"]) for row in found], 0.05)
    by_stage = by_key(found, lambda row: row["trained"])
    moved = {
        name: max(abs(row["change"]) for row in own) for name, own in by_key(found, lambda r: r["changed"]).items()
    }
    most = sorted(moved, key=lambda name: -moved[name])[:COLUMNS]
    columns = [name for name in data.environments if name in most]
    rows = []
    for name, own in by_stage.items():
        cells = {row["changed"]: row for row in own}
        visits = max(row["num_visits"] for row in own)
        shown = [_transfer_cell(cells.get(column), top, name == column, column) for column in columns]
        rows.append(charts.HeatRow(name, f"{visits}x", shown))
    return charts.HeatMap("What stages on one changed on every other", "transfer", columns, rows, None)


def _transfer_cell(row: Facts | None, top: float, is_own: bool, column: str) -> charts.HeatCell:
    outlined = " trained" if is_own else ""
    if row is None:
        return charts.HeatCell("-", f"h0{outlined}", f"{column}: not measured before and after", "")
    share = abs(row["change"]) / top if row["is_carried"] else 0.0
    way = "up" if row["change"] > 0 else "down"
    css = f"{charts.shade(share)} {way if row['is_carried'] else 'faint'}{outlined}"
    margin = "" if row["margin"] is None else f"\u00b1{number(row['margin'])}"
    seen = "" if row["is_carried"] else ", perhaps chance among so many or without a standard error"
    by = f"by {signed(row['change'], 3)}{seen}"
    about = f"{num(row['num_visits'], 'stage')} on {row['trained']} changed {row['changed']} {by}"
    return charts.HeatCell(signed(row["change"]), css, about, margin)
