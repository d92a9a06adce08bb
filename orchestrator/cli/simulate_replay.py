"""simulate --replay: what other bandits would have picked and earned given a run's history. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.console import number, plain
from store.records import EVERYTHING
from store.sentences import LONG_NAME, num, short, signed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from orchestrator.simulation.estimates import Estimate, Estimates
    from orchestrator.simulation.replay_results import Replay

DIGITS = 3
ROOM = 36  # characters for the bandits' names as heads of columns
MOST_ARMS = 24  # in the table; more are only counted
AS_LOGGED = "as logged"


def print_replay_of(run: str, bandits: Sequence[str], home: Path, as_json: bool, plot: Path | None) -> None:
    """Replay a run of a home for these bandits, and tell it on the screen, as JSON, and as a picture if asked."""
    from orchestrator.cli.console import out, print_json
    from orchestrator.cli.output_paths import say_where, write_page
    from orchestrator.runs.catalog import find_run, opened
    from orchestrator.simulation.candidates import read_named
    from orchestrator.simulation.replay import replay_run
    from orchestrator.simulation.replay_page import render
    from store.files import write_text

    targets = list({named.label: named for named in read_named(bandits, "bandit")}.values())
    with opened(home, run) as (_, ledger):
        find_run(ledger, run)
        replayed = replay_run(ledger.reading, run, targets)
    if plot is not None:
        write_page(plot, "replay", lambda path: write_text(path, render(replayed)), "--plot")
    print_json(replayed.facts()) if as_json else print_replay(out, replayed)
    if plot is not None:
        say_where(plot, as_json)


def print_replay(out: Console, replay: Replay) -> None:
    """Tell a replay: what it says and what not, what would have been earned and picked, what to mind."""
    from rich.text import Text

    from orchestrator.simulation.replay_results import SAYS

    out.print(
        Text.assemble(
            (plain(replay.run), "bold"),
            f"  {num(replay.num_steps, 'step')} of {replay.bandit}, {replay.signal}",
        )
    )
    out.print(Text.assemble(("! ", "bold yellow"), (SAYS, "yellow")))
    out.print(_earned(replay))
    for warning in _warnings(replay):
        out.print(Text.assemble(("! ", "bold yellow"), (plain(warning), "yellow")))
    if len(replay.targets[0].bandits) > 1:
        out.print(_by_bandit(replay))
    out.print(_picked(replay))
    for note in _notes(replay):
        out.print(Text(plain(note), style="dim"))


def _earned(replay: Replay) -> Table:
    from orchestrator.cli.tables import table

    columns = ("SNIPS", "95 %", "less logged", "95 %", "IPS", "effective")
    made = table("Earned, mean over the picks", "bandit", *columns)
    own = replay.targets[0].overall
    made.add_row(f"{replay.bandit}, {AS_LOGGED}", *_value(own.own), "", "", "", num(own.num_slots, "pick"))
    for name, target in zip(_names(replay), replay.targets, strict=True):
        found = target.overall
        effective = f"{found.effective_share:.0%}" + ("" if found.is_reliable else " !")
        difference = _value(found.snips_difference, is_signed=True)
        made.add_row(name, *_value(found.snips), *difference, number(found.ips.value, DIGITS), effective)
    return made


def _names(replay: Replay) -> list[Text]:
    """Name the bandits, with the numbers that stand for them where columns are narrow."""
    labels = [target.label for target in replay.targets]
    if _heads(replay) == [plain(label) for label in labels]:
        return [_name(label) for label in labels]
    return [_name(f"{i} {label}") for i, label in enumerate(labels, start=1)]


def _heads(replay: Replay) -> list[str]:
    """Write the bandits as heads of columns: by name if there is room for all."""
    labels = [plain(target.label) for target in replay.targets]
    return labels if sum(map(len, labels)) <= ROOM else [str(i) for i in range(1, len(labels) + 1)]


def _by_bandit(replay: Replay) -> Table:
    """The same for every environment: SNIPS, and the effective share where that is too small."""
    from orchestrator.cli.tables import table

    made = table("By environment, SNIPS", "environment", "picks", "logged", *_heads(replay))
    for row, bandit in enumerate(replay.targets[0].bandits):
        found = [target.bandits[row].estimates for target in replay.targets]
        own = number(found[0].own.value, DIGITS) if found[0] else "-"
        made.add_row(_name(bandit.bandit), str(bandit.num_picks), own, *(_cell(one) for one in found))
    return made


def _cell(found: Estimates | None) -> str:
    if found is None or found.snips is None:
        return "-"
    return number(found.snips.value, DIGITS) + ("" if found.is_reliable else " !")


def _picked(replay: Replay) -> Table:
    from orchestrator.cli.tables import table

    whose = "an environment's" if len(replay.targets[0].bandits) > 1 else "the"
    made = table(f"Share of {whose} picks", "arm", "picked", "expected", *_heads(replay))
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


def _warnings(replay: Replay) -> list[str]:
    from orchestrator.simulation.estimates import RELIABLE

    return [
        f"{target.label}: not to be relied on. The run's {num(target.overall.num_slots, 'pick')} tell as much about it "
        f"as {target.overall.effective_slots:.1f} of its own would, less than {RELIABLE:.0%}: the estimate hangs on a "
        f"few, one of which counts {target.overall.largest_weight:.0f} times"
        for target in replay.targets
        if not target.overall.is_reliable
    ]


def _notes(replay: Replay) -> list[str]:
    from orchestrator.simulation.estimates import RELIABLE

    is_staged = all(bandit.bandit != EVERYTHING for bandit in replay.targets[0].bandits)
    return [
        "SNIPS: mean reward weighted by the other bandit's probability over the logged one; IPS: the same without "
        "dividing by the mean weight. 95 %: Student's t over steps.",
        f"effective: picks of the other bandit's own that would tell as much; ! is below {RELIABLE:.0%}.",
        "expected: mean of the logged probabilities.",
        *(f"{note}." for note in replay.notes),
        *(f"{target.label}: {note}." for target in replay.targets for note in target.notes),
        *(["The scheduler's picks are too few for this and are left out."] if is_staged else []),
    ]


def _value(found: Estimate | None, is_signed: bool = False) -> tuple[str, str]:
    write = signed if is_signed else number
    if found is None:
        return "-", "-"
    if found.low is None or found.high is None:
        return write(found.value, DIGITS), "-"
    return write(found.value, DIGITS), f"±{number((found.high - found.low) / 2, DIGITS)}"


def _name(label: str) -> Text:
    from rich.text import Text

    return Text(plain(short(label, LONG_NAME)))
