"""Whole runs whose environments have groups and budgets of their own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.callbacks import Callback
from orchestrator.runs.api import fork, resume, run
from orchestrator.runs.catalog import opened
from store.comparison.runs import gather
from tests.integration.runs import At, Killed, ending, kill, told
from tests.orchestrator.specs import REPOSITORY, Raw, small
from tests.shares import share

SIZES = {"guess": 6, "lake": 3, "book": 4}


def sized(name: str = "sized", **sections: Any) -> Raw:
    """Two environments of several turns, each with an own size and budgets, and one that has neither."""
    return small(
        name,
        warm_start={"environments": ["guess", "lake"], "batches": 10, "batch_size": 16, "lr": 0.03, "warmup": 2},
        environments={
            "guess": {
                **{"type": "guess:create", "numbers": [3, 4]},
                "episodes": {"group_size": 6, "max_turns": 1, "cut_off": "mask"},
            },
            "lake": {"type": "lake:create", "steps": [2, 3], "episodes": {"group_size": 3, "turn_tokens": 1}},
            "book": {"type": "codebook", "categories": {"2": 2}, "keys": 6},
        },
        curriculum={"mode": "flat", "stages": 2, "stage": {"steps": 3}, "bandit": "uniform"},
        step={"groups": 8, "group_size": 4},
        sampler={"max_tokens": 12, "turn_tokens": 4, **sections.pop("sampler", {})},
        scoring={"isolation": "none"},
        resources={"search_path": str(REPOSITORY / "examples")},
        **sections,
    )


SPECS = {"sized": sized(), "sized-ahead": sized("sized-ahead", sampler={"ahead": 1})}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the finished runs."""
    home = tmp_path_factory.mktemp("sized")
    for spec in SPECS.values():
        assert run(spec, home=home).status == "finished"
    return home


@pytest.mark.parametrize("name", SPECS)
def test_groups_turns_and_tokens_are_those_of_their_environment(home: Path, name: str) -> None:
    allocation = told(home, name)["allocation"]
    assert {row["environment"]: row["num_samples"] / row["num_groups"] for row in allocation} == SIZES
    with opened(home, name) as (_, ledger):
        read = ledger.reading
        samples = read.samples(name, "guess", limit=10_000)
        length, turns = (
            {(one.step, of): one.value for of in SIZES for one in read.series(name, metric, of)}
            for metric in ("response_len", "num_turns")
        )
    assert {len(one.messages) for one in samples} == {1}, "evaluated episodes have one turn too"
    assert max(value for (_, of), value in length.items() if of == "guess") <= 4, "one turn of the sampler's"
    assert all(length[step, "lake"] <= value for (step, of), value in turns.items() if of == "lake")
    assert max(value for (_, of), value in turns.items() if of == "lake") > 1


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("moment", share([5, 2, 3, 8], 1))
def test_killed_at_any_moment_it_equals_the_uninterrupted_run(home: Path, name: str, moment: int) -> None:
    killed = f"{name}-{moment}"
    with pytest.raises(Killed):
        run(SPECS[name], [f"name={killed}"], home=home, watcher=At(moment, kill))
    assert resume(killed, home=home).status == "finished"
    assert ending(home, killed) == ending(home, name)


def test_what_was_trained_on_is_counted_as_played(home: Path) -> None:
    story = told(home, "sized")
    num = sum(row["num_samples"] for row in story["allocation"])
    assert num != 6 * 8 * 4
    assert story["looking"]["training"]["passes"] == 4.0 * num
    with opened(home, "sized") as (place, ledger):
        compared = gather(ledger.reading, place, list(SPECS), [])
    assert {entry.run.name: entry.num_samples for entry in compared.entries} == {
        name: sum(row["num_samples"] for row in told(home, name)["allocation"]) for name in SPECS
    }


def test_the_ledger_knows_an_environment_by_its_budgets_and_not_by_its_groups(home: Path) -> None:
    budgets = sized("budgets")
    budgets["environments"]["guess"]["episodes"] = {"group_size": 5, "max_turns": 1, "cut_off": "mask"}
    budgets["environments"]["lake"]["episodes"] = {"group_size": 3, "turn_tokens": 2}
    assert run(budgets, home=home, until_step=1).status == "stopped"
    with closing(sqlite3.connect(home / "evergreen.db")) as ledger:
        found = [
            (name, json.loads(options)) for name, options in ledger.execute("SELECT name, options FROM environment")
        ]
    known = {name: [options.get("episodes") for other, options in found if other == name] for name in SIZES}
    assert known == {
        "guess": [{"max_turns": 1, "cut_off": "mask"}],
        "lake": [{"turn_tokens": 1}, {"turn_tokens": 2}],
        "book": [None],
    }


def test_a_fork_may_have_other_groups_and_is_of_the_same_environments(home: Path) -> None:
    forked = fork("sized", stage=1, overrides=["name=larger", "environments.guess.episodes.group_size=8"], home=home)
    assert forked.status == "finished"
    rows = told(home, "larger")["allocation"]
    by_stage = {(row["stage"], row["num_samples"] / row["num_groups"]) for row in rows if row["environment"] == "guess"}
    assert by_stage == {(1, 6), (2, 8)}


class Heard(Callback):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def event(self, texts: Sequence[str]) -> None:
        self.told += texts


def test_a_fork_of_other_turns_is_told_where_they_do_not_hold(home: Path) -> None:
    heard = Heard()
    overrides = ["name=shorter", "sampler.max_turns=1"]
    assert fork("sized", stage=1, overrides=overrides, home=home, until_step=4, watcher=heard).status == "stopped"
    assert [text for text in heard.told if "max_turns" in text] == [
        "sampler.max_turns: 1 does not hold where an environment has a limit of its own, which a fork keeps: "
        "`environments.guess.episodes.max_turns: 1`"
    ]
    assert resume("shorter", home=home, until_step=5, watcher=heard).status == "stopped"
    assert len([text for text in heard.told if "max_turns" in text]) == 1, "once"
