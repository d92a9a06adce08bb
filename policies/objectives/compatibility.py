"""Combinations without sense: what is refused when a spec is read, and what is allowed and usually a mistake.

A rule is a function from the resolved section to a sentence that says what is wrong and what to change, or to None. It
asks what the parts say of themselves (`PartInfo`), never what they are called. What depends on more than the objective
(the sampler, the learner) is asked in `orchestrator/spec`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from policies.objectives.contracts import Need
from policies.objectives.parts import ControllerOptions, Kind, Part, PartModule, PartOptions

ENTROPIES: frozenset[Need] = frozenset({"entropy", "entropy_grad", "old_entropy"})


@dataclass(frozen=True)
class ResolvedObjective:
    """An `objective:` section as the rules read it."""

    parts: Sequence[tuple[PartModule, PartOptions]]  # in the order in which they act
    aggregation: PartModule
    max_length: int | None
    reading: str
    entropy: str
    options: Mapping[str, Any]  # of all parts, by name
    strengths: Mapping[str, PartModule]  # options that say how hard a part acts
    controllers: Sequence[tuple[str | None, PartOptions]]  # the option that each moves, and its own

    def of(self, kind: Kind) -> list[PartModule]:
        """The parts of a kind."""
        return [part for part, _ in self.parts if part.kind == kind]

    @property
    def ratio(self) -> PartModule:
        """The ratio rule."""
        return self.of("ratio_rules")[0]

    @property
    def estimator(self) -> PartModule:
        """The estimator."""
        return self.of("estimators")[0]

    @property
    def importance_weights(self) -> list[str]:
        """The mismatch weights that are ratios and on; the others are masks."""
        return [p.name for p, own in self.parts if p.info.is_importance_weight and p.create(own) is not None]

    @property
    def dropping(self) -> list[str]:
        """The plans that drop groups without spread."""
        return [part.name for part in self.of("plans") if part.info.plan == "drops_even_groups"]

    @property
    def controlled(self) -> Iterator[tuple[str, PartModule, PartOptions, ControllerOptions]]:
        """Each controller's knob, the part whose option that is with its options, and the controller's options."""
        for knob, controller in self.controllers:
            for part, own in self.parts:
                if knob is not None and knob in part.Config.model_fields:
                    known = controller if isinstance(controller, ControllerOptions) else ControllerOptions()
                    yield knob, part, own, known


def refusals(it: ResolvedObjective) -> Iterator[str]:
    """Say what cannot work."""
    return (found for rule in REFUSED if (found := rule(it)))


def warnings(it: ResolvedObjective, updates: int) -> list[str]:
    """List what is allowed and usually a mistake, one sentence each, with so many updates a step."""
    found = [
        *(rule(it) for rule in WARNED),
        *(part.info.warn(it.options) for part, _ in it.parts if part.info.warn),
        _one_ratio_for_a_sequence(it),
        *(rule(it, updates) for rule in WARNED_BY_UPDATES),
    ]
    return [text for text in found if text]


def _named_twice(it: ResolvedObjective) -> str | None:
    twice = [key for key, count in Counter((p.kind, p.name) for p, _ in it.parts).items() if count > 1]
    return f"`{twice[0][1]}` is named twice in `{twice[0][0]}`: once is enough" if twice else None


def _constant_without_a_length(it: ResolvedObjective) -> str | None:
    if it.aggregation.info.needs_max_length and it.max_length is None:
        return f"`aggregation: {it.aggregation.name}` needs `max_length`, usually the sampler's `max_tokens`"
    return None


def _two_controllers_on_one_knob(it: ResolvedObjective) -> str | None:
    twice = [knob for knob, count in Counter(knob for knob, _ in it.controllers).items() if count > 1]
    return f"two controllers move `{twice[0]}`: they would undo each other; keep one" if twice else None


def _more_controllers_than_are_logged(it: ResolvedObjective) -> str | None:
    num = len(it.controllers)
    return (
        f"{num} controllers: the ledger has names for the coefficients of two; keep two" if num > 2 else None
    )


def _reads_tempered_rows(it: ResolvedObjective) -> str | None:
    """Rows drawn at another temperature are of another distribution."""
    tempering = [part.name for part in it.of("plans") if part.info.plan == "adds_tempered_rows"]
    if it.controllers and it.entropy == "surprisal_iw" and tempering:
        return (
            f"`entropy: surprisal_iw` is read from the rows of the update, and `{tempering[0]}` draws some of them at "
            "another temperature: take `entropy: sampler` or `surprisal`, which leave them out"
        )
    return None


def _steers_the_wrong_way(it: ResolvedObjective) -> str | None:
    """A controller that drives entropy away from its target."""
    for knob, part, _, controller in it.controlled:
        if not controller.steers_entropy:
            continue
        info, falls = part.info, controller.falls_below_target
        if info.lowers_entropy and not falls:
            return (
                f"`{knob}` lowers entropy, and this controller raises it where entropy is below its target: take "
                "`controller: {type: pi}` with gains above 0, or `dual_ascent` with a rate below 0"
            )
        if falls and (info.pushes_entropy or knob in info.raises_entropy or part.kind == "shapers"):
            return (
                f"`{knob}` raises entropy, and this controller raises it where entropy is above its target: turn its "
                "sign, for `pi` gains below 0, such as `kp: -0.1, ki: -0.001`, for `dual_ascent` a rate above 0"
            )
    return None


def _goes_beyond_the_option(it: ResolvedObjective) -> str | None:
    """A controller whose bounds hold values that its option does not take."""
    for knob, part, own, controller in it.controlled:
        for value in controller.reach:
            try:
                part.Config.model_validate(own.model_dump() | {knob: value})
            except ValidationError as error:
                return (
                    f"a controller may take `{knob}` to {value:g}, and it cannot be that ({error.errors()[0]['msg']}): "
                    "change the controller's bounds or its type"
                )
    return None


def _mismatch_counted_twice(it: ResolvedObjective) -> str | None:
    weights = it.importance_weights
    if it.ratio.info.anchor == "lp_roll" and weights:
        return (
            f"`ratio: {it.ratio.name}` compares with the sampler's log-probs already, so `mismatch: {weights[0]}` "
            "would count the mismatch twice: say `mismatch: none`, or take a mask (geo_mask, off_policy_mask)"
        )
    if len(weights) > 1:
        return (
            f"{' and '.join(f'`{name}`' for name in weights)} count the same mismatch twice: keep one of them"
        )
    return None


def _parts_that_belong_together(it: ResolvedObjective) -> str | None:
    ratio, shapers = it.ratio, it.of("shapers")
    lacking = set(ratio.info.reads) - {note for shaper in shapers for note in shaper.info.notes}
    if lacking:
        giver = min(lacking).partition(".")[0]
        return (
            f"`ratio: {ratio.name}` reads the scores that `shaper: {giver}` gives tokens: "
            "add it, or take `ratio: ppo`"
        )
    by_lp = [shaper.name for shaper in shapers if shaper.info.weighs_by_mean_lp]
    if by_lp and ratio.info.stale_samples == "weighed":
        return (
            f"`shaper: {by_lp[0]}` weighs wrong answers by their mean log-prob, and with `ratio: {ratio.name}` the "
            "score is the mean ratio, equal for all at the start of the step: say `shapers: []`, or `ratio: reinforce`"
        )
    freeing = [term.name for term in it.of("terms") if term.info.frees_tokens]
    if freeing and ratio.info.clips_freed_tokens:
        return f"`{freeing[0]}` frees its tokens from PPO's clip, and `ratio: {ratio.name}` has none: take `ratio: ppo`"
    return None


def _two_kinds_of_entropy(it: ResolvedObjective) -> str | None:
    """A part that reads the entropy of a nucleus makes it the entropy of all parts."""
    read: dict[str, Part[Any]] = {
        f"{part.kind}/{part.name}": made
        for part, own in it.parts
        if part.kind in ("shapers", "mismatch_weights", "ratio_rules", "terms")
        and (made := part.create(own)) is not None
    }
    nuclei = [name for name, made in read.items() if made.nucleus is not None]
    readers = [name for name, made in read.items() if made.nucleus is None and made.needs & ENTROPIES]
    if nuclei and readers:
        return (
            f"`{nuclei[0]}` reads entropies over a nucleus and `{readers[0]}` over all tokens; a run has one of them: "
            "leave one part out"
        )
    return None


def _subtracts_after_a_weight(it: ResolvedObjective) -> str | None:
    """What subtracts from the advantage must see it in its own unit."""
    late = [shaper.name for shaper in it.of("shapers")[1:] if shaper.info.subtracts]
    if late:
        return f"`{late[0]}` subtracts from the advantage, so it comes before all other shapers: put it first"
    return None


def _drops_groups_it_has_none_of(it: ResolvedObjective) -> str | None:
    if it.dropping and not it.estimator.info.compares_groups:
        return (
            f"`{it.dropping[0]}` drops groups without spread, and `estimator: {it.estimator.name}` does not compare "
            "inside groups: take one that does (rloo, grpo), or leave the plan out"
        )
    return None


def _two_plans_of_one_thing(it: ResolvedObjective) -> str | None:
    plans: dict[str, str] = {}
    for part in it.of("plans"):
        other = plans.setdefault(part.info.plan or part.name, part.name)
        if other != part.name:
            return f"the plans `{other}` and `{part.name}` decide the same thing: keep one of them"
    return None


def _fixed_push(it: ResolvedObjective) -> str | None:
    """A force on entropy that nothing lowers; a schedule does not look."""
    steered = {knob for knob, _, _, controller in it.controlled if controller.has_target}
    for strength, part in it.strengths.items():
        value = it.options[strength]
        if part.info.pushes_entropy and strength not in steered and value != 0:
            return (
                f"`{strength}: {value:g}` is fixed: nothing can lower it. Measured with REPO, a fixed strength "
                "destroyed the policy on tasks of several tokens (entropy at its ceiling, accuracy 0 within 50 steps): "
                "most groups have no spread there, and nothing opposes the push. Give it a controller, such as "
                "`geometric`, unless that is what you study."
            )
    return None


def _raw_reading(it: ResolvedObjective) -> str | None:
    """A reading that moves without any change in the policy."""
    if it.controllers and it.reading == "raw":
        return (
            "`reading: raw` moves with the mix of tasks, so that the controller chases the bandit. It is there to "
            "reproduce papers."
        )
    return None


def _reads_chosen_rows(it: ResolvedObjective) -> str | None:
    """A reading of rows that were kept for their scores."""
    if it.controllers and it.entropy == "surprisal_iw" and it.dropping:
        return (
            f"`entropy: surprisal_iw` is read from the rows of the update, and `{it.dropping[0]}` chooses them by "
            "score: the reading is not the policy's. Take `entropy: sampler` or `surprisal`, which read all that was "
            "played."
        )
    return None


def _drops_groups_it_learns_from(it: ResolvedObjective) -> str | None:
    if it.dropping and it.estimator.info.learns_from_even_groups:
        return (
            f"`estimator: {it.estimator.name}` learns from groups without spread, and `{it.dropping[0]}` drops them: "
            "leave the plan out."
        )
    return None


def _one_ratio_for_a_sequence(it: ResolvedObjective) -> str | None:
    if it.ratio.info.is_of_sequences and not it.aggregation.info.weighs_sequences_alike:
        return (
            f"`ratio: {it.ratio.name}` is a loss of sequences: with `aggregation: {it.aggregation.name}` long answers "
            "count more. Take `aggregation: seq_mean_token_mean`."
        )
    return None


def _stale(it: ResolvedObjective, updates: int) -> str | None:
    if updates == 1 or any(term.info.holds for term in it.of("terms")):
        return None
    if it.ratio.info.stale_samples == "ignored":
        return (
            f"`ratio: {it.ratio.name}` with {updates} updates a step: later updates take stale samples for fresh "
            "ones. Take `ratio: ppo`, or one update."
        )
    if it.ratio.info.stale_samples == "weighed":
        return (
            f"`ratio: {it.ratio.name}` with {updates} updates a step: nothing holds the policy near the start of the "
            "step. Take `ratio: ppo`, one update, or a term that does (`kl_cov`, `disco_constraint`)."
        )
    return None


def _idle(it: ResolvedObjective, updates: int) -> str | None:
    """Say which parts do nothing with so many updates a step: at one, every ratio to the start of the step is 1."""
    idle = [part.name for part, _ in it.parts if part.info.idle_at_one_update]
    if updates > 1 or not idle:
        return None
    return f"`{idle[0]}` does nothing with one update a step, where every ratio is 1: say `updates: 4`, or leave it out"


def _moves_an_idle_clip(it: ResolvedObjective, updates: int) -> str | None:
    """With one update a step every ratio to the start of the step is 1, inside of any clip."""
    idle = [knob for knob, part, _, _ in it.controlled if part.kind == "ratio_rules"]
    if updates > 1 or not idle or it.ratio.info.anchor == "lp_roll":
        return None
    return (
        f"the controller moves `{idle[0]}`, which does nothing with one update a step, where every ratio is 1: say "
        "`updates: 4`, or steer with a shaper (`repo_r`)"
    )


REFUSED = (
    _named_twice,
    _constant_without_a_length,
    _two_controllers_on_one_knob,
    _more_controllers_than_are_logged,
    _reads_tempered_rows,
    _steers_the_wrong_way,
    _goes_beyond_the_option,
    _mismatch_counted_twice,
    _parts_that_belong_together,
    _two_kinds_of_entropy,
    _subtracts_after_a_weight,
    _drops_groups_it_has_none_of,
    _two_plans_of_one_thing,
)
WARNED = (_fixed_push, _raw_reading, _reads_chosen_rows, _drops_groups_it_learns_from)
WARNED_BY_UPDATES = (_stale, _idle, _moves_an_idle_clip)
