"""simulate: bandits and schedulers compared in worlds without a language model, in seconds. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from orchestrator.cli.console import err, number, out, plain, print_json, problem
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home
from orchestrator.cli.output_paths import write_page
from orchestrator.cli.replay_tables import print_replay_of
from orchestrator.cli.tables import table
from orchestrator.errors import UserError
from orchestrator.os_signals import exit_code_of
from orchestrator.registry import nearest, search_in
from orchestrator.simulation.candidates import entrants_of, usual
from orchestrator.simulation.chart import FORMATS, draw
from orchestrator.simulation.ranking import SAYS, RankedValue, Ranking, by_entrant, jobs_of, rank, run_all
from orchestrator.simulation.trials import Candidate, TrialMetric, TrialSetting, World
from orchestrator.simulation.two_level_world import STEPS_PER_STAGE
from orchestrator.simulation.worlds import find_world
from store.sentences import LONG_NAME, num, short, signed


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
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, each a world of its own.")] = 8,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps (c: rounds); default 300, in c 10,000.")
    ] = None,
    replay_share: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.9, help="Worlds d and h: share of a batch on other environments; default .2."
        ),
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
        given = {"--scheduler": scheduler, "--file": file, "--steps": steps, "--replay-share": replay_share}
        given |= {"--against": against, "--workers": workers, "WORLD": None if world == "traps" else world}
        if meaningless := [name for name, value in given.items() if value]:
            raise UserError(
                f"--replay goes by the log of a run, in which {', '.join(meaningless)} has no meaning: leave it out"
            )
        print_replay_of(replay, bandit or ["uniform"], home, as_json, plot)
        return
    with leaving_at_once():
        where = find_world(world)
        if scheduler and not where.has_stages:
            raise UserError(
                f"--scheduler: world {where.letter} has no stages; use world d or h, or leave the option out"
            )
        search_in(None if file is None else str(file.absolute().parent))
        named = entrants_of(where, bandit or [], scheduler or [], file) or usual(where)
        setting, trial_seeds = setting_of(where, steps, replay_share), range(first_seed, first_seed + seeds)
        print_ranking(compare(where, named, setting, trial_seeds, against, workers, plot), as_json, plot)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Leave at once on Ctrl-C; there is nothing to resume."""
    try:
        yield
    except KeyboardInterrupt as signal:
        problem("killed; nothing was kept, the same command begins again")
        raise typer.Exit(exit_code_of(signal)) from None


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
        require_place(plot)
    jobs = jobs_of(world.name, entrants, seeds, setting)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(f"world {world.letter}", total=len(jobs))
        trials = run_all(jobs, workers, lambda done, of: bar.update(task, completed=done))
    return rank(world, setting, seeds, entrants, by_entrant(jobs, trials), against or labels[0])


def require_place(plot: Path) -> None:
    """Refuse, before any work, a file that cannot become a picture."""
    if plot.suffix.lower() not in FORMATS:
        raise UserError(f"--plot {plot}: name a file that ends in {', '.join(FORMATS)}")
    if not plot.absolute().parent.is_dir():
        raise UserError(f"--plot {plot}: there is no folder {plot.parent}; make it, or name another")
    if plot.is_dir():
        raise UserError(f"--plot {plot}: it is a folder; name a file in it")


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
        name = Text(plain(short(row.entrant.label, LONG_NAME)))
        values = [(metric, row.values[metric.name]) for metric in metrics]
        reached.add_row(
            name, *(number(one.mean, metric.digits) + _half(one, metric) for metric, one in values)
        )
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
        notes = [
            "AUC: mean pass rate over all steps. worst: environment at the end. forgetting: peak less end."
        ]
    notes += ["±: 95 % t-interval over seeds."] if len(ranking.seeds) > 1 else []
    yield from (Text(note, style="dim") for note in (*notes, SAYS))


def _half(value: RankedValue, metric: TrialMetric) -> str:
    return "" if value.half is None else f" ±{number(value.half, metric.digits)}"


def _change(value: RankedValue, metric: TrialMetric) -> Text:
    """A difference with its interval: green where it is better for sure, red where it is worse."""
    is_better = (value.mean > 0) == metric.higher_is_better
    style = ("green" if is_better else "red") if value.is_off_zero else "dim"
    return Text(signed(value.mean, metric.digits) + _half(value, metric), style=style)
