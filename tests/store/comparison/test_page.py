"""The page says what the comparison says, and names are never more than text."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from store.comparison import Comparison, sentences, write
from store.comparison.page import render
from store.ledger import Ledger
from store.sentences import number, signed
from tests.store.comparison.conftest import Compare
from tests.store.comparison.runs import Made, eight, study, written
from tests.store.report.pages import Page

Fresh = Callable[[], str]
HOSTILE = '"><script>alert(1)</script>{{ 7 * 7 }}\u202e\x1b[31m'
MANY = {f"setting {i}": [0.1 + 0.01 * i, 0.2, 0.3] for i in range(10)}


@pytest.fixture
def six(ledger: Ledger, compare: Compare, fresh: Fresh) -> Comparison:
    return compare(*eight(ledger, [0.10, 0.20, 0.15, 0.12, 0.11, 0.30], fresh()))


def test_tables_hold_the_numbers_and_the_top_says_the_verdict(ledger: Ledger, six: Comparison) -> None:
    page = Page(render(ledger.reading, six))
    (pair,) = six.pairs
    assert page.bare == []
    assert sentences.sentence(pair) in page.text
    assert sentences.how_registered(six) in page.text
    for row, setting in zip(page.body("settings"), six.settings, strict=True):
        interval = sentences.interval(setting.iqm_interval)
        assert row[0] == setting.label
        assert row[2:5] == ["6", number(setting.iqm, 3), interval]
    (row,) = page.body("pairs")
    assert [row[0], *row[2:6]] == [
        "repo",
        "6",
        signed(pair.mean, 3),
        sentences.changes(pair.interval, is_ratio=False),
        sentences.p_value(pair.p),
    ]
    assert row[-1] == "better"
    assert len(page.body("runs")) == 12
    assert [row[1:] for row in page.body("strata")] == [
        [number(value, 3) for value in setting.strata.values()] for setting in six.settings
    ]


def test_three_charts_with_a_line_and_a_range_a_setting(ledger: Ledger, six: Comparison) -> None:
    html = render(ledger.reading, six)
    assert Page(html).classes["chart"] == 3
    assert len(re.findall(r'<path class="range c[12]"', html)) == 6
    assert "a line a setting. rloo ends at" in html


def test_warnings_and_what_was_left_out_are_on_the_page(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    stopped = Made(f"{x}c", 1, "repo", status="stopped")
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo", lengths=(4, 8)), stopped)
    text = Page(render(ledger.reading, compare(f"{x}a", f"{x}b", f"{x}c", by=["objective"]))).text
    assert "Mind: The budgets differ" in text
    assert f"1 run left out: {x}c (stopped at step 8)." in text
    assert "each is stretched to the same width" in text


def test_lines_and_points_of_entropy_are_told_apart_where_samples_are_not_the_policy_s(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    x = fresh()
    cold = {"sampler": {"temperature": 0.5}}
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo"))
    written(ledger, Made(f"{x}c", 0, "repo", spec=cold), Made(f"{x}d", spec=cold))

    def note(*names: str) -> str:
        text = Page(render(ledger.reading, compare(*(x + name for name in names), by=["objective"]))).text
        return re.findall(r"(?:Points|Lines) in the chart of entropy.*?\.(?= |$)", text)[0]

    assert note("a", "b") == "Points in the chart of entropy: held-out tasks, at boundaries."
    points = "points: that of the policies themselves, at temperature 1, on held-out tasks at boundaries."
    drawn = "Lines in the chart of entropy: that of what samples were drawn from,"
    assert note("d", "c") == f"{drawn} at temperature 0.5; {points}"
    apart = "rloo at temperature 1 and repo at temperature 0.5, so that they differ without any training"
    assert note("a", "c") == f"{drawn} {apart}; {points}"


@pytest.mark.slow
def test_many_settings_share_the_colours_and_their_verdicts_are_said_together(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    name = fresh() + "study"
    study(ledger, name, MANY)
    found = compare(name, metric="train_accuracy")
    html = render(ledger.reading, found)
    assert "and 5 more against setting 0: not enough to tell" in Page(html).text
    assert len(set(re.findall(r'<tr class="(c\d)"', html))) == 9  # eight, and grey
    assert "range" not in Page(html).classes
    assert len(Page(html).body("pairs")) == 9


def test_settings_with_long_labels_have_names_that_differ_everywhere(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    name = fresh() + "grid"
    grid = product(("repo_adaptive", "rloo"), (0.001, 0.003), (0.25, 0.5))
    labels = [f"{objective} lr={lr} replay={replay} group_size=8" for objective, lr, replay in grid]
    study(ledger, name, {label: [0.2 + 0.01 * i, 0.3, 0.25] for i, label in enumerate(labels)})
    found = compare(name)
    html = render(ledger.reading, found)
    names = [label.removesuffix(" group_size=8") for label in labels]
    page = Page(html)
    for table, shown in (("settings", names), ("strata", names), ("pairs", names[1:]), ("outcomes", names)):
        assert [row[0] for row in page.body(table)] == shown
    assert all(f'<th scope="row" title="{label}">' in html for label in labels), "whole where one points at it"
    ((_, said),) = sentences.sentences(found)
    assert said.startswith(f"{names[1]}, {names[2]}, {names[3]}, {names[4]} and 3 more against {names[0]}: not enough")


def test_whatever_a_name_holds_is_text(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    name = HOSTILE.encode("utf-8", "replace").decode()
    there = {"book": 0.4, name: 0.5}
    written(ledger, Made(f"{x}a", accuracy=there), Made(f"{x}b{name}", 0, f"repo{name}", accuracy=there))
    html = render(ledger.reading, compare(f"{x}a", f"{x}b{name}"))
    page = Page(html)
    assert not {"script", "img", "a", "link", "iframe"} & set(page.tags)
    assert not any(name.startswith("on") or name == "style" for name in page.attributes)
    assert "49" not in {cell for row in page.body("settings") for cell in row}
    assert "\x1b" not in html
    assert "\u202e" not in html


def test_the_page_is_written_whole(ledger: Ledger, six: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("older")
    write(ledger.reading, six, path)
    assert path.read_text("utf-8").rstrip().endswith("</html>")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_few_seeds_have_no_effects_and_two_no_interval(
    ledger: Ledger, compare: Compare, fresh: Fresh, seeds: int
) -> None:
    study(
        ledger, name := fresh() + "study", {"rloo": [0.1, 0.2, 0.15, 0.3][:seeds], "repo": [0.3, 0.5, 0.2, 0.4][:seeds]}
    )
    found = compare(name, metric="train_accuracy")
    page = Page(render(ledger.reading, found))
    (pair,), (row,) = found.pairs, page.body("pairs")
    told = [number(pair.improvement), number(pair.effect_size)]
    assert row[-3:-1] == (told if seeds == 4 else ["-", "-"])
    assert sentences.effects(pair) == ([*told, str(pair.seeds_for_power)] if seeds == 4 else ["-"] * 3)
    assert ("d_z: fewer than 4 pairs." in page.text) == (seeds < 4)
    assert all((setting.iqm_interval is None) == (seeds == 2) for setting in found.settings)
    assert ("Dot: interquartile mean; fewer than three seeds" in page.text) == (seeds == 2)
    cells = [cell for matrix in found.carry_over.matrices for line in matrix.rows for cell in line.cells.values()]
    assert all((cell.interval is None) == (seeds == 2) for cell in cells)
