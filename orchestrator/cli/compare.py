"""compare: runs or a study's settings against each other, with the statistics that seeds allow. Loads no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.console import number, plain
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home
from store.sentences import LONG_NAME, short

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from store.comparison import Comparison
    from store.comparison.scores import Pair

COLUMNS = 6  # strata beside the settings; more become rows
LONGEST_SLUG = 80  # characters of a file's name
LABEL = 24  # characters of a setting's label in a heading


def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN... | STUDY", help="Runs, or a study's name.")],
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
            help="The setting that the others are compared with; default: the study's, the uniform twin, the first.",
        ),
    ] = None,
    pairs: Annotated[
        Literal["baseline", "all"], typer.Option(help="all: every setting with every other.")
    ] = "baseline",
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Also write one HTML page with the curves."),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Compare runs that differ in a setting, paired by seed: which is better, by how much, and is that enough to tell.

    A run with a twin (`baseline: uniform` in its spec) is compared with it when it is named alone.
    """
    from orchestrator.cli.console import out, print_json
    from orchestrator.cli.output_paths import say_where, write_page
    from orchestrator.runs.catalog import opened
    from store.comparison import ComparisonRequest, compare, facts, write

    request = ComparisonRequest(names, by or (), metric, last, baseline, pairs)
    with opened(home, names[0]) as (place, ledger):
        comparison = compare(ledger.reading, place, request)
        target = _target(file, comparison)
        if target is not None:
            write_page(target, "comparison", lambda path: write(ledger.reading, comparison, path))
    print_json(facts(comparison)) if as_json else print_comparison(out, comparison)
    if target is not None:
        say_where(target, as_json)


def _target(file: Path | None, comparison: Comparison) -> Path | None:
    """Where the page goes; in a folder it gets a name of its own."""
    if file is None or not file.is_dir():
        return file
    slug = re.sub(r"[^a-z0-9_.]+", "-", comparison.name.lower()).strip("-")
    return file / f"comparison-{slug[:LONGEST_SLUG]}.html"


def print_comparison(out: Console, comparison: Comparison) -> None:
    """Tell a comparison: the verdicts, the scores, the differences, and what to mind."""
    from rich.text import Text

    from store.comparison import sentences

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
    out.print(_scores(comparison))
    if len(comparison.strata) > 1:
        out.print(_strata(comparison))
    out.print(_differences(comparison))
    out.print(_effects(comparison))
    if comparison.carry_over.outcomes:
        out.print(_carried(comparison))
    out.print(Text("\n".join(sentences.how_computed(comparison)), style="dim"))


def _scores(comparison: Comparison) -> Table:
    from orchestrator.cli.tables import table
    from store.comparison import sentences

    made = table("Scores", "setting", "seeds", "IQM", "95 %", "mean", "median")
    for setting in comparison.settings:
        numbers = (number(value, sentences.DIGITS) for value in (setting.iqm, setting.mean, setting.median))
        iqm, mean, median = numbers
        interval = sentences.interval(setting.iqm_interval)
        made.add_row(_name(setting.label), str(len(setting.runs)), iqm, interval, mean, median)
    return made


def _strata(comparison: Comparison) -> Table:
    """Means over the seeds: settings by strata, or the other way round when there are many."""
    from orchestrator.cli.tables import table
    from store.comparison import sentences

    title, settings = f"Mean by {comparison.stratum}", comparison.settings
    if len(comparison.strata) <= COLUMNS:
        made = table(title, "setting", *map(plain, comparison.strata))
        for one in settings:
            made.add_row(_name(one.label), *(number(v, sentences.DIGITS) for v in one.strata.values()))
        return made
    made = table(title, comparison.stratum, *(plain(short(one.label, LABEL)) for one in settings))
    for stratum in comparison.strata:
        made.add_row(_name(stratum), *(number(one.strata[stratum], sentences.DIGITS) for one in settings))
    return made


def _differences(comparison: Comparison) -> Table:
    from orchestrator.cli.tables import table
    from store.comparison import sentences

    what = "Quotients" if comparison.is_ratio else "Differences"
    made = table(
        f"{what}, paired by seed", _heading(comparison), "seeds", what[:-1].lower(), "95 %", "p", "corrected"
    )
    for pair in comparison.pairs:
        seen = (sentences.change(pair.mean, pair.is_ratio), sentences.changes(pair.interval, pair.is_ratio))
        ps = (sentences.p_value(pair.p), sentences.p_value(pair.p_corrected))
        made.add_row(_pair(comparison, pair), str(len(pair.seeds)), *seen, *ps)
    return made


def _effects(comparison: Comparison) -> Table:
    from orchestrator.cli.tables import table

    made = table("Effects", _heading(comparison), "P(improvement)", "d_z", "seeds for 80 %")
    for pair in comparison.pairs:
        seeds = "-" if pair.seeds_for_power is None else str(pair.seeds_for_power)
        made.add_row(_pair(comparison, pair), number(pair.improvement), number(pair.effect_size), seeds)
    return made


def _carried(comparison: Comparison) -> Table:
    """Means over the seeds of what carried over: those numbers that are defined somewhere."""
    from orchestrator.cli.tables import table
    from store.carryover import OUTCOMES
    from store.sentences import outcomes_as_text

    found = {
        label: outcomes_as_text({name: cell.mean for name, cell in own.items()})
        for label, own in comparison.carry_over.outcomes.items()
    }
    shown = [one for one in OUTCOMES if any(one.name in own for own in found.values())]
    made = table("What carried over, mean of the seeds", "setting", *(one.abbreviation for one in shown))
    for label, own in found.items():
        made.add_row(_name(short(label, LABEL)), *(own.get(one.name, "-") for one in shown))
    return made


def _heading(comparison: Comparison) -> str:
    return plain(f"against {short(comparison.baseline, LABEL)}") if comparison.baseline else "setting"


def _pair(comparison: Comparison, pair: Pair) -> Text:
    against = "" if comparison.baseline else f" against {short(pair.baseline, LABEL)}"
    return _name(short(pair.setting, LABEL if against else LONG_NAME) + against)


def _name(label: str) -> Text:
    from rich.text import Text

    return Text(plain(short(label, 2 * LONG_NAME)))
