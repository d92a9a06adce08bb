"""How a comparison in a simulated world looks on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.cli.console import plain
from orchestrator.cli.tables import table
from orchestrator.simulation.ranking import SAYS, RankedValue, Ranking, Row
from orchestrator.simulation.trials import TrialMetric
from store.sentences import LONG_NAME, num, number, short, signed


def print_ranking(out: Console, ranking: Ranking) -> None:
    """Tell what every policy reached, how it differs from the one compared with, and what the numbers are."""
    world, setting = ranking.world, ranking.setting
    replay = f", replay share {number(setting.replay_share)}" if world.has_stages else ""
    out.print(Text.assemble((f"world {world.letter}, {world.name}", "bold"), f": {world.about}"))
    out.print(f"{num(setting.num_steps, world.step)}, {_seeds(ranking)}{replay}", markup=False)
    out.print(_reached(ranking))
    if len(ranking.rows) > 1:
        out.print(_differences(ranking))
    for line in _notes(ranking):
        out.print(Text(line, style="dim"))


def _seeds(ranking: Ranking) -> str:
    first, last = ranking.seeds[0], ranking.seeds[-1]
    return f"seed {first}" if first == last else f"seeds {first} to {last}"


def _reached(ranking: Ranking) -> Table:
    metrics = ranking.world.metrics
    made = table("Reached", "policy", *(metric.title for metric in metrics))
    for row in ranking.rows:
        made.add_row(_name(row), *(_value(row.values[one.name], one) for one in metrics))
    return made


def _differences(ranking: Ranking) -> Table:
    metrics = ranking.world.metrics
    title = f"Less {plain(ranking.against)}, paired by seed"
    made = table(title, "policy", *(metric.title for metric in metrics))
    for row in ranking.rows:
        if row.differences is not None:
            made.add_row(_name(row), *(_change(row.differences[one.name], one) for one in metrics))
    return made


def _name(row: Row) -> Text:
    return Text(plain(short(row.entrant.label, LONG_NAME)))


def _value(value: RankedValue, metric: TrialMetric) -> str:
    half = "" if value.half is None else f" ±{number(value.half, metric.digits)}"
    return number(value.mean, metric.digits) + half


def _change(value: RankedValue, metric: TrialMetric) -> Text:
    """A difference with its interval: green where it is better for sure, red where it is worse."""
    half = "" if value.half is None else f" ±{number(value.half, metric.digits)}"
    is_better = (value.mean > 0) == metric.higher_is_better
    style = ("green" if is_better else "red") if value.is_off_zero else "dim"
    return Text(signed(value.mean, metric.digits) + half, style=style)


def _notes(ranking: Ranking) -> list[str]:
    names, never = {metric.name for metric in ranking.world.metrics}, ranking.setting.num_steps + 1
    meaning = {
        "auc": "AUC: mean pass rate over all steps. final, worst: at the end, of all skills and of the worst.",
        "steps": f"to .8: steps until the mean pass rate is .8; {never} where it never was.",
        "regret": "regret: sum over rounds of the best arm's mean less that of the arm pulled.",
    }
    lines = [text for name, text in meaning.items() if name in names]
    if ranking.world.has_stages:
        lines = [
            "AUC: mean pass rate over all steps. worst: environment at the end. forgetting: peak less end."
        ]
    return [*lines, *(["±: 95 % t-interval over seeds."] if len(ranking.seeds) > 1 else []), SAYS]
