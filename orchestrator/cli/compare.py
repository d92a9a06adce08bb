"""compare, diff: settings against each other with the statistics that seeds allow; two runs side by side.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from orchestrator.cli.completion import run_and_study_names, run_names
from orchestrator.cli.console import (
    every_few_seconds,
    number,
    out,
    plain,
    print_json,
    require_place,
    say_where,
    write_page,
)
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home
from orchestrator.cli.tables import name_cell, print_table, table
from orchestrator.errors import OUR_FAULT
from orchestrator.runs.catalog import find_run, opened
from store import comparison as comparisons
from store import diff as differences
from store.carryover import OUTCOMES
from store.comparison import Comparison, ComparisonRequest, sentences
from store.comparison.matrices import MeanCell
from store.diff import Diff, DiffSide, in_words, value
from store.sentences import LONG_NAME, outcomes_as_text

COLUMNS = 6  # strata beside the settings; more become rows


def compare(
    names: Annotated[
        list[str],
        typer.Argument(metavar="RUN... | STUDY", help="Runs, or a study's name.", autocompletion=run_and_study_names),
    ],
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD",
            help="A field of the spec that makes a setting: objective, learner.lr; default: what differs.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="accuracy, train_accuracy, entropy, ...; default: the study's, else accuracy."),
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, help="Steps at a stage's end, for a metric of training (default 20).")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="The setting that the others are compared with; default: the study's, the twin, the first.",
        ),
    ] = None,
    pairs: Annotated[
        Literal["baseline", "all"], typer.Option(help="all: every setting with every other.")
    ] = "baseline",
    pool: Annotated[
        Literal["anchor", "final"],
        typer.Option(help="Held-out tasks: those of reports, or those that `evergreen final` read at the study's end."),
    ] = "anchor",
    environment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="An environment that counts, in a held-out metric; default: the study's, else all."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Also write one HTML page with the curves."),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Compare runs that differ in a setting, paired by seed: which is better, by how much, and is that enough to tell.

    A run with a twin (`baseline` in its spec) is compared with it when it is named alone.
    """
    request = ComparisonRequest(names, by or (), metric, last, baseline, pairs, pool, environment or ())
    if file is not None:
        require_place(file / "comparison.html" if file.is_dir() else file, "comparison")
    with opened(home, names[0]) as (place, ledger):
        comparison = comparisons.compare(ledger.reading, place, request)
        other = None if metric is None or comparison.is_primary else comparison.metric
        target = file / comparisons.file_name(comparison.name, other) if file is not None and file.is_dir() else file
        if target is not None:
            write_page(target, "comparison", lambda path: comparisons.write(ledger.reading, comparison, path))
    print_json(comparisons.facts(comparison)) if as_json else print_comparison(comparison)
    if target is not None:
        say_where(target, as_json)


def print_comparison(comparison: Comparison) -> None:
    """Tell a comparison: the verdicts, the scores, the differences, and what to mind."""
    out.print(Text.assemble((plain(comparison.name), "bold"), f"  {sentences.what_is_compared(comparison)}"))
    out.print(Text(sentences.how_registered(comparison), style="dim"))
    for warning in comparison.warnings:
        out.print(Text.assemble(("! ", "bold yellow"), (plain(warning), "yellow")))
    left_out = sentences.left_out(comparison)
    if left_out:
        out.print(Text(plain(left_out)))
    out.print()
    for _, sentence in sentences.sentences(comparison):
        out.print(Text(plain(sentence)))
    for made in tables_of(comparison):
        print_table(out, made)
    out.print(Text("\n".join(sentences.how_computed(comparison)), style="dim"))


def tables_of(comparison: Comparison) -> Iterator[Table]:
    """Make the tables: scores by setting and stratum, differences and effects by pair, and what carried over."""
    names = {label: plain(name) for label, name in comparison.names.items()}
    made = table("Scores", "setting", "seeds", "IQM", "95 %", "mean", "median")
    for one in comparison.settings:
        iqm, mean, median = (number(value, sentences.DIGITS) for value in (one.iqm, one.mean, one.median))
        interval = sentences.interval(one.iqm_interval)
        made.add_row(Text(plain(one.label)), str(len(one.runs)), iqm, interval, mean, median)
    yield made
    if len(comparison.strata) > 1:
        yield means_by_stratum(comparison)

    what = "Quotients" if comparison.is_ratio else "Differences"
    against = f"against {names[comparison.baseline]}" if comparison.baseline else "setting"
    columns = ("seeds", what[:-1].lower(), "95 %", "p", "corrected")
    by_pair = table(f"{what}, paired by seed", against, *columns)
    why = sentences.why_no_effects(comparison)
    effects = table("Effects", against, sentences.chance(comparison), "d_z", "seeds for 80 %", *([""] if why else []))
    for pair in comparison.pairs:
        name = Text(names[pair.setting] + ("" if comparison.baseline else f" against {names[pair.baseline]}"))
        seen = (sentences.change(pair.mean, pair.is_ratio), sentences.changes(pair.interval, pair.is_ratio))
        ps = (sentences.p_value(pair.p), sentences.p_value(pair.p_corrected))
        by_pair.add_row(name, str(len(pair.seeds)), *seen, *ps)
        is_few = len(pair.seeds) < sentences.FEWEST_PAIRS
        effects.add_row(name, *sentences.effects(pair), why if is_few else None)
    yield from (by_pair, effects)

    if comparison.carry_over.outcomes:
        yield carried_over(comparison)


def carried_over(comparison: Comparison) -> Table:
    """Those numbers of carry-over that are defined somewhere: by setting, or by number where settings are few."""
    carried = comparison.carry_over
    found = {
        one.label: _with_num_seeds(carried.outcomes[one.label], len(one.runs), one.label in carried.with_gaps)
        for one in comparison.settings
        if one.label in carried.outcomes
    }
    shown = [one for one in OUTCOMES if any(one.name in own for own in found.values())]
    where = sentences.whose_tasks(comparison)
    title = f"What carried over{where and f' {where}'}, mean of the seeds"
    if len(found) <= COLUMNS:
        made = table(title, "", *(plain(comparison.names[label]) for label in found))
        for one in shown:
            made.add_row(one.title, *(own.get(one.name, "-") for own in found.values()))
        return made
    made = table(title, "setting", *(one.abbreviation for one in shown))
    for label, own in found.items():
        made.add_row(Text(plain(comparison.names[label])), *(own.get(one.name, "-") for one in shown))
    made.caption = ", ".join(f"{one.abbreviation} {one.title.lower()}" for one in shown)
    return made


def _with_num_seeds(numbers: Mapping[str, MeanCell], num_seeds: int, has_gaps: bool) -> dict[str, str]:
    """Write means; of how many seeds, where a number is not defined in all of them."""
    written = outcomes_as_text({name: cell.mean for name, cell in numbers.items()}, has_gaps)
    few = {name: f" of {cell.n}" for name, cell in numbers.items() if 0 < cell.n < num_seeds}
    return {name: text + few.get(name, "") for name, text in written.items()}


def means_by_stratum(comparison: Comparison) -> Table:
    """Means over the seeds: settings by strata, or the other way round when there are many."""
    title, settings = f"Mean by {comparison.stratum}", comparison.settings
    if len(comparison.strata) <= COLUMNS:
        made = table(title, "setting", *map(plain, comparison.strata))
        for one in settings:
            made.add_row(
                Text(plain(comparison.names[one.label])), *(number(v, sentences.DIGITS) for v in one.strata.values())
            )
        return made
    made = table(title, comparison.stratum, *(plain(comparison.names[one.label]) for one in settings))
    for stratum in comparison.strata:
        made.add_row(
            name_cell(stratum, 2 * LONG_NAME), *(number(one.strata[stratum], sentences.DIGITS) for one in settings)
        )
    return made


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A run's name.", autocompletion=run_names)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another run's name.", autocompletion=run_names)],
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if they are not equal, bit for bit.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Say where two runs part: what they were told differently, the first thing that differs, and how much after it.

    Compared are boundaries, stages, picks, tasks, replies, scores, metrics and weights; names and times are not.
    """
    with opened(home, a) as (place, ledger_a), opened(home, b) as (_, ledger_b):
        find_run(ledger_a, a)
        find_run(ledger_b, b)
        side_a, side_b = (
            DiffSide(ledger.reading, run, place.run_folder(run)) for run, ledger in ((a, ledger_a), (b, ledger_b))
        )
        found = differences.diff(side_a, side_b, every_few_seconds("comparing: "))
    if as_json:
        print_json({**asdict(found), "sentences": in_words(found)})
    else:
        print_diff(found)
    if exit_code and not found.is_equal:
        raise typer.Exit(OUR_FAULT)


def print_diff(found: Diff) -> None:
    """Print two runs side by side; what specs and environments say is text, never markup."""
    for letter, name, length in zip("AB", (found.a, found.b), found.lengths, strict=True):
        out.print(Text(f"{letter}  {name}: {length.status}, {length.num_steps} steps"))
    for title, fields in (
        ("Specs", found.spec),
        ("Versions of environments", found.environments),
        ("Hosts", found.host),
    ):
        if fields:
            made = table(title, "field", "A", "B")
            for field in fields:
                made.add_row(*(Text(plain(text)) for text in (field.name, value(field.a), value(field.b))))
            out.print(made)
    for sentence in in_words(found):
        out.print(Text(plain(sentence)))
