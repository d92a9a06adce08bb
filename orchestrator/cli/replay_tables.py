"""simulate --replay: what other bandits would have picked and earned given a run's history. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from orchestrator.cli.console import number, out, plain, print_json
from orchestrator.cli.output_paths import say_where, write_page
from orchestrator.cli.tables import table
from orchestrator.runs.catalog import find_run, opened
from orchestrator.simulation import estimates
from orchestrator.simulation.candidates import read_named
from orchestrator.simulation.estimates import Estimate
from orchestrator.simulation.replay import replay_run
from orchestrator.simulation.replay_page import render
from orchestrator.simulation.replay_results import SAYS, Replay
from store.files import write_text
from store.records import EVERYTHING
from store.sentences import LONG_NAME, num, short, signed

DIGITS = 3
ROOM = 36  # characters for the bandits' names as heads of columns
MOST_ARMS = 24  # in the table; more are only counted


def print_replay_of(run: str, bandits: Sequence[str], home: Path, as_json: bool, plot: Path | None) -> None:
    """Replay a run of a home for these bandits, and tell it on the screen, as JSON, and as a picture if asked."""
    targets = list({named.label: named for named in read_named(bandits, "bandit")}.values())
    with opened(home, run) as (_, ledger):
        find_run(ledger, run)
        replayed = replay_run(ledger.reading, run, targets)
    if plot is not None:
        write_page(plot, "replay", lambda path: write_text(path, render(replayed)), "--plot")
    print_json(replayed.facts()) if as_json else print_replay(replayed)
    if plot is not None:
        say_where(plot, as_json)


def print_replay(replay: Replay) -> None:
    """Tell a replay: what it says and what not, what would have been earned and picked, what to mind."""
    steps = f"  {num(replay.num_steps, 'step')} of {replay.bandit}, {replay.signal}"
    out.print(Text.assemble((plain(replay.run), "bold"), steps))
    out.print(Text.assemble(("! ", "bold yellow"), (SAYS, "yellow")))
    labels = [plain(target.label) for target in replay.targets]
    # Bandits head the columns by name if there is room for all, else by number.
    heads = labels if sum(map(len, labels)) <= ROOM else [str(i) for i in range(1, len(labels) + 1)]
    out.print(_earned(replay, [] if heads == labels else heads))
    for target in replay.targets:
        if not target.overall.is_reliable:
            told = target.overall
            warning = (
                f"{target.label}: not to be relied on. The run's {num(told.num_slots, 'pick')} tell as much about it "
                f"as {told.effective_slots:.1f} of its own would, less than {estimates.RELIABLE:.0%}: the estimate "
                f"hangs on a few, one of which counts {told.largest_weight:.0f} times"
            )
            out.print(Text.assemble(("! ", "bold yellow"), (plain(warning), "yellow")))
    if len(replay.targets[0].bandits) > 1:
        out.print(_by_bandit(replay, heads))
    out.print(_picked(replay, heads))
    for note in _notes(replay):
        out.print(Text(plain(note), style="dim"))


def _earned(replay: Replay, numbers: Sequence[str]) -> Table:
    """What each bandit would have earned; `numbers` stand for them where other tables are too narrow for names."""
    columns = ("SNIPS", "95 %", "less logged", "95 %", "IPS", "effective")
    made = table("Earned, mean over the picks", "bandit", *columns)
    own = replay.targets[0].overall
    made.add_row(f"{replay.bandit}, as logged", *_value(own.own), "", "", "", num(own.num_slots, "pick"))
    for i, target in enumerate(replay.targets):
        found = target.overall
        name = _name(f"{numbers[i]} {target.label}" if numbers else target.label)
        effective = f"{found.effective_share:.0%}" + ("" if found.is_reliable else " !")
        difference = _value(found.snips_difference, is_signed=True)
        made.add_row(name, *_value(found.snips), *difference, number(found.ips.value, DIGITS), effective)
    return made


def _by_bandit(replay: Replay, heads: Sequence[str]) -> Table:
    """The same for every environment: SNIPS, and a mark where the effective share is too small."""
    made = table("By environment, SNIPS", "environment", "picks", "logged", *heads)
    for row, bandit in enumerate(replay.targets[0].bandits):
        found = [target.bandits[row].estimates for target in replay.targets]
        own = number(found[0].own.value, DIGITS) if found[0] else "-"
        cells = (
            "-"
            if one is None or one.snips is None
            else number(one.snips.value, DIGITS) + ("" if one.is_reliable else " !")
            for one in found
        )
        made.add_row(_name(bandit.bandit), str(bandit.num_picks), own, *cells)
    return made


def _picked(replay: Replay, heads: Sequence[str]) -> Table:
    whose = "an environment's" if len(replay.targets[0].bandits) > 1 else "the"
    made = table(f"Share of {whose} picks", "arm", "picked", "expected", *heads)
    rows = [
        (bandit.bandit, [target.bandits[i].arms[k] for target in replay.targets])
        for i, bandit in enumerate(replay.targets[0].bandits)
        for k in range(len(bandit.arms))
    ]
    for bandit, arms in rows[:MOST_ARMS]:
        first = arms[0]
        name = first.arm if bandit == EVERYTHING else f"{bandit}.{first.arm}"
        shares = (first.picked_share, first.logged_share, *(arm.share for arm in arms))
        made.add_row(_name(name), *(number(share) for share in shares))
    if len(rows) > MOST_ARMS:
        made.add_row(f"and {len(rows) - MOST_ARMS} more")
    return made


def _notes(replay: Replay) -> Iterator[str]:
    yield (
        "SNIPS: mean reward weighted by the other bandit's probability over the logged one; IPS: the same without "
        "dividing by the mean weight. 95 %: Student's t over steps."
    )
    yield f"effective: picks of the other bandit's own that would tell as much; ! is below {estimates.RELIABLE:.0%}."
    yield "expected: mean of the logged probabilities."
    yield from (f"{note}." for note in replay.notes)
    yield from (f"{target.label}: {note}." for target in replay.targets for note in target.notes)
    if all(bandit.bandit != EVERYTHING for bandit in replay.targets[0].bandits):
        yield "The scheduler's picks are too few for this and are left out."


def _value(found: Estimate | None, is_signed: bool = False) -> tuple[str, str]:
    write = signed if is_signed else number
    if found is None:
        return "-", "-"
    if found.low is None or found.high is None:
        return write(found.value, DIGITS), "-"
    return write(found.value, DIGITS), f"±{number((found.high - found.low) / 2, DIGITS)}"


def _name(label: str) -> Text:
    return Text(plain(short(label, LONG_NAME)))
