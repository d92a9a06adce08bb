"""A comparison as a picture: performance over the steps with its band, and whose arms got the slots.

Colours are those of Okabe and Ito, which people who confuse red and green can tell apart; beyond seven, lines differ in
dash. Drawn without a display.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.bandits.contracts import Floats
from orchestrator.simulation.ranking import Ranking, value_of
from orchestrator.simulation.trials import Trial
from store.files import write_bytes
from store.sentences import num, short

FORMATS = (".png", ".svg", ".pdf")
INK, SOFT, RULE = "#1d2023", "#5b626b", "#e2dfd6"
LINES = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
GROUPS = (
    "#cfe3f2",
    "#86b8dd",
    "#3d86bf",
    "#0b4a7f",
    "#D55E00",
    "#8b9097",
)  # light to dark by level, then the traps
PLAIN_GROUPS = ("#0072B2", "#E69F00", "#009E73")  # of kinds without an order
LONGEST = 34  # characters of a policy's name
STYLE: dict[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a name is text, never a formula
    "svg.hashsalt": "evergreen",  # the same picture, the same file
}


def draw(ranking: Ranking, path: Path) -> None:
    """Draw a comparison into a file; its suffix says the format.

    Raises:
        OSError: it cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = len(ranking.rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, max(4.2, 1.6 + 0.34 * rows)), layout="constrained")
        FigureCanvasAgg(figure)
        curves, bars = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _draw_curves(curves, ranking)
        _draw_shares(bars, ranking)
        figure.suptitle(_title(ranking), x=0.01, ha="left", fontsize=11, weight="bold")
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        picture = BytesIO()
        figure.savefig(picture, format=path.suffix[1:].lower(), dpi=160, metadata=metadata)
    write_bytes(path, picture.getvalue())


def _title(ranking: Ranking) -> str:
    band = ", band: 95 %" if len(ranking.seeds) > 1 else ""
    world = ranking.world
    return f"Simulated world {world.letter}, {world.name}: {num(len(ranking.seeds), 'seed')}{band}"


def _draw_curves(axes: Any, ranking: Ranking) -> None:
    """One line a policy, its mean over the seeds, with a band of 95 %."""
    for place, row in enumerate(ranking.rows):
        mean, half = band(ranking.trials[row.entrant.label])
        steps = np.linspace(0, ranking.setting.num_steps, len(mean) + 1)[1:]
        colour, dash = LINES[place % len(LINES)], DASHES[place // len(LINES) % len(DASHES)]
        axes.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
        axes.plot(steps, mean, color=colour, linestyle=dash, linewidth=1.6, label=_name(row.entrant.label))
    axes.set_title(ranking.world.curve, loc="left", fontsize=10)
    axes.set_xlabel(f"{ranking.world.step}s")
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_xlim(0, ranking.setting.num_steps)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8.5, loc="best", handlelength=2.6)


def _draw_shares(axes: Any, ranking: Ranking) -> None:
    """One bar a policy, in the order of the table: its slots by group of arms."""
    labels = [row.entrant.label for row in ranking.rows]
    shares = np.array(
        [np.mean([t.shares.mean(axis=0) for t in ranking.trials[name]], axis=0) for name in labels]
    )
    colours = PLAIN_GROUPS if shares.shape[1] <= len(PLAIN_GROUPS) else GROUPS
    left = np.zeros(len(labels))
    for group, share in enumerate(shares.T):
        name = ranking.world.arm_groups[group]
        axes.barh(range(len(labels)), share, left=left, height=0.72, color=colours[group], label=name)
        _write_shares(axes, left, share, colours[group])
        left = left + share
    axes.set_yticks(range(len(labels)), [_name(label) for label in labels], color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_title("share of the slots", loc="left", fontsize=10)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    axes.legend(
        frameon=False,
        fontsize=8.5,
        ncols=6,
        loc="upper left",
        bbox_to_anchor=(0, -0.01),
        handlelength=1,
        columnspacing=1,
    )


def _write_shares(axes: Any, left: Floats, share: Floats, colour: str) -> None:
    """Write a share into its part of the bar where there is room."""
    ink = "white" if _luminance(colour) < 0.35 else INK
    for place, (start, width) in enumerate(zip(left, share, strict=True)):
        if width >= 0.06:
            middle = start + width / 2
            axes.text(middle, place, f"{width:.0%}", ha="center", va="center", fontsize=7.5, color=ink)


def band(trials: Sequence[Trial]) -> tuple[Floats, Floats]:
    """Mean curve over the seeds [points], and half its 95 % t-interval; 0 with one seed."""
    curves = np.array([trial.curve for trial in trials])
    values = [value_of(column) for column in curves.T]
    return np.array([one.mean for one in values]), np.array([one.half or 0.0 for one in values])


def _name(label: str) -> str:
    return short(label, LONGEST)


def _luminance(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return float(0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2)
