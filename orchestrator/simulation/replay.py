"""Replaying a run: what another bandit would have picked and earned at each step, given the same history.

    at every step t of a logged bandit:
        p_t   = the other bandit's probabilities                       nothing is drawn
        w     = p_t(arm) / probability that the arm was drawn with     of every slot
        it takes over the logged picks and learns their logged signals

The history stays the logged one: the policy was trained on what the logged bandit picked, and what an arm earns depends
on that. So this says nothing of how a run with the other bandit would have gone. That would take a run, or a world in
which the policy is simulated too. It also differs from the replay of arXiv 1003.5956, which shows the other bandit only
the steps where both agree, in a world that choices do not change.

The picks of schedulers are left out: a run has a handful of them.

    logs.py        what a run wrote down         following.py  a bandit led through it
    stand_ins.py   the bandit in its place       support.py    what a log cannot answer
    estimates.py   the formulas                  replayed.py   what was found
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator import random_streams, registry
from orchestrator.errors import UserError
from orchestrator.simulation.candidates import ORACLE, CandidateName
from orchestrator.simulation.counterfactual_bandit import (
    lessons,
    make_stand_ins,
    reads_what_was_logged,
    telling_of,
    with_the_runs_signal,
)
from orchestrator.simulation.estimates import Slots, estimate
from orchestrator.simulation.log_replay import ReplayedLog, follow
from orchestrator.simulation.logs import RunLog, form_in_words, read_log
from orchestrator.simulation.overlap import judged_by_picks, require_material, require_support
from orchestrator.simulation.replay_results import Replay, TargetReplay, replay_of, windows
from store.ledger import Reading
from store.sentences import listed, num, number


def replay_run(reading: Reading, run: str, targets: Sequence[CandidateName]) -> Replay:
    """Replay a run of the ledger. Raises UserError for what its log cannot answer."""
    return replay(read_log(reading, run), targets)


def replay(log: RunLog, targets: Sequence[CandidateName]) -> Replay:
    """Lead every target through a log and estimate what it would have earned. Raises UserError."""
    require_material(log)
    idle = [one.bandit for one in log.bandits if not one.has_choice]
    return Replay(
        run=log.run,
        bandit=registry.type_of(log.section.bandit),
        signal=form_in_words(log.section.bandit),
        num_steps=log.num_steps,
        targets=[_replay_target(log, target) for target in targets],
        notes=[
            *log.notes,
            *([f"{listed(idle)}: only one arm, so nothing to choose; left out"] if idle else []),
        ],
    )


def _replay_target(log: RunLog, target: CandidateName) -> TargetReplay:
    if target.config is None or target.label == ORACLE:
        raise UserError(f"{target.label} cannot be replayed on {log.run}: it exists in simulated worlds only")
    config = with_the_runs_signal(target.config, log.section.bandit)
    is_logged_form = reads_what_was_logged(log, target.label, config)
    choice = make_stand_ins(log, target.label, config)
    followed = []
    for one in log.bandits:
        if one.has_choice:
            rng = random_streams.generator(log.seed, "replay", target.label, one.bandit)
            taught, about = lessons(log, choice, is_logged_form), telling_of(log, one.bandit)
            followed.append(follow(one, choice.bandits[one.bandit], about, taught, rng))
    require_support(log, target.label, followed)
    slots = Slots.joined([one.slots() for one in followed])
    overall = estimate(slots)
    assert overall is not None  # require_material has looked
    edges = windows([step.logged.step for one in followed for step in one.steps])
    return TargetReplay(
        label=target.label,
        options=config.model_dump(mode="json"),
        overall=overall,
        windows=[(first, last, estimate(slots.within(first, last))) for first, last in edges],
        bandits=[replay_of(one, edges) for one in followed],
        notes=_notes(followed, is_logged_form),
    )


def _notes(followed: Sequence[ReplayedLog], is_logged_form: bool) -> list[str]:
    """Say what was not quite as the formulas assume."""
    notes = []
    steps = [step for one in followed for step in one.steps]
    if not is_logged_form:
        notes.append(
            "learns from its own form of signal, worked out from the groups' scores; it earns in the run's form"
        )
    if any(one.fills_in_turn for one in followed):
        notes.append(
            "fills the slots of a batch in turn: its shares are means of batches drawn on copies of it"
        )
    if any(step.logged.is_in_turn for step in steps):
        notes.append(
            "the run's bandit filled slots in turn: each is weighed by the probability recorded for it"
        )
    missing = sum(pick.signal is None for step in steps for pick in step.logged.picks)
    if missing:
        notes.append(
            f"{num(missing, 'pick')} without a signal left out; IPS takes all arms to miss them alike"
        )
    unknown, share = judged_by_picks(followed)
    if unknown:
        notes.append(
            f"the arms' probabilities are not known for {num(unknown, 'pick')}, so support there is judged by picks "
            f"alone; {number(share)} of its own would have gone to arms that the run never picked"
        )
    return notes
