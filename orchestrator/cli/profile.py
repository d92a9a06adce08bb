"""profile: pass rates of single tasks, and the slices that come of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from environments import Scorer
from environments.display import clean
from environments.slices.options import KEY
from environments.slices.slice_file import SliceRow, text_of
from orchestrator.callbacks import Callback
from orchestrator.cli.console import (
    every_few_seconds,
    leaving,
    number,
    out,
    plain,
    print_json,
    require_place,
    write_page,
)
from orchestrator.cli.environment_targets import OnlyEnvironment, SetOption, Target, Targets, built, find_targets
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home
from orchestrator.cli.tables import print_table, table
from orchestrator.errors import UserError
from orchestrator.profiles import By, Profile, ProfileOptions, policy_profile, scripted_profile
from orchestrator.scripted_play import ScriptedPolicy
from store.files import write_text
from store.home import Home as HomeFolder
from store.intervals import wilson

FILE = Path("slices.jsonl")


class Telling(Callback):
    """Says on stderr now and then how far it is."""

    def __init__(self) -> None:
        self._tell = every_few_seconds("")

    def opening(self, text: str) -> None:
        self._tell(text)

    def phase(self, text: str) -> None:
        self._tell(text)


def profile(
    spec: Target,
    environment: OnlyEnvironment = None,
    overrides: SetOption = None,
    policy: Annotated[
        ScriptedPolicy | None,
        typer.Option("--policy", help="Play without a model; default: the spec's policy, as a run would begin."),
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="What `constant` answers.")] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="With the weights of this run's newest checkpoint.")
    ] = None,
    by: Annotated[
        By, typer.Option("--by", help="Slices by pass rate, or clusters or a tree of hidden states of the prompts.")
    ] = "pass_rate",
    count: Annotated[int, typer.Option(min=2, max=256, help="Most slices.")] = 4,
    samples: Annotated[int, typer.Option(min=0, help="Samples of each task; 0 plays none (--by hidden).")] = 8,
    tasks: Annotated[int, typer.Option(min=2, help="Most tasks that are read, of each environment.")] = 1000,
    train_only: Annotated[
        bool, typer.Option("--train-only", help="Leave out held-out tasks: they are in the slice `rest` then.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the answers of `random`.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the slices go.")] = FILE,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Print pass rates of single tasks, and write slices of them.

    The policy plays tasks several times each, but for those for a study's end. Its pass rates are printed by category
    and by slice, those of single tasks with --json, all with 95 % intervals. The file goes into a spec:
    `slices: slices.jsonl` beside an environment's type (docs/slices.md).
    """
    if output.exists() or output.is_symlink():
        raise UserError(f"{output} is there already, and nothing was played: name another file with -o")
    require_place(output, "slices")
    if policy is not None and run is not None:
        raise UserError("--run plays with a run's weights, and --policy without a model: leave one out")
    if text is not None and policy != "constant":
        who = "the spec's own" if policy is None else policy
        raise UserError(f"--text is what `constant` answers, and the policy is {who}: say --policy constant with it")
    if samples == 0 and by == "pass_rate":
        raise UserError("--by pass_rate needs pass rates: --samples 1 or more")
    targets = find_targets(spec, environment, overrides or [])
    options = ProfileOptions(by, count, samples, tasks, train_only)
    with leaving("stopped; nothing was written"):
        found = (
            _played_by_a_policy(targets, run, home, options)
            if policy is None
            else _played_without(targets, policy, options, seed, text)
        )
    write_page(output, "slices", lambda path: write_text(path, text_of([one.slices for one in found])))
    if as_json:
        print_json([facts_of(one) for one in found])
        return
    for one in found:
        print_profile(one)
    out.print(
        f"wrote {plain(str(output))}; in the spec, beside the environment's type: `slices: {output.name}`", markup=False
    )


def facts_of(profile: Profile) -> dict[str, Any]:
    """Say what was found of an environment, as JSON."""
    one = profile.slices
    return {
        "environment": one.environment,
        "method": one.method,
        "policy": one.policy,
        "answers": profile.tally.num,
        "unread": profile.num_unread,
        **profile.tally.facts(),
        "categories": [_of(name, rows) for name, rows in _grouped(one.rows, "category").items()],
        "slices": [_of(name, rows) for name, rows in _grouped(one.rows, "slice").items()],
        "tasks": [
            {
                **{key: getattr(row, key) for key in ("key", "category", "index", "slice", "correct", "samples")},
                **_interval(
                    row.correct / row.samples if row.correct is not None and row.samples else None, row.samples or 0
                ),
            }
            for row in one.rows
        ],
    }


def print_profile(profile: Profile) -> None:
    """Print an environment's categories and slices, and what makes them mean little."""
    one = profile.slices
    made = table("", f"{one.environment}, {one.policy}", "tasks", "pass rate", "95 %", "never", "always")
    for what in ("category", "slice"):
        for of in (_of(name, rows) for name, rows in _grouped(one.rows, what).items()):
            ends = "-" if of["low"] is None else f"{number(of['low'])} to {number(of['high'])}"
            cells = (str(of["tasks"]), number(of["pass_rate"]), ends, str(of["never"]), str(of["always"]))
            made.add_row(Text(f"{what} {clean(of['name'])}"), *cells)
    print_table(out, made)
    if profile.num_unread != 0:
        others = "others, which never end," if profile.num_unread is None else f"{profile.num_unread:,} others"
        out.print(Text(f"{one.environment}: {others} were not read, and are in the slice `rest`: --tasks N reads more"))
    for sentence in profile.tally.sentences(one.environment):
        out.print(Text(sentence, style="yellow"))


def _grouped(rows: Sequence[SliceRow], what: str) -> dict[str, list[SliceRow]]:
    found: dict[str, list[SliceRow]] = {}
    for row in rows:
        found.setdefault(getattr(row, what), []).append(row)
    return dict(sorted(found.items()))


def _of(name: str, rows: Sequence[SliceRow]) -> dict[str, Any]:
    """Mean pass rate of tasks. Its interval counts tasks, not samples: those of one task go together."""
    rates = [row.correct / row.samples for row in rows if row.correct is not None and row.samples]
    mean = math.fsum(rates) / len(rates) if rates else None
    extremes = {"never": sum(rate == 0 for rate in rates), "always": sum(rate == 1 for rate in rates)}
    return {"name": name, "tasks": len(rows), **_interval(mean, len(rates)), **extremes}


def _interval(rate: float | None, total: int) -> dict[str, float | None]:
    if rate is None:
        return {"pass_rate": None, "low": None, "high": None}
    ends = wilson(rate * total, total)
    return {"pass_rate": rate, "low": ends.low, "high": ends.high}


def _played_without(
    targets: Targets, policy: ScriptedPolicy, options: ProfileOptions, seed: int, text: str | None
) -> list[Profile]:
    tell = every_few_seconds("")
    whole = [
        replace(one, options={key: value for key, value in one.options.items() if key != KEY})
        for one in targets.sources
    ]
    environments = built(whole, tell)
    with Scorer(whole, environments, None if targets.spec is None else targets.spec.scoring, tell) as scorer:
        return scripted_profile(
            list(environments.values()), scorer, policy, options, seed, text, tell, targets.turn_budget
        )


def _played_by_a_policy(targets: Targets, run: str | None, home: Path, options: ProfileOptions) -> list[Profile]:
    if targets.spec is None:
        raise UserError("a type alone has no policy: give a spec, or play without a model with --policy")
    names = [one.name for one in targets.sources]
    if run is None:
        called = f"{targets.spec.policy.model}, as a run would begin"
        return policy_profile(targets.spec, names, HomeFolder(home), options, None, called, Telling())
    from orchestrator.runs.catalog import existing, opened
    from store import checkpoints
    from store.checkpoints import WEIGHTS

    folder = existing(HomeFolder(home, create=False), run)
    with opened(home, run) as (place, ledger):
        record, _ = checkpoints.newest_valid(folder, ledger.reading.checkpoints(run))
        if record is None:
            raise UserError(f"{run} has no whole checkpoint to take weights from")
        if ledger.reading.spec(run)["policy"] != targets.spec.kept()["policy"]:
            raise UserError(f"{run} trains another policy than {targets.spec.name} says: give the run's spec")
        weights = folder / record.folder / WEIGHTS
        called = f"{run} at step {record.step}"
        return policy_profile(targets.spec, names, place, options, weights, called, Telling())
