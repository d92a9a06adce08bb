"""simulate: choosers compared in worlds without a language model, in seconds. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.simulation.candidates import Candidate
    from orchestrator.simulation.ranking import Ranking
    from orchestrator.simulation.trials import TrialSetting, World


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
        _refuse_with_replay(
            {"--scheduler": scheduler, "--file": file, "--steps": steps, "--replay-share": replay_share}
            | {"--against": against, "--workers": workers, "WORLD": None if world == "traps" else world}
        )
        from orchestrator.cli.simulate_replay import print_replay_of

        return print_replay_of(replay, bandit or ["uniform"], home, as_json, plot)
    with _until_interrupted():
        from orchestrator.simulation.trials import TrialSetting
        from orchestrator.simulation.worlds import find_world

        where = find_world(world)
        entrants = _entrants(where, bandit or [], scheduler or [], file)
        setting = TrialSetting(_steps(where, steps), _replay_share(where, replay_share))
        base = _against(against, entrants)
        if plot is not None:
            _require_place(plot)
        ranking = _compare(where, entrants, setting, range(first_seed, first_seed + seeds), base, workers)
        _tell(ranking, as_json, plot)


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """Leave at once on Ctrl-C; there is nothing to resume."""
    from orchestrator.cli.console import problem
    from orchestrator.os_signals import exit_code_of

    try:
        yield
    except KeyboardInterrupt as signal:
        problem("killed; nothing was kept, the same command begins again")
        raise typer.Exit(exit_code_of(signal)) from None


def _refuse_with_replay(given: Mapping[str, object]) -> None:
    from orchestrator.errors import UserError

    meaningless = [name for name, value in given.items() if value]
    if meaningless:
        raise UserError(
            f"--replay goes by the log of a run, in which {', '.join(meaningless)} has no meaning: leave it out"
        )


def _entrants(
    world: World, bandits: Sequence[str], schedulers: Sequence[str], file: Path | None
) -> list[Candidate]:
    """Read who competes: what was named, in that order, or the usual handful."""
    from orchestrator.errors import UserError
    from orchestrator.registry import search_in
    from orchestrator.simulation.candidate_names import entrants_of, usual

    search_in(None if file is None else str(file.absolute().parent))
    if schedulers and not world.has_stages:
        raise UserError(
            f"--scheduler: world {world.letter} has no stages; use world d or h, or leave the option out"
        )
    return entrants_of(world, bandits, schedulers, file) or usual(world)


def _replay_share(world: World, given: float | None) -> float:
    from orchestrator.errors import UserError

    if given is not None and not world.has_stages:
        raise UserError(f"--replay-share: world {world.letter} has no stages; use world d or h")
    return 0.2 if given is None else given


def _steps(world: World, given: int | None) -> int:
    from orchestrator.errors import UserError
    from orchestrator.simulation.two_level_world import STEPS_PER_STAGE

    if given is not None and world.has_stages and given % STEPS_PER_STAGE:
        raise UserError(f"--steps {given}: stages have {STEPS_PER_STAGE} steps here, so say a multiple of it")
    return given or world.num_steps


def _against(given: str | None, entrants: Sequence[Candidate]) -> str:
    from orchestrator.errors import UserError
    from orchestrator.registry import nearest

    labels = [entrant.label for entrant in entrants]
    if given is not None and given not in labels:
        raise UserError(f"--against {given}: competing are {', '.join(labels)}{nearest(given, labels)}")
    return given or labels[0]


def _require_place(plot: Path) -> None:
    """Refuse, before any work, a file that cannot become a picture."""
    from orchestrator.errors import UserError
    from orchestrator.simulation.chart import FORMATS

    if plot.suffix.lower() not in FORMATS:
        raise UserError(f"--plot {plot}: name a file that ends in {', '.join(FORMATS)}")
    if not plot.absolute().parent.is_dir():
        raise UserError(f"--plot {plot}: there is no folder {plot.parent}; make it, or name another")
    if plot.is_dir():
        raise UserError(f"--plot {plot}: it is a folder; name a file in it")


def _compare(
    world: World,
    entrants: Sequence[Candidate],
    setting: TrialSetting,
    seeds: Sequence[int],
    against: str,
    workers: int | None,
) -> Ranking:
    """Run all trials, with a bar on a terminal."""
    from rich.progress import Progress

    from orchestrator.cli.console import err
    from orchestrator.simulation.parallel import by_entrant, jobs_of, run_all
    from orchestrator.simulation.ranking import rank

    jobs = jobs_of(world.name, entrants, seeds, setting)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(f"world {world.letter}", total=len(jobs))
        trials = run_all(jobs, workers, lambda done, of: bar.update(task, completed=done))
    return rank(world, setting, seeds, entrants, by_entrant(jobs, trials), against)


def _tell(ranking: Ranking, as_json: bool, plot: Path | None) -> None:
    from orchestrator.cli.console import err, out, print_json
    from orchestrator.cli.simulate_tables import print_ranking

    print_json(ranking.facts()) if as_json else print_ranking(out, ranking)
    if plot is not None:
        from orchestrator.cli.output_paths import write_page
        from orchestrator.simulation.chart import draw

        write_page(plot, "plot", lambda path: draw(ranking, path), "--plot")
        (err if as_json else out).print(f"Curves and shares are in {plot}", markup=False)
