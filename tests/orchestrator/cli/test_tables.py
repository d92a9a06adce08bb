"""A table of numbers in a terminal of any width: nothing is cut."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from orchestrator.cli.tables import MOST_ARMS, arms_and_batches, print_story, print_table, table
from store.ledger import Ledger
from store.records import EventRecord
from store.run_summary import facts
from tests.shares import share
from tests.store.plasticity_runs import plastic
from tests.store.report import runs

HEADS = ("retained", "carried", "tokens an answer", "relative forgetting", "P(improvement)", "seeds for 80 %")
NAMES = ("repo_adaptive", "grpo", "divisors")


def made() -> Table:
    one = table("What carried over", "setting", *HEADS, "probability", "", holds_numbers=True)
    for i, name in enumerate(NAMES):
        one.add_row(name, *(f"{i}.{j}7" for j in range(len(HEADS))), f".{i}1", f"-> .{i}2")
    return one


def printed(one: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_table(console, one)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_heading_no_name_and_no_number_is_cut(width: int) -> None:
    lines = printed(made(), width)
    text = "\n".join(lines)
    words = text.split()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    assert {word for head in HEADS for word in head.split()} <= {*words}
    assert text.count("What carried over") == 1
    assert len({words.count(name) for name in NAMES}) == 1, "in every part"
    for i in range(len(NAMES)):
        assert {f"{i}.{j}7" for j in range(len(HEADS))} <= {*words}
        assert re.search(rf"\.{i}1 +-> \.{i}2", text), "side by side"


def test_a_table_with_room_is_as_rich_makes_it() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(made())
    assert isinstance(console.file, io.StringIO)
    assert printed(made(), 200) == console.file.getvalue().splitlines()


def test_a_table_that_lacks_little_room_stays_one() -> None:
    one = table("", "name", "first one", "second one")
    one.add_row("a", "1", "2")
    assert len([line for line in printed(one, 26) if "name" in line]) == 1
    assert [line.split() for line in printed(one, 22) if "a " in line] == [["a", "1", "2"]]


def test_a_line_below_a_table_comes_after_its_last_part() -> None:
    one = made()
    one.caption = "* what it means"
    assert printed(one, 50)[-1].strip() == "* what it means"


@pytest.mark.parametrize("num", [MOST_ARMS, 500])
def test_of_many_arms_those_with_the_most_groups_are_shown_in_their_order(num: int) -> None:
    shares = {f"probability_{key}": 0.5 for key in ("start", "end", "min", "max")}
    arms = [
        {"bandit": "t", "arm": f"topic {i}", "num_picks": i % 50, "is_scheduler": False, **shares} for i in range(num)
    ]
    (one,) = arms_and_batches({"arms": arms, "played": {"batch": []}})
    shown = [str(cell) for cell in one.columns[0].cells]
    if num == 500:
        assert shown == [f"t.topic {i}" for i in range(500) if i % 50 >= 48]
        assert one.caption == "and 480 more with no more picks than these: --json has all"
    else:
        assert (len(shown), one.caption) == (MOST_ARMS, None)


@pytest.mark.parametrize(("stages", "environments"), share([(60, 60), (60, 3), (200, 3)], 1))
def test_a_long_run_is_told_on_a_screen_and_whole_if_that_is_asked_for(
    tmp_path: Path, stages: int, environments: int
) -> None:
    names = [f"book {k}" for k in range(environments)]
    incidents = [EventRecord("alarm", f"incident {k}") for k in range(80)]
    shape = runs.Shape(environments=names, stages=stages, steps=1, events=incidents)
    with Ledger.open("sqlite://") as ledger:
        runs.written(ledger, shape, "long")
        story = {**facts(ledger, tmp_path, "long"), "digest": None}
    texts = []
    for is_whole in (False, True):
        console = Console(file=io.StringIO(), width=120)
        print_story(console, story, is_whole)
        assert isinstance(console.file, io.StringIO)
        texts.append(console.file.getvalue())
    short, whole = texts
    assert len(short.splitlines()) < 140
    assert f" {stages}  book" in short or environments > 20, "the newest stages"
    assert "--all" in short
    assert "show --events" in short
    for what in (*names, *(f" {k}  book" for k in range(1, stages + 1)), *(f"incident {k}" for k in range(80))):
        assert what in whole
    assert "--all" not in whole


def test_a_number_that_is_not_of_the_last_boundary_says_of_which_it_is(tmp_path: Path) -> None:
    with Ledger.open("sqlite://") as ledger:
        story = {**facts(ledger, tmp_path, plastic(ledger, "plastic").name), "digest": None}
    drift = story["plasticity"]["drift"]["kl_base"]
    story["plasticity"]["drift"] = {"kl_base": {stage: drift[stage] for stage in ("1", "3")}}
    console = Console(file=io.StringIO(), width=200)
    print_story(console, story)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    (kl,) = [line for line in lines if "KL to the base" in line]
    assert re.search(r"after stage 1 +\.08 +-> \.24 after stage 3$", kl.rstrip())
    (entropy,) = [line for line in lines if "entropy on frozen answers, nats" in line]
    assert not re.search(r"-> \S+ after", entropy)
