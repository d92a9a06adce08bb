"""simulate: bandits and schedulers compared in simulated worlds, or given the history of a run. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from orchestrator.cli.console import err, leaving, number, out, plain, print_json, require_place, say_where, write_page
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home
from orchestrator.cli.tables import name_cell, table
from orchestrator.errors import UserError
from orchestrator.registry import nearest, search_in
from orchestrator.runs.catalog import find_run, opened
from orchestrator.simulation import estimates
from orchestrator.simulation.candidates import entrants_of, read_named, usual
from orchestrator.simulation.charts import FORMATS, draw, render
from orchestrator.simulation.estimates import Estimate
from orchestrator.simulation.ranking import SAYS, RankedValue, Ranking, TrialJob, rank, run_all
from orchestrator.simulation.replay import SAYS as REPLAY_SAYS
from orchestrator.simulation.replay import Replay, replay_run
from orchestrator.simulation.skill_worlds import STEPS_PER_STAGE
from orchestrator.simulation.trials import Candidate, TrialMetric, TrialSetting, World
from orchestrator.simulation.worlds import find_world
from store.files import write_text
from store.records import EVERYTHING
from store.sentences import num, signed


def simulate(
    world: Annotated[
        str,
        typer.Argument(
            metavar="WORLD",
            help="a or skills: twelve related skills. b, traps: these, an arm of noise and an impossible one. "
            "c, switching: ten Bernoulli arms that change. d, stages: three environments that forget, and a "
            "scheduler over them. h, heterogeneous: the same, one mastered at first and one impossible.",
        ),
    ] = "traps",
    bandit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|MAP",
            help="A bandit: sec, '{type: sec, temperature: .2}', package.module:factory, or oracle. Repeatable.",
        ),
    ] = None,
    scheduler: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|MAP",
            help="Worlds d and h: a scheduler, or none (no stages: one bandit over all arms), or gap. Repeatable.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A YAML file of more: `name: bandit`, or `name: {bandit: ..., scheduler: ...}`."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many seeds, each a world of its own; default 8.")
    ] = None,
    first_seed: Annotated[int | None, typer.Option(min=0, help="The first of them; default 0.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps (c: rounds); default 300, in c 10,000.")] = None,
    replay_share: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="Worlds d and h: share of a batch on other environments; default .2."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="Differences are to this one; default: the first.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also draw curves and shares: a .png, .svg or .pdf; of a --replay, an .html page.",
        ),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Instead of a world: what each --bandit would have picked and earned given this run's history, from "
            "the probabilities that were logged.",
        ),
    ] = None,
    as_json: AsJson = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Compare bandits and schedulers in a simulated world: seconds, no model, exact ground truth.

    Every policy meets the same seeds. Without --bandit, --scheduler or --file a telling handful competes. The numbers
    rank choosers; they do not predict what a language model will do: docs/simulate.md. With --replay RUN bandits are
    compared on the history of a real run instead: docs/replay.md.
    """
    if replay is not None:
        refuse_with_replay(
            {"--scheduler": scheduler, "--file": file, "--steps": steps, "--replay-share": replay_share}
            | {"--seeds": seeds, "--first-seed": first_seed, "--against": against, "--workers": workers}
            | {"WORLD": None if world == "traps" else world}
        )
        print_replay_of(replay, bandit or ["uniform"], home, as_json, plot)
        return
    with leaving("killed; nothing was kept, the same command begins again"):
        where = find_world(world)
        search_in(None if file is None else str(file.absolute().parent))
        named = entrants_of(where, bandit or [], scheduler or [], file) or usual(where)
        first = first_seed or 0
        setting, trial_seeds = setting_of(where, steps, replay_share), range(first, first + (seeds or 8))
        print_ranking(compare(where, named, setting, trial_seeds, against, workers, plot), as_json, plot)


def refuse_with_replay(given: Mapping[str, object]) -> None:
    """Refuse options that a replay has no use for."""
    if meaningless := [name for name, value in given.items() if value not in (None, [])]:
        what = f"the log of a run, in which {', '.join(meaningless)} has no meaning"
        raise UserError(f"--replay goes by {what}: leave it out")


def setting_of(world: World, steps: int | None, replay_share: float | None) -> TrialSetting:
    """Check what is asked of every trial."""
    if steps is not None and world.has_stages and steps % STEPS_PER_STAGE:
        raise UserError(f"--steps {steps}: stages have {STEPS_PER_STAGE} steps here, so say a multiple of it")
    if replay_share is not None and not world.has_stages:
        raise UserError(f"--replay-share: world {world.letter} has no stages; use world d or h")
    return TrialSetting(steps or world.num_steps, 0.2 if replay_share is None else replay_share)


def compare(
    world: World,
    entrants: Sequence[Candidate],
    setting: TrialSetting,
    seeds: Sequence[int],
    against: str | None,
    workers: int | None,
    plot: Path | None,
) -> Ranking:
    """Run all trials, with a bar on a terminal; what cannot be compared or drawn is refused before."""
    labels = [one.label for one in entrants]
    if against is not None and against not in labels:
        raise UserError(f"--against {against}: competing are {', '.join(labels)}{nearest(against, labels)}")
    if plot is not None:
        require_picture(plot)
    jobs = [TrialJob(world.name, entrant, seed, setting) for entrant in entrants for seed in seeds]
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(f"world {world.letter}", total=len(jobs))
        trials = run_all(jobs, workers, lambda done, of: bar.update(task, completed=done))
    return rank(world, setting, seeds, entrants, trials, against or labels[0])


def require_picture(plot: Path) -> None:
    """Refuse, before any work, a file that cannot become a picture."""
    if plot.suffix.lower() not in FORMATS:
        raise UserError(f"--plot {plot}: name a file that ends in {', '.join(FORMATS)}")
    if plot.is_dir():
        raise UserError(f"--plot {plot}: it is a folder; name a file in it")
    require_place(plot, "plot", "--plot")


def print_ranking(ranking: Ranking, as_json: bool, plot: Path | None) -> None:
    """Tell what every policy reached and how it differs from the one compared with, and draw it if asked."""
    if as_json:
        print_json(ranking.facts())
    else:
        for line in lines_of(ranking):
            out.print(line)
    if plot is not None:
        write_page(plot, "plot", lambda path: draw(ranking, path), "--plot")
        (err if as_json else out).print(f"Curves and shares are in {plot}", markup=False)


def lines_of(ranking: Ranking) -> Iterator[Text | Table]:
    """Say what was compared, the two tables, and what the numbers mean."""
    world, setting, metrics = ranking.world, ranking.setting, ranking.world.metrics
    first, last = ranking.seeds[0], ranking.seeds[-1]
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
    replay = f", replay share {number(setting.replay_share)}" if world.has_stages else ""
    yield Text.assemble((f"world {world.letter}, {world.name}", "bold"), f": {world.about}")
    yield Text(f"{num(setting.num_steps, world.step)}, {seeds}{replay}")

    titles = [metric.title for metric in metrics]
    reached = table("Reached", "policy", *titles)
    differences = table(f"Less {plain(ranking.against)}, paired by seed", "policy", *titles)
    for row in ranking.rows:
        name = name_cell(row.entrant.label)
        values = [row.values[metric.name] for metric in metrics]
        means = (number(one.mean, of.digits) + _half(one, of) for one, of in zip(values, metrics, strict=True))
        reached.add_row(name, *means)
        if row.differences is not None:
            differences.add_row(name, *(_change(row.differences[metric.name], metric) for metric in metrics))
    yield reached
    if len(ranking.rows) > 1:
        yield differences

    never = setting.num_steps + 1
    meaning = {
        "auc": "AUC: mean pass rate over all steps. final, worst: at the end, of all skills and of the worst.",
        "steps": f"to .8: steps until the mean pass rate is .8; {never} where it never was.",
        "regret": "regret: sum over rounds of the best arm's mean less that of the arm pulled.",
    }
    notes = [text for name, text in meaning.items() if name in {metric.name for metric in metrics}]
    if world.has_stages:
        of_stages = "worst: environment at the end. forgetting: peak less end."
        notes = [f"AUC: mean pass rate over all steps. {of_stages}"]
    notes += ["±: 95 % t-interval over seeds."] if len(ranking.seeds) > 1 else []
    yield from (Text(note, style="dim") for note in (*notes, SAYS))


def _half(value: RankedValue, metric: TrialMetric) -> str:
    return "" if value.half is None else f" ±{number(value.half, metric.digits)}"


def _change(value: RankedValue, metric: TrialMetric) -> Text:
    """A difference with its interval: green where it is better for sure, red where it is worse."""
    is_better = (value.mean > 0) == metric.higher_is_better
    style = ("green" if is_better else "red") if value.is_off_zero else "dim"
    return Text(signed(value.mean, metric.digits) + _half(value, metric), style=style)


DIGITS = 3
ROOM = 36  # characters for the bandits' names as heads of columns
MOST_ARMS = 24  # in the table; more are only counted


def print_replay_of(run: str, bandits: Sequence[str], home: Path, as_json: bool, plot: Path | None) -> None:
    """Replay a run of a home for these bandits, and tell it on the screen, as JSON, and as a picture if asked."""
    targets = list({named.label: named for named in read_named(bandits, "bandit")}.values())
    if plot is not None:
        require_place(plot, "replay", "--plot")
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
    out.print(Text.assemble(("! ", "bold yellow"), (REPLAY_SAYS, "yellow")))
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
        name = name_cell(f"{numbers[i]} {target.label}" if numbers else target.label)
        effective = f"{found.effective_share:.0%}" + ("" if found.is_reliable else " !")
        difference = _value(found.snips_difference, is_signed=True)
        made.add_row(name, *_value(found.snips), *difference, number(found.ips.value, DIGITS), effective)
    return made


def _by_bandit(replay: Replay, heads: Sequence[str]) -> Table:
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
        made.add_row(name_cell(bandit.bandit), str(bandit.num_picks), own, *cells)
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
        made.add_row(name_cell(name), *(number(share) for share in shares))
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
    return write(found.value, DIGITS), "-" if found.half is None else f"±{number(found.half, DIGITS)}"
