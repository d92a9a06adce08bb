"""Combinations without sense: what is refused when a spec is read, and what is allowed and usually a mistake.

A rule reads the resolved section and yields sentences that say what is wrong and what to change. It asks what the parts
say of themselves (`PartInfo`), never what they are called. What depends on more than the objective (the sampler, the
learner) is asked in `orchestrator/spec`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pydantic import ValidationError

from environments.user_code import short_name
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
    return chain.from_iterable(rule(it) for rule in REFUSED)


def warnings(it: ResolvedObjective, updates: int) -> list[str]:
    """List what is allowed and usually a mistake, one sentence each, with so many updates a step."""
    said = (part.info.warn(it.options) for part, _ in it.parts if part.info.warn)
    return [
        *chain.from_iterable(rule(it) for rule in WARNED),
        *(text for text in said if text),
        *_one_ratio_for_a_sequence(it),
        *chain.from_iterable(rule(it, updates) for rule in WARNED_BY_UPDATES),
    ]


def _named_twice(it: ResolvedObjective) -> Iterator[str]:
    for (kind, name), count in Counter((part.kind, part.name) for part, _ in it.parts).items():
        if count > 1:
            yield f"`{name}` is named twice in `{kind}`: once is enough"


def _called_alike(it: ResolvedObjective) -> Iterator[str]:
    """Memory in checkpoints and the metrics `force_<part>` go by short names, so that a user's file may move."""
    by_short_name: dict[str, str] = {}
    for name in dict.fromkeys(part.name for part, _ in it.parts):
        if (other := by_short_name.setdefault(short_name(name), name)) != name:
            yield f"`{other}` and `{name}` are both called `{short_name(name)}` in records: rename one of them"


def _constant_without_a_length(it: ResolvedObjective) -> Iterator[str]:
    if it.aggregation.info.needs_max_length and it.max_length is None:
        yield f"`aggregation: {it.aggregation.name}` needs `max_length`, usually the sampler's `max_tokens`"


def _crowd_of_controllers(it: ResolvedObjective) -> Iterator[str]:
    for knob, count in Counter(knob for knob, _ in it.controllers).items():
        if count > 1:
            yield f"two controllers move `{knob}`: they would undo each other; keep one"
    if (num := len(it.controllers)) > 2:
        yield f"{num} controllers: the ledger has names for the coefficients of two; keep two"


def _reads_tempered_rows(it: ResolvedObjective) -> Iterator[str]:
    """Rows drawn at another temperature are of another distribution."""
    tempering = [part.name for part in it.of("plans") if part.info.plan == "adds_tempered_rows"]
    if it.controllers and it.entropy == "surprisal_iw" and tempering:
        yield (
            f"`entropy: surprisal_iw` is read from the rows of the update, and `{tempering[0]}` draws some of them at "
            "another temperature: take `entropy: sampler` or `surprisal`, which leave them out"
        )


def _steers_the_wrong_way(it: ResolvedObjective) -> Iterator[str]:
    """A controller that drives entropy away from its target."""
    for knob, part, _, controller in it.controlled:
        if not controller.steers_entropy:
            continue
        info, falls = part.info, controller.falls_below_target
        if info.lowers_entropy and not falls:
            yield (
                f"`{knob}` lowers entropy, and this controller raises it where entropy is below its target: take "
                "`controller: {type: pi}` with gains above 0, or `dual_ascent` with a rate below 0"
            )
        if falls and (info.pushes_entropy or knob in info.raises_entropy or part.kind == "shapers"):
            yield (
                f"`{knob}` raises entropy, and this controller raises it where entropy is above its target: turn its "
                "sign, for `pi` gains below 0, such as `kp: -0.1, ki: -0.001`, for `dual_ascent` a rate above 0"
            )


def _goes_beyond_the_option(it: ResolvedObjective) -> Iterator[str]:
    """A controller whose bounds hold values that its option does not take."""
    for knob, part, own, controller in it.controlled:
        for value in controller.reach:
            try:
                part.Config.model_validate(own.model_dump() | {knob: value})
            except ValidationError as error:
                yield (
                    f"a controller may take `{knob}` to {value:g}, and it cannot be that ({error.errors()[0]['msg']}): "
                    "change the controller's bounds or its type"
                )


def _one_strength_for_all(it: ResolvedObjective) -> Iterator[str]:
    """A controller that moves one coefficient for each environment, of a part that takes one alone."""
    for knob, part, _, controller in it.controlled:
        if controller.moves_each_environment and not part.info.by_environment:
            yield (
                f"this controller moves one `{knob}` for each environment, and `{part.name}` takes one for all: take "
                "`shaper: repo`, or a controller that moves one, such as `signal_share`"
            )


def _mismatch_counted_twice(it: ResolvedObjective) -> Iterator[str]:
    weights = it.importance_weights
    if it.ratio.info.anchor == "lp_roll" and weights:
        yield (
            f"`ratio: {it.ratio.name}` compares with the sampler's log-probs already, so `mismatch: {weights[0]}` "
            "would count the mismatch twice: say `mismatch: none`, or take a mask (geo_mask, off_policy_mask)"
        )
    if len(weights) > 1:
        named = " and ".join(f"`{name}`" for name in weights)
        yield f"{named} count the same mismatch twice: keep one of them"


def _parts_that_belong_together(it: ResolvedObjective) -> Iterator[str]:
    ratio, shapers = it.ratio, it.of("shapers")
    lacking = set(ratio.info.reads) - {note for shaper in shapers for note in shaper.info.notes}
    if lacking:
        giver = min(lacking).partition(".")[0]
        yield (
            f"`ratio: {ratio.name}` reads the scores that `shaper: {giver}` gives tokens: add it, or take `ratio: ppo`"
        )
    by_lp = [shaper.name for shaper in shapers if shaper.info.weighs_by_mean_lp]
    if by_lp and ratio.info.stale_samples == "weighed":
        yield (
            f"`shaper: {by_lp[0]}` weighs wrong answers by their mean log-prob, and with `ratio: {ratio.name}` the "
            "score is the mean ratio, equal for all at the start of the step: say `shapers: []`, or `ratio: reinforce`"
        )
    freeing = [term.name for term in it.of("terms") if term.info.frees_tokens]
    if freeing and ratio.info.clips_freed_tokens:
        yield f"`{freeing[0]}` frees its tokens from PPO's clip, and `ratio: {ratio.name}` has none: take `ratio: ppo`"


def _two_kinds_of_entropy(it: ResolvedObjective) -> Iterator[str]:
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
        yield (
            f"`{nuclei[0]}` reads entropies over a nucleus and `{readers[0]}` over all tokens; a run has one of them: "
            "leave one part out"
        )


def clashes(every: Sequence[ResolvedObjective]) -> Iterator[str]:
    """Say what objectives cannot read of one pass: entropies of two kinds, log-probs after two filters."""
    made = [part for it in every for module, own in it.parts if isinstance(part := module.create(own), Part)]
    nuclei = {part.nucleus for part in made if part.needs & ENTROPIES}
    if len(nuclei) > 1:
        masses = sorted("all" if mass is None else f"{mass:g}" for mass in nuclei)
        yield (
            f"objectives of two environments read entropies over other shares of the vocabulary ({', '.join(masses)}), "
            "and a run has one of them: leave out the part that reads a nucleus, or have all read the same"
        )
    if len(kappas := {part.kappa for part in made if part.kappa is not None}) > 1:
        yield f"objectives of two environments filter tokens by {sorted(kappas)}, and a run has one filter: say one"


def _subtracts_after_a_weight(it: ResolvedObjective) -> Iterator[str]:
    """What subtracts from the advantage must see it in its own unit."""
    for shaper in it.of("shapers")[1:]:
        if shaper.info.subtracts:
            yield f"`{shaper.name}` subtracts from the advantage, so it comes before all other shapers: put it first"


def _plans_at_odds(it: ResolvedObjective) -> Iterator[str]:
    if it.dropping and not it.estimator.info.compares_groups:
        yield (
            f"`{it.dropping[0]}` drops groups without spread, and `estimator: {it.estimator.name}` does not compare "
            "inside groups: take one that does (rloo, grpo), or leave the plan out"
        )
    plans: dict[str, str] = {}
    for part in it.of("plans"):
        other = plans.setdefault(part.info.plan or part.name, part.name)
        if other != part.name:
            yield f"the plans `{other}` and `{part.name}` decide the same thing: keep one of them"


def _fixed_push(it: ResolvedObjective) -> Iterator[str]:
    """The first force on entropy that nothing lowers; a schedule does not look."""
    steered = {knob for knob, _, _, controller in it.controlled if controller.has_target}
    for strength, part in it.strengths.items():
        value = it.options[strength]
        if part.info.pushes_entropy and strength not in steered and value != 0:
            yield (
                f"`{strength}: {value:g}` is fixed: nothing can lower it. Measured with REPO, a fixed strength "
                "destroyed the policy on tasks of several tokens (entropy at its ceiling, accuracy 0 within 50 steps): "
                "most groups have no spread there, and nothing opposes the push. Give it a controller, such as "
                "`geometric`, unless that is what you study."
            )
            return


def _misread_entropy(it: ResolvedObjective) -> Iterator[str]:
    """A reading that moves without any change in the policy, or of rows that were kept for their scores."""
    if it.controllers and it.reading == "raw":
        yield (
            "`reading: raw` moves with the mix of tasks, so that the controller chases the bandit. It is there to "
            "reproduce papers."
        )
    if it.controllers and it.entropy == "surprisal_iw" and it.dropping:
        yield (
            f"`entropy: surprisal_iw` is read from the rows of the update, and `{it.dropping[0]}` chooses them by "
            "score: the reading is not the policy's. Take `entropy: sampler` or `surprisal`, which read all that was "
            "played."
        )


def _drops_groups_it_learns_from(it: ResolvedObjective) -> Iterator[str]:
    if it.dropping and it.estimator.info.learns_from_even_groups:
        yield (
            f"`estimator: {it.estimator.name}` learns from groups without spread, and `{it.dropping[0]}` drops them: "
            "leave the plan out."
        )


def _one_ratio_for_a_sequence(it: ResolvedObjective) -> Iterator[str]:
    if it.ratio.info.is_of_sequences and not it.aggregation.info.weighs_sequences_alike:
        yield (
            f"`ratio: {it.ratio.name}` is a loss of sequences: with `aggregation: {it.aggregation.name}` long answers "
            "count more. Take `aggregation: seq_mean_token_mean`."
        )


def _stale(it: ResolvedObjective, updates: int) -> Iterator[str]:
    if updates == 1 or any(term.info.holds for term in it.of("terms")):
        return
    if it.ratio.info.stale_samples == "ignored":
        yield (
            f"`ratio: {it.ratio.name}` with {updates} updates a step: later updates take stale samples for fresh "
            "ones. Take `ratio: ppo`, or one update."
        )
    if it.ratio.info.stale_samples == "weighed":
        yield (
            f"`ratio: {it.ratio.name}` with {updates} updates a step: nothing holds the policy near the start of the "
            "step. Take `ratio: ppo`, one update, or a term that does (`kl_cov`, `disco_constraint`)."
        )


def _idle(it: ResolvedObjective, updates: int) -> Iterator[str]:
    """With one update a step every ratio to the start of the step is 1, inside of any clip."""
    if updates > 1:
        return
    if idle := [part.name for part, _ in it.parts if part.info.idle_at_one_update]:
        yield (
            f"`{idle[0]}` does nothing with one update a step, where every ratio is 1: say `updates: 4`, or leave it "
            "out"
        )
    moved = [knob for knob, part, _, _ in it.controlled if part.kind == "ratio_rules"]
    if moved and it.ratio.info.anchor != "lp_roll":
        yield (
            f"the controller moves `{moved[0]}`, which does nothing with one update a step, where every ratio is 1: "
            "say `updates: 4`, or steer with a shaper (`repo_r`)"
        )


REFUSED = (
    _named_twice,
    _called_alike,
    _constant_without_a_length,
    _crowd_of_controllers,
    _reads_tempered_rows,
    _steers_the_wrong_way,
    _goes_beyond_the_option,
    _one_strength_for_all,
    _mismatch_counted_twice,
    _parts_that_belong_together,
    _two_kinds_of_entropy,
    _subtracts_after_a_weight,
    _plans_at_odds,
)
WARNED = (_fixed_push, _misread_entropy, _drops_groups_it_learns_from)
WARNED_BY_UPDATES = (_stale, _idle)
