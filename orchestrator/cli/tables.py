"""How stories of runs, samples, events and methods look on a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from orchestrator.cli.console import number, plain
from orchestrator.option_types import as_written
from store import plasticity, run_summary
from store.carryover import OUTCOMES
from store.records import NEWS
from store.sentences import (
    LONG_NAME,
    LOOKING,
    arm_name,
    as_of,
    beside_the_baseline,
    how_much_of,
    in_words,
    listed,
    looking_rows,
    outcomes_as_text,
    percent,
    probe_name,
    share_taught,
    short,
    signed,
    what_carried,
    what_is_lost,
    when,
    where_time_went,
)

LAID_OUT = re.compile(r"\s|[-*|=>]|\d+[.)] ")  # a line that is no prose
ITEM, MORE_OF_ITEM = re.compile(r"[-*] |\d+[.)] "), re.compile(r" {2,3}\S")
LABEL = re.compile(r"[A-Z]\w+: ")  # begins a line of its own after a sentence: Source, Reward, Entropy, ...
WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}  # of `textwrap`
LOOK: Mapping[str, Any] = {
    **{"title_justify": "left", "title_style": "bold", "caption_justify": "left", "caption_style": "dim"},
    **{"box": box.SIMPLE_HEAD, "pad_edge": False},
}
SPACE, TIGHT = 3, 2  # columns of the terminal between two of a table, at ease and at least
MATRICES = {"pass_1": "Accuracy after each stage", "entropy_token": "Entropy, nats a token"}
MOST_ROWS, MOST_COLUMNS, MOST_INCIDENTS = 7, 8, 3  # of what is told at a run's end, which is to fit a screen
CLOSED = "* evaluated on the tasks that it trains on: they are to be learnt by heart"
WIDEST_DEFAULT = 20  # columns: what it means needs the room
STORY_ROWS, STORY_INCIDENTS = 12, 12  # of what `show` tells, unless it is asked for all
MOST_ENVIRONMENTS = 20  # the same: those that changed most
MOST_ARMS = 20  # of a run's that are shown: those with the most groups
WIDEST_NAME = 28  # of a list's column; a longer one moves its own line alone


def table(title: str, *columns: str, holds_numbers: bool = True) -> Table:
    """Start a table: first names, then numbers, or texts. A name is text, never markup, and never cut."""
    made = Table(title=title, **LOOK)
    first, *others = columns
    made.add_column(Text(first), overflow="fold")
    for column in others:
        made.add_column(Text(column), justify="right" if holds_numbers else "left")
    return made


def print_table(out: Console, made: Table) -> None:
    """Print a table of numbers so that no heading and no number is cut, however narrow the terminal is.

    First the space between columns goes, then headings break between words, then columns follow in a further table.
    """
    room = out.width - 1
    least = [_least_width(column) for column in made.columns]
    least[0] = min(_natural_width(made.columns[0]), room // 2)  # names break only beyond that
    natural = [least[0], *(_natural_width(column) for column in made.columns[1:])]
    if sum(natural) + len(natural) * SPACE > room:
        made.padding = (0, 1, 0, 0)
    over = sum(natural) + len(natural) * TIGHT - room
    if over <= 0 or not made.row_count:
        out.print(made)
        return
    for part in _parts(made, least, natural, room):
        out.print(part)


def _parts(made: Table, least: Sequence[int], natural: Sequence[int], room: int) -> Iterator[Table]:
    """Split a table into ones that fit, each with the names; a column without a heading stays with that before it."""
    starts = [i for i, column in enumerate(made.columns) if i and (str(column.header) or i == 1)]
    groups = [list(range(i, end)) for i, end in zip(starts, [*starts[1:], len(least)], strict=True)]
    blocks: list[list[int]] = [[]]
    for group in groups:
        if blocks[-1] and sum(least[i] + TIGHT for i in (0, *blocks[-1], *group)) > room:
            blocks.append([])
        blocks[-1] += group
    for block in blocks:
        chosen = [0, *block]
        widths = {i: natural[i] for i in chosen}
        while sum(widths.values()) + len(chosen) * TIGHT > room and any(widths[i] > least[i] for i in chosen):
            widths[max(chosen, key=lambda i: widths[i] - least[i])] -= 1
        part = Table(
            title=made.title if block is blocks[0] else None,
            caption=made.caption if block is blocks[-1] else None,
            **LOOK,
        )
        part.padding = (0, 1, 0, 0)
        for i in chosen:
            one = made.columns[i]
            part.add_column(one.header, justify=one.justify, overflow="fold", width=widths[i])
        for row in zip(*(made.columns[i].cells for i in chosen), strict=True):
            part.add_row(*row)
        yield part


def _natural_width(column: Column) -> int:
    return max(cell_len(str(cell)) for cell in (column.header, *column.cells))


def _least_width(column: Column) -> int:
    """The longest word of a column's heading, and its longest cell."""
    words = str(column.header).split() or [""]
    return max(cell_len(text) for text in (*words, *map(str, column.cells)))


def name_cell(label: str, longest: int = LONG_NAME) -> Text:
    """Write a name that somebody else gave into a table."""
    return Text(plain(short(label, longest)))


def print_ending(out: Console, story: Mapping[str, Any]) -> None:
    """Tell a finished run on one screen: what was kept, learnt and carried; `print_story` tells the rest too."""
    _print_head(out, story)
    told, carried = in_words(story), what_carried(story)
    more = (carried.get("Trainability"), carried.get("Carried"), what_is_lost(story))
    _print_sentences(out, [*(text for title, text in told.items() if title != "Choice"), *filter(None, more)])
    if len(story["environments"]) <= MOST_COLUMNS:
        print_table(out, _after_each_stage(story, "pass_1", MOST_ROWS))
    if incidents := _incidents(story, MOST_INCIDENTS):
        out.print(Text("\n".join(["Incidents", *incidents])))


def print_story(out: Console, story: Mapping[str, Any], is_whole: bool = False) -> None:
    """Tell a run as a person wants it told: what was learnt, what it cost, who chose, what went wrong.

    What is long is cut: the rows of stages, environments, incidents; `is_whole` leaves it whole.
    """
    _print_head(out, story)
    made_of = "; ".join(f"{part} {text}" for part, text in story["composition"].items())
    out.print(Text(f"The objective is made of {made_of}.", style="dim"))
    more = filter(None, [*what_carried(story).values(), beside_the_baseline(story), what_is_lost(story)])
    _print_sentences(out, [*in_words(story).values(), *more])
    for made in (*_learnt(story, is_whole), *_plasticity(story), *arms_and_batches(story)):
        print_table(out, made)
    none = ["  none: every sample was scored, every update applied"]
    out.print(Text("\n".join(["Incidents", *(_incidents(story, None if is_whole else STORY_INCIDENTS) or none)])))
    out.print(Text(f"\n{where_time_went(story)}"))
    if story["digest"]:
        out.print(f"digest {story['digest']}", style="dim")


def _print_head(out: Console, story: Mapping[str, Any]) -> None:
    """Say which run it is, how it stands and what it was told to be."""
    parent, study, other = story["parent"], story["study"], story["baseline_of"]
    out.print(Text.assemble((story["name"], "bold"), f"  {story['status']}, {story['folder']}"))
    about = (
        f"{story['num_steps']} of {story['planned_steps']} steps, model {story['model']}, seed {story['seed']}, "
        f"objective {story['objective']}, scheduler {story['scheduler'] or 'none (flat)'}, bandit {story['bandit']}"
        + (f", forked from {parent['name']} after stage {parent['after_stage']}" if parent else "")
        + (f", {study['setting']} in study {study['name']}" if study else "")
        + (f", the baseline of {other}" if other else "")
    )
    _print_sentences(out, [about])


def _print_sentences(out: Console, texts: Iterable[str]) -> None:
    """Print each from the start of a line; on a terminal, which would break it anywhere, between words."""
    for text in texts:
        out.print(Text(textwrap.fill(text, out.width, **WHOLE_WORDS) if out.is_terminal else text))


def _learnt(story: Mapping[str, Any], is_whole: bool) -> Iterator[Table]:
    columns = ("environment", "accuracy", "", "change", "entropy", "", "signal")
    made = table("What was learnt (held-out tasks), and the share of groups with a signal", *columns)
    newest = max(map(int, story["matrices"]["pass_1"]), default=0)
    environments = story["environments"]
    changed_most = sorted(environments, key=lambda name: -abs(environments[name]["accuracy_change"] or 0))
    shown = set(changed_most if is_whole else changed_most[:MOST_ENVIRONMENTS])
    for name, facts in environments.items():
        if name not in shown:
            continue
        made.add_row(
            Text(name + (" *" if facts["closed"] else "") + as_of(facts["end_stage"], newest)),
            number(facts["accuracy_start"]),
            f"-> {number(facts['accuracy_end'])}",
            signed(facts["accuracy_change"]),
            number(facts["entropy_start"]),
            f"-> {number(facts['entropy_end'])}",
            percent(share_taught(story["taught"], name)),
        )
    is_closed = any(environments[name]["closed"] for name in shown)
    num_left = len(environments) - len(shown)
    more = f"and {num_left:,} more that changed less: --all" if num_left else ""
    made.caption = "\n".join(filter(None, [CLOSED if is_closed else "", more])) or None
    yield made
    if not num_left:  # of that many, matrices are for the report
        yield from (_after_each_stage(story, metric, None if is_whole else STORY_ROWS) for metric in MATRICES)
    if any(value is not None for value in story["carry_over"].values()):
        made = table("What carries over", "", "value", "")
        written = outcomes_as_text(story["carry_over"], story["missing"] is not None)
        for one in OUTCOMES:
            if one.name in written:
                made.add_row(one.title, written[one.name], how_much_of(story["partly"], one.name))
        yield made


def _after_each_stage(story: Mapping[str, Any], metric: str, most: int | None = None) -> Table:
    """A row a boundary, a column an environment; of more than `most` rows the first and the last ones."""
    names = list(story["environments"])
    trained = {str(stage["stage"]): stage["environment"] for stage in story["stages"]}
    matrix, made = story["matrices"][metric], table(MATRICES[metric], "after stage", *names)
    order = sorted(matrix, key=int)
    is_cut = most is not None and len(order) > most
    if is_cut and most is not None:
        made.caption = f"of {len(order)} rows the first and the last: `show --all` has all"
    for index in [order[0], "...", *order[len(order) - most + 2 :]] if is_cut and most is not None else order:
        label = "before training" if index == "0" else f"{index}  {trained.get(index) or 'all'}"
        cells = [number(matrix[index].get(name)) for name in names] if index in matrix else []
        made.add_row(Text(label if index in matrix else index), *cells)
    return made


def _plasticity(story: Mapping[str, Any]) -> Iterator[Table]:
    """What was measured of plasticity, first and last; the report and --json have all of it."""
    rows = plasticity.first_and_last(story["plasticity"])
    if not rows:
        return
    made = table("Plasticity", "", "first measured", "", "last", "last / first")
    for row in rows:
        name = probe_name(row.probe) + ", " if row.probe else ""
        beside = "" if row.ratio is None else number(row.ratio)
        if row.interval:
            beside += f" ({number(row.interval[0])} to {number(row.interval[1])})"
        first = ("", "") if row.first_stage is None else (when(row.first_stage), _compact(row.first))
        arrow = "" if row.first_stage is None else "-> "
        earlier = "" if row.last_stage == story["num_boundaries"] - 1 else f" {when(row.last_stage)}"
        made.add_row(Text(name + row.what), *first, f"{arrow}{_compact(row.last)}{earlier}", beside)
    yield made


def _compact(value: float | None) -> str:
    return "-" if value is None else number(value, 1 if abs(value) >= 10 else 2)


def arms_and_batches(story: Mapping[str, Any]) -> Iterator[Table]:
    """What the bandits did, of many arms those played most; and how batches were played."""
    made = table("What the bandits did", "arm", "probability", "", "least", "most", "picks")
    arms = [arm for arm in story["arms"] if not arm["is_scheduler"]]  # the matrices name what it picked
    played_most = sorted(range(len(arms)), key=lambda place: -arms[place]["num_picks"])[:MOST_ARMS]
    for arm in (arms[place] for place in sorted(played_most)):
        start, end, *bounds = (number(arm[f"probability_{key}"]) for key in ("start", "end", "min", "max"))
        made.add_row(Text(arm_name(arm)), start, f"-> {end}", *bounds, str(arm["num_picks"]))
    if (num := len(arms) - MOST_ARMS) > 0:
        made.caption = f"and {num:,} more with no more picks than these: --json has all"
    yield made
    played = story["played"]
    if played["batch"]:
        made = table("How it was played", "over all steps", "mean", "largest")
        for row in run_summary.batch_rows(played):
            made.add_row(*row)
        yield made
        columns = run_summary.environment_columns(played).values()
        made = table("", "mean over its steps", *columns)
        for name, cells in run_summary.environment_rows(played):
            made.add_row(Text(name), *cells)
        yield made


def _incidents(story: Mapping[str, Any], most: int | None) -> list[str]:
    """What went wrong, a line each, at most so many; empty: every sample was scored, every update applied."""
    lines = [
        f"  {row['num_samples']} samples of {row['environment']} could not be scored: {row['reason']}"
        for row in story["unscorable"]
    ]
    skipped = [event for event in story["events"] if event["kind"] == "skipped update"]
    if skipped:
        lines.append(f"  {len(skipped)} updates were skipped, the last at step {skipped[-1]['step']}")
    lines += [
        f"  step {event['step']}: {event['text']}"
        for event in story["events"]
        if event["kind"] not in ("skipped update", *NEWS)
        and not (event["kind"] == "unscorable" and event["after_stage"] is None)
    ]
    if most is None or len(lines) <= most:
        return lines
    return [*lines[:most], f"  and {len(lines) - most:,} more: `show --events`"]


def print_costs(out: Console, story: Mapping[str, Any]) -> None:
    """Tell where a run's time went, and what looking took beside training."""
    made = table("Training and looking", "", *LOOKING)
    made.columns[0].no_wrap = True
    for name, *cells in looking_rows(story["looking"]):
        made.add_row(Text(plain(name)), *cells)
    print_table(out, made)
    shares = [f"{key} {share:g}" for key, share in story["looking"]["shares"].items() if share is not None]
    allowed = f" Allowed by the spec, of the training's passes: {listed(shares)}." if shares else ""
    out.print(Text(f"A sample through the model is a pass, there and back are 3: as planned.{allowed}", style="dim"))
    out.print(Text(where_time_went(story)))


def print_samples(out: Console, samples: Sequence[Any]) -> None:
    """Print completions with scores; what the environment and the policy wrote is text, never markup."""
    if not samples:
        out.print("No such completions were kept.")
    for sample in samples:
        when = f"step {sample.step}" if sample.after_stage is None else f"after stage {sample.after_stage}"
        verdict = sample.reason or ("correct" if sample.correct else "wrong")
        style = "yellow" if sample.reason else "green" if sample.correct else "red"
        head = f"{sample.environment}.{sample.category}  {when}  value {number(sample.value)}  "
        out.print(Text.assemble((head, "bold"), (verdict, style)))
        for message in sample.messages:
            out.print(Text(f"  {message['role']}: {message['content']}"))
        out.print(Text(f"  policy: {sample.completion}\n"))


def print_events(out: Console, events: Sequence[Any]) -> None:
    """Print decisions and incidents in order, with step and time (UTC); what went wrong is marked."""
    if not events:
        out.print("Nothing was decided yet, and nothing went wrong.")
    width = max((len(str(event.step)) for event in events), default=0)
    for event in events:
        when = f"step {event.step:>{width}}  {event.created_at[:19].replace('T', ' ')}  "
        mark, style = ("  ", "") if event.kind in NEWS else ("! ", "yellow")
        out.print(Text.assemble((when, "dim"), (mark + plain(event.text), style)))


def print_methods(out: Console, methods: Sequence[Any]) -> None:
    """List methods by kind, a line and a source each."""
    width = min(max(len(method.name) for method in methods), WIDEST_NAME)
    for kind in dict.fromkeys(method.kind for method in methods):
        out.print(Text(kind, style="bold"))
        of_kind = [method for method in methods if method.kind == kind]
        for family, own in groupby(of_kind, lambda method: method.family):
            if family:
                out.print(Text(f" {family}", style="dim"))
            for method in own:
                source = f"  ({method.source})" if method.source else ""
                out.print(Text(f"  {method.name:<{width}}  {method.summary}{source}"))


def joined_paragraphs(text: str) -> str:
    """Join the lines of a docstring's paragraphs and items, for another width; tables and what is indented stay."""
    lines: list[str] = []
    for line in text.split("\n"):
        if lines and ITEM.match(lines[-1]) and MORE_OF_ITEM.match(line):
            lines[-1] += f" {line.strip()}"
            continue
        is_prose = bool(lines and line and lines[-1]) and not (LAID_OUT.match(line) or LAID_OUT.match(lines[-1]))
        if is_prose and not (LABEL.match(line) and lines[-1].endswith((".", ":"))):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return "\n".join(lines)


def print_method(out: Console, method: Mapping[str, Any]) -> None:
    """Tell one method, or a section of a spec: its text, its options, an example if there is one."""
    source = f"  ({method['source']})" if method["source"] else ""
    out.print(Text.assemble((f"{method['kind']} {method['name']}", "bold"), f"{source}\n"))
    if method["text"]:
        out.print(Text(joined_paragraphs(method["text"]) + "\n"), soft_wrap=False)
    if method["options"]:
        made = table("", "key", "default", "meaning", holds_numbers=False)
        made.columns[1].max_width = WIDEST_DEFAULT
        for name, option in method["options"].items():
            meaning = Text.assemble(
                f"{option['meaning']} " if option["meaning"] else "", (f"({option['type']})", "dim")
            )
            made.add_row(Text(name), Text(as_written(option["default"], shorten=True)), meaning)
        out.print(made)
    elif method["kind"] != "spec":
        out.print("It takes no options.")
    if example := method.get("example"):
        out.print(Text(f"For example\n\n{textwrap.indent(example, '    ')}"))
