"""Profiles: how often a policy solves single tasks, or what it makes of their prompts, and the slices that come of it.

What is profiled is the environment as its type gives it, without the spec's own `slices`. The tasks for a study's end
are never played. Those of evaluations and schedulers are, unless asked otherwise: a slice that has none of them is
never measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from environments import Environment, Score, Scorer
from environments.slices.clusters import Groups, group_vectors
from environments.slices.methods import ReadTask, by_share, made_of, num_unread, read_tasks
from environments.slices.options import KEY
from environments.slices.slice_file import Slices
from orchestrator.callbacks import Watcher, together
from orchestrator.errors import UserError
from orchestrator.scripted_play import ScriptedPolicy, TurnBudget, answers_of, play_tasks
from orchestrator.spec import Spec
from orchestrator.tallies import Tally
from store.home import Home
from store.records import FINAL

By = Literal["pass_rate", "hidden", "hidden_tree"]
Tell = Callable[[str], None]
Counts = list["tuple[int, int] | None"]  # of each task: how many of how many samples were correct; None: not played


@dataclass(frozen=True)
class ProfileOptions:
    """What is looked at, and how it is split."""

    by: By = "pass_rate"
    count: int = 4  # slices, at most
    samples: int = 8  # of a task; 0: none is played
    tasks: int = 1000  # read, of an environment, at most
    train_only: bool = False  # without held-out tasks
    terms: int = 2  # words in a name, of `hidden` and `hidden_tree`


@dataclass(frozen=True)
class Profile:
    """What a policy did on an environment's tasks, and how its answers ended."""

    slices: Slices
    tally: Tally
    num_unread: int | None  # tasks that there are beside those that were read; None: without end


def scripted_profile(
    environments: Sequence[Environment],
    scorer: Scorer,
    policy: ScriptedPolicy,
    options: ProfileOptions,
    seed: int,
    text: str | None,
    tell: Tell,
    budget: Callable[[str], TurnBudget],
) -> list[Profile]:
    """Profile a policy that is no model; raises UserError where it is asked for hidden states, which it has not.

    `budget`: of an environment's episodes, by its name.
    """
    if options.by != "pass_rate":
        raise UserError(f"--by {options.by} reads hidden states, and {policy} is no model: leave --policy out")
    made = []
    for environment in environments:
        tasks = _tasks(environment, options, tell)
        answers = list[tuple[Score, bool]]()
        correct, scored = np.zeros(len(tasks), np.int64), np.zeros(len(tasks), np.int64)
        for category in dict.fromkeys(one.task.category for one in tasks):
            own = [place for place, one in enumerate(tasks) if one.task.category == category]
            for sample in range(options.samples):
                given = [tasks[place].task for place in own]
                answer = answers_of(environment, category, policy, seed + sample, text, given)
                ended = play_tasks(environment, given, answer, scorer, budget(environment.name))
                answers += ended
                correct[own] += [bool(score.correct) for score, _ in ended]
                scored[own] += [score.reason is None for score, _ in ended]
        counts: Counts = [(c, k) if k else None for c, k in zip(correct.tolist(), scored.tolist(), strict=True)]
        slices = _by_pass_rate(environment, tasks, counts, options, policy)
        made.append(Profile(slices, Tally.of(answers), num_unread(environment, options.tasks)))
    return made


def policy_profile(
    spec: Spec,
    names: Sequence[str],
    home: Home,
    options: ProfileOptions,
    weights: Path | None,
    called: str,
    watcher: Watcher,
) -> list[Profile]:
    """Profile the spec's policy as it would begin, or with a checkpoint's weights, on environments given by name."""
    from orchestrator.measurements.evaluation import AT_ONE
    from orchestrator.runs.assembly import assemble, lay_foundation
    from orchestrator.stopwatch import Stopwatch
    from policies.prompt_states import mean_hidden_states

    heard, made = together(watcher), list[Profile]()
    foundation = lay_foundation(without_slices(spec), weights, heard.opening, begun=spec.environments)
    with assemble(foundation, home, heard, lambda: None) as parts:
        parts.player.sync()
        for name in names:
            environment = parts.environments[name]
            tasks = [one for one in _tasks(environment, options, heard.phase) if foundation.prompts.admits(one.task)]
            if not tasks:
                raise UserError(f"{name}: every prompt that was read is too long for the policy: nothing to profile")
            counts: Counts = [None] * len(tasks)
            tally = Tally.of(())
            if options.samples:
                places = [place for place, one in enumerate(tasks) if one.pool != FINAL]
                heard.phase(f"playing {len(places):,} tasks of {name}, {options.samples} times each")
                asked = [tasks[place].task for place in places]
                played = parts.player.play(asked, options.samples, AT_ONE, "profile", 0, Stopwatch())
                for place, group in zip(places, played, strict=True):
                    counts[place] = (sum(group.correct), len(group.scored)) if group.scored else None
                tally = Tally.of((sample.score, sample.was_cut_off) for group in played for sample in group.samples)
            unread = num_unread(environment, options.tasks)
            if options.by == "pass_rate":
                made.append(Profile(_by_pass_rate(environment, tasks, counts, options, called), tally, unread))
                continue
            heard.phase(f"reading {len(tasks):,} prompts of {name}")
            vectors = mean_hidden_states(parts.policy, [parts.policy.encode(one.task.messages) for one in tasks])
            spread = vectors.std(axis=0)
            scaled = (vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
            texts, as_tree = [one.text for one in tasks], options.by == "hidden_tree"
            groups = group_vectors(scaled, texts, options.count, options.terms, as_tree=as_tree)
            made.append(Profile(made_of(environment, options.by, tasks, groups, called, counts), tally, unread))
    return made


def without_slices(spec: Spec) -> Spec:
    """Give a spec whose environments are as their types make them."""
    context = {"search_path": spec.resources.search_path}
    whole = {
        name: type(section).model_validate(
            {key: value for key, value in section.model_dump(mode="json").items() if key != KEY}, context=context
        )
        for name, section in spec.environments.items()
    }
    return spec.model_copy(update={"environments": whole})


def _tasks(environment: Environment, options: ProfileOptions, tell: Tell) -> list[ReadTask]:
    wanted = {None, "train"} if options.train_only else {None, "train", "anchor", "select"}
    if options.by != "pass_rate" and not options.train_only:
        wanted.add(FINAL)  # read, not played: which slice they are in says nothing of the policy
    found = [one for one in read_tasks(environment, options.tasks, tell) if one.pool in wanted]
    if not found:
        raise UserError(f"{environment.name}: none of the tasks read is to train on: read more with --tasks")
    return found


def _by_pass_rate(
    environment: Environment, tasks: Sequence[ReadTask], counts: Counts, options: ProfileOptions, policy: str
) -> Slices:
    shares = np.array([np.nan if one is None else one[0] / one[1] for one in counts])
    groups: Groups = by_share(shares, options.count)
    return made_of(environment, "pass_rate", tasks, groups, policy, counts)
