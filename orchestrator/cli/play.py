"""play: a person at the terminal, or a policy that is no model, plays environments. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from environments import Environment, EnvironmentSource, Message, Scorer, ScoringJob, Task, TaskStream
from environments.display import clean
from orchestrator.cli.console import every_few_seconds, leaving, number, out, print_json, require_place
from orchestrator.cli.environment_targets import OnlyEnvironment, SetOption, Target, Targets, built, find_targets
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home
from orchestrator.cli.tables import print_table, table
from orchestrator.errors import UserError
from orchestrator.scripted_play import KIND_OF, Played, ScriptedPolicy, TurnBudget, play_category
from orchestrator.tallies import Tally
from store import floors
from store.home import Home as HomeFolder
from store.intervals import wilson
from store.sentences import num

TASKS = 64  # a category, where no spec says how many are evaluated


def play(
    spec: Target,
    environment: OnlyEnvironment = None,
    overrides: SetOption = None,
    policy: Annotated[
        ScriptedPolicy | None,
        typer.Option("--policy", help="Let this one play, and print its pass rates; default: you play."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What `constant` answers; default: a category's most frequent answer."),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(min=1, help=f"Tasks of each category; default: `evaluate.items` of the spec, else {TASKS}."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the answers of `random`, and of the tasks you are given.")] = 0,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="Keep the pass rates with this run, whose report draws them."),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Play an environment yourself, or by random or right answers.

    You are shown training tasks, category after category, and write a line each turn; one that ends with a backslash
    goes on in the next. Ctrl-D ends. With --policy, held-out tasks are played without a model, and the pass rates
    printed by category with 95 % intervals: `random` and `constant` are a floor, `reference` (a task's own answer) is
    a ceiling where one reply is all that a task asks for.
    """
    if policy is None and (run is not None or as_json or text is not None):
        raise UserError("--run, --json and --text are about a policy: say which with --policy, or play without them")
    if text is not None and policy != "constant":
        raise UserError(f"--text is what `constant` answers, and the policy is {policy}")
    targets = find_targets(spec, environment, overrides or [])
    folder = None if run is None else _folder(run, home, targets)
    with ExitStack() as stack:
        tell = every_few_seconds("")
        environments = built(targets.sources, tell)
        options = None if targets.spec is None else targets.spec.scoring
        scorer = stack.enter_context(Scorer(list(targets.sources), environments, options, tell))
        stack.enter_context(leaving("stopped; what scored is ended"))
        if policy is None:
            play_as_a_person(list(environments.values()), scorer, seed, tasks, targets.turn_budget)
            return
        num_tasks = tasks or (TASKS if targets.spec is None else targets.spec.evaluate.items)
        played = [
            play_category(
                one,
                category.name,
                policy,
                scorer,
                num_tasks=num_tasks,
                seed=seed,
                text=text,
                budget=targets.turn_budget(one.name),
            )
            for one in environments.values()
            for category in one.categories
        ]
    held_out = {name: [c.name for c in one.categories if not c.trainable] for name, one in environments.items()}
    if as_json:
        print_json([{"policy": policy, **facts_of(one)} for one in played])
    else:
        print_rates(policy, played, held_out)
    if folder is not None:
        rates: dict[str, dict[str, float]] = {}
        for one in played:
            if one.pass_rate is not None:
                rates.setdefault(one.environment, {})[one.category] = one.pass_rate
        kept = floors.keep(folder, KIND_OF[policy], floors.Level(policy, rates, held_out))
        if not as_json:
            out.print(f"kept as the {KIND_OF[policy]} in {kept}; `evergreen report {run}` draws it", markup=False)


def facts_of(one: Played) -> dict[str, Any]:
    """Say how a category went, as JSON."""
    interval = wilson(one.num_correct, len(one.scored)) if one.scored else None
    values = [score.value for score in one.scored if score.value is not None]
    return {
        "environment": one.environment,
        "category": one.category,
        "tasks": len(one.scores),
        **one.tally.facts(),
        "correct": one.num_correct,
        "pass_rate": one.pass_rate,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "mean_score": sum(values) / len(values) if values else None,
    }


def print_rates(policy: ScriptedPolicy, played: Sequence[Played], held_out: Mapping[str, Collection[str]]) -> None:
    """Print pass rates, an environment's as the mean of its trainable categories', and why some have none."""
    made = table("", f"{policy} on held-out tasks", "tasks", "pass rate", "95 %", "mean score", "unscorable")
    for name in dict.fromkeys(one.environment for one in played):
        own = [facts_of(one) for one in played if one.environment == name]
        for of in own:
            ends = "-" if of["low"] is None else f"{number(of['low'])} to {number(of['high'])}"
            cells = (str(of["tasks"]), number(of["pass_rate"]), ends, number(of["mean_score"]), str(of["unscorable"]))
            made.add_row(Text(f"{name}.{clean(of['category'])}"), *cells)
        known = {of["category"]: of["pass_rate"] for of in own if of["pass_rate"] is not None}
        mean = floors.mean_of(known, held_out[name])
        if len(own) > 1 and mean is not None:
            made.add_row(Text(f"{name}, mean"), "", number(mean))
    print_table(out, made)
    for name in dict.fromkeys(one.environment for one in played):
        for sentence in Tally.together(one.tally for one in played if one.environment == name).sentences(name):
            out.print(Text(sentence, style="yellow"))


def play_as_a_person(
    environments: Sequence[Environment],
    scorer: Scorer,
    seed: int,
    num_tasks: int | None,
    budget: Callable[[str], TurnBudget],
) -> None:
    """Show tasks and read answers until Ctrl-D, or so many tasks of each category are over."""
    num_done = num_solved = 0
    for environment, task in _shown(environments, seed, num_tasks):
        found = _play_one(environment, task, scorer, budget(environment.name))
        if found is None:
            break
        num_done, num_solved = num_done + 1, num_solved + found
    out.print(f"\n{num_solved} of {num(num_done, 'task')} solved", markup=False)


def _shown(environments: Sequence[Environment], seed: int, num_tasks: int | None) -> Iterator[tuple[Environment, Task]]:
    """Give training tasks as a run of this seed would have them, one of each category in turn."""
    streams = [
        TaskStream(environment, category.name, seed)
        for environment in environments
        for category in environment.categories
        if category.trainable
    ]
    for _ in count() if num_tasks is None else range(num_tasks):
        for stream in streams:
            yield stream.environment, stream.draw(1)[0]


def _play_one(environment: Environment, task: Task, scorer: Scorer, budget: TurnBudget) -> bool | None:
    """Let a person play a task; says whether it was solved, None where the person has left."""
    out.print(Text(f"\n{task.environment}.{clean(task.category)}, task {task.index}", style="bold"))
    _show(task.messages)
    completions: tuple[str, ...] = ()
    for number_of_turn in range(budget.max_turns):
        answer = _read()
        if answer is None:
            return None
        completions = (*completions, answer)
        (turn,) = scorer.turns([ScoringJob(task, completions)])
        if not turn.done and number_of_turn < budget.max_turns - 1:
            _show(turn.messages)
            continue
        score = turn.score if turn.done else budget.score(turn.score)
        if score is not None and score.reason is not None:
            out.print(Text(f"no score: {score.reason}", style="yellow"))
            return False
        value, is_correct = (0.0, False) if score is None else (score.value, bool(score.correct))
        said = "right" if is_correct else "not right"
        known = (
            ""
            if is_correct or task.answer is None
            else f"; an answer that is right, or a good first one: {task.answer}"
        )
        out.print(Text(f"{said}: {number(value)}{known}", style="green" if is_correct else "red"))
        return is_correct
    return False


def _show(messages: Sequence[Message]) -> None:
    for message in messages:
        out.print(Text.assemble((f"{message['role']}: ", "dim"), message["content"]))


def _read() -> str | None:
    """Read an answer; None: there is no more to read."""
    lines: list[str] = []
    while True:
        try:
            line = input("... " if lines else "> ")
        except EOFError:
            return None
        lines.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            return "\n".join(lines)


def _folder(run: str, home: Path, targets: Targets) -> Path:
    """Find the run's folder; UserError where it has not the environments that are played, or keeps no pass rates."""
    from orchestrator.runs.catalog import existing, opened

    folder = existing(HomeFolder(home, create=False), run)
    with opened(home, run) as (_, ledger):
        known = ledger.reading.spec(run)["environments"]
    if targets.spec is None or (unknown := _strangers(targets.sources, known)):
        names = ", ".join(known)
        what = "a type alone" if targets.spec is None else ", ".join(unknown)
        raise UserError(f"{run} has the environments {names}, and {what} is none of them: give the run's spec")
    require_place(folder / floors.FILE, "pass rates", "--run")
    floors.read(folder)
    return folder


def _strangers(sources: Sequence[EnvironmentSource], known: Any) -> list[str]:
    return [one.name for one in sources if one.name not in known]
