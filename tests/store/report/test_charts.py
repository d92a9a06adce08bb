from __future__ import annotations

import math

import pytest

from store.metrics import metric
from store.report.charts import (
    Chart,
    Frame,
    Scale,
    Series,
    bar,
    forest,
    line_chart,
    nice_top,
    palette,
    path,
    probe_chart,
    scale_around_zero,
    shade,
    spread,
    stacked_chart,
    ticks,
)

UNIT = Scale(0, 1)


def drawn(*series: Series, height: int = 100) -> Chart:
    return line_chart("title", "about", series, Frame(Scale(0, 10), UNIT, height), "low")


@pytest.mark.parametrize(
    ("low", "high", "about", "values"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 400, 5, [0, 100, 200, 300, 400]),
        (0, 0.6, 5, [0, 0.2, 0.4, 0.6]),
        (120, 480, 4, [200, 300, 400]),
        (3, 3, 5, [3]),
    ],
)
def test_ticks_are_round(low: float, high: float, about: int, values: list[float]) -> None:
    assert ticks(low, high, about) == pytest.approx(values)


@pytest.mark.parametrize(
    ("values", "least", "most", "top"),
    [
        ([0.52], 0.1, 1.0, 0.6),
        ([], 0.1, 1.0, 0.1),
        ([2.05], 0.1, math.inf, 2.5),
        ([0.95], 0.1, 1.0, 1.0),
        ([1.2], 0.1, 1.0, 1.0),
    ],
)
def test_an_axis_ends_at_a_round_number_above_its_values(
    values: list[float], least: float, most: float, top: float
) -> None:
    assert nice_top(values, least, most) == pytest.approx(top)


@pytest.mark.parametrize(
    ("points", "drawing"),
    [
        ([(0, 0.0), (0.01, 1.0)], "M0 1000 10 0"),
        ([(0, 0.5)], "M0 500h0"),  # a lone point is a dot
        ([(0, 0.5), (0.01, None), (0.02, 0.5)], "M0 500h0M20 500h0"),
        ([(0, 0.5), (0.5, 0.5)], "M0 500h0M500 500h0"),  # a hole is not bridged
        ([], ""),
    ],
)
def test_paths_live_in_a_box_of_a_thousand(points: list[tuple[float, float | None]], drawing: str) -> None:
    assert path(points, UNIT, UNIT) == drawing


def test_a_wider_gap_may_be_asked_for() -> None:
    assert path([(0, 0.5), (0.5, 0.5)], UNIT, UNIT, math.inf) == "M0 500 500 500"


@pytest.mark.parametrize(
    ("wanted", "apart", "placed"),
    [
        ([10, 50, 90], 5, [10, 50, 90]),
        ([50, 50, 50], 10, [50, 60, 70]),
        ([99, 98], 10, [98, 88]),
        ([50] * 11, 20, [2 + 9.6 * i for i in range(11)]),  # no room: evenly
        ([], 5, []),
    ],
)
def test_labels_never_cover_each_other(wanted: list[float], apart: float, placed: list[float]) -> None:
    assert spread(wanted, apart, 2, 98) == pytest.approx(placed)


def test_a_line_ends_with_its_last_measured_value() -> None:
    measured = [(0, 0.2, None, "first"), (10, 0.75, 0.05, "last")]
    (line,) = drawn(Series("a", "c1", measured=measured)).lines
    assert (line.label, line.label_y) == (".75", pytest.approx(25))
    assert [(dot.x, dot.y, dot.low, dot.high) for dot in line.dots] == [
        (0, 80, None, None),
        (100, pytest.approx(25), pytest.approx(30), pytest.approx(20)),
    ]


def test_an_error_bar_stays_inside_the_plot() -> None:
    (line,) = drawn(Series("a", "c1", measured=[(10, 0.95, 0.2, "")])).lines
    assert line.dots[0].high == 0


def test_a_line_without_a_name_has_no_label_and_no_dots() -> None:
    (line,) = drawn(Series("a", "c0", [(0, 0.5)], [(0, 0.5, None, "")], is_named=False)).lines
    assert (line.label, line.dots) == (None, ())


def test_shares_are_laid_over_each_other() -> None:
    below, above = Series("a", "k1", [(0, 0.25), (10, 0.5)]), Series("b", "k2", [(0, 0.75), (10, 0.5)])
    chart = stacked_chart("title", "about", [below, above], Frame(Scale(0, 10), UNIT, 150), "low")
    assert chart.is_stacked
    assert [line.path for line in chart.lines] == [
        "M0 750 1000 500 1000 1000 0 1000Z",
        "M0 0 1000 0 1000 500 0 750Z",
    ]
    assert [(line.label, line.label_y) for line in chart.lines] == [(".50", 75), (".50", 25)]


def test_the_last_step_says_what_it_is() -> None:
    assert [tick.label for tick in drawn().x_ticks] == ["0", "2", "4", "6", "8", "10 steps"]


def test_of_many_names_the_first_ranked_have_a_colour() -> None:
    names = [f"n{i}" for i in range(10)]
    colours = palette(names, names[::-1])
    assert [colours[name] for name in names] == ["c0", "c0", *(f"c{i}" for i in range(1, 9))]


def test_the_parts_of_a_bar_lie_one_after_the_other() -> None:
    made = bar("1", "book", [(1, "c1", "a"), (3, "c2", "b")])
    assert (made.total, [(part.x, part.width) for part in made.segments]) == (4, [(0.0, 25.0), (25.0, 75.0)])


def test_a_forest_row_is_placed_on_a_scale_that_holds_zero() -> None:
    scale = scale_around_zero([-0.5, 0.5])
    row = forest([(0.25, "seed 0")], 0.0, (-0.5, 0.5), scale, "about", has_zero=True)
    assert (row.dots, row.mark, row.low, row.high, row.zero) == ([(75.0, "seed 0")], 50.0, 0.0, 100.0, 50.0)
    assert row.about == "about; seed 0"


def test_shades_stay_inside_their_range() -> None:
    assert [shade(share) for share in (-1, 0, 0.5, 2)] == ["h0", "h0", "h10", "h20"]


@pytest.mark.parametrize("values", [(2.0, 3.3), (2.6, 5.1), (0.1, 0.5), (3.0, 3.0)])
def test_a_probe_s_curve_stays_inside_its_frame(values: tuple[float, float]) -> None:
    series = Series("base", "c0", list(enumerate(values)), gap=math.inf)
    (line,) = probe_chart("supervised language", metric("probe_loss"), [series]).lines
    assert all(0 <= int(place) <= 1000 for place in line.path.strip("M").split())
