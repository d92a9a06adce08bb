"""Combinations without sense: what is refused when a spec is read, and what is allowed and usually a mistake.

A rule is a function from the resolved section to a sentence that says what is wrong and what to change, or to None.
What depends on more than the objective (the sampler, the learner) is asked in `orchestrator/spec`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

from policies.objectives import control_compatibility, registry

if TYPE_CHECKING:
    from policies.objectives.config import ObjectiveConfig

Rule: TypeAlias = "Callable[[ObjectiveConfig], str | None]"
UpdateRule: TypeAlias = "Callable[[ObjectiveConfig, int], str | None]"  # and with how many updates a step


def refusals(config: ObjectiveConfig) -> Iterator[str]:
    """Say what cannot work."""
    return (found for rule in REFUSED if (found := rule(config)))


def warnings(config: ObjectiveConfig, updates: int) -> list[str]:
    """List what is allowed and usually a mistake, one sentence each, with so many updates a step."""
    found = [rule(config) for rule in WARNED] + [rule(config, updates) for rule in WARNED_BY_UPDATES]
    return [text for text in found if text]


def _named_twice(config: ObjectiveConfig) -> str | None:
    twice = [part for part, count in Counter(config.parts()).items() if count > 1]
    return f"`{twice[0][1]}` is named twice in `{twice[0][0]}`: once is enough" if twice else None


def _constant_without_a_length(config: ObjectiveConfig) -> str | None:
    if config.aggregation == "constant" and config.max_length is None:
        return "`aggregation: constant` needs `max_length`, usually the sampler's `max_tokens`"
    return None


def mismatch_ratios(config: ObjectiveConfig) -> list[str]:
    """The mismatch weights that are ratios and on; the others are masks."""
    is_off = config.options.get("tis_cap", ...) is None
    return [name for name in config.mismatch if name in RATIOS and not (name == "tis" and is_off)]


def _mismatch_counted_twice(config: ObjectiveConfig) -> str | None:
    weights = mismatch_ratios(config)
    if config.anchor == "lp_roll" and weights:
        return (
            f"`ratio: {config.ratio}` compares with the sampler's log-probs already, so `mismatch: {weights[0]}` would "
            "count the mismatch twice: say `mismatch: none`, or take a mask (geo_mask, off_policy_mask)"
        )
    if len(weights) > 1:
        return (
            f"{' and '.join(f'`{name}`' for name in weights)} count the same mismatch twice: keep one of them"
        )
    return None


def _parts_that_belong_together(config: ObjectiveConfig) -> str | None:
    if config.ratio == "hapo" and "hapo" not in config.shapers:
        return "`ratio: hapo` reads the scores that `shaper: hapo` gives tokens: add it, or take `ratio: ppo`"
    if "disco" in config.shapers and config.ratio == "ratio":
        return (
            "`shaper: disco` weighs wrong answers by their mean log-prob, and with `ratio: ratio` the score is the "
            "mean ratio, equal for all at the start of the step: say `shapers: []`, or `ratio: reinforce`"
        )
    if "lp_reg" in config.terms and config.ratio not in ("ppo", "ratio", "reinforce"):
        return f"`lp_reg` frees its tokens from PPO's clip, and `ratio: {config.ratio}` has none: take `ratio: ppo`"
    return None


def _two_kinds_of_entropy(config: ObjectiveConfig) -> str | None:
    """A part that reads the entropy of a nucleus makes it the entropy of all parts."""
    read = {name: method.create(config.options_of(method)) for name, method in _acting(config)}
    nuclei = [name for name, part in read.items() if getattr(part, "nucleus", None) is not None]
    readers = [
        name
        for name, part in read.items()
        if {"entropy", "entropy_grad", "old_entropy"} & getattr(part, "needs", frozenset())
        and name not in nuclei
    ]
    if nuclei and readers:
        return (
            f"`{nuclei[0]}` reads entropies over a nucleus and `{readers[0]}` over all tokens; a run has one of them: "
            "leave one part out"
        )
    return None


def _acting(config: ObjectiveConfig) -> list[tuple[str, ModuleType]]:
    """The parts that fill W and K."""
    kinds = ("shapers", "mismatch_weights", "ratio_rules", "terms")
    return [(f"{kind}/{name}", registry.load(kind, name)) for kind, name in config.parts() if kind in kinds]


def _subtracts_after_a_weight(config: ObjectiveConfig) -> str | None:
    """What subtracts from the advantage must see it in its own unit."""
    late = [
        name for name in config.shapers[1:] if getattr(registry.load("shapers", name), "SUBTRACTS", False)
    ]
    if late:
        return f"`{late[0]}` subtracts from the advantage, so it comes before all other shapers: put it first"
    return None


def _drops_groups_it_has_none_of(config: ObjectiveConfig) -> str | None:
    estimator = registry.load("estimators", config.estimator)
    if "dynamic_sampling" in config.plans and getattr(estimator, "NO_GROUPS", False):
        return (
            f"`dynamic_sampling` drops groups without spread, and `estimator: {config.estimator}` does not compare "
            "inside groups: take one that does (rloo, grpo), or leave the plan out"
        )
    return None


def _drops_groups_it_learns_from(config: ObjectiveConfig) -> str | None:
    estimator = registry.load("estimators", config.estimator)
    if "dynamic_sampling" in config.plans and getattr(estimator, "USES_EVEN_GROUPS", False):
        return (
            f"`estimator: {config.estimator}` learns from groups without spread, and `dynamic_sampling` drops them: "
            "leave the plan out."
        )
    return None


def _two_clip_ranges(config: ObjectiveConfig) -> str | None:
    """HAPO's released code has one range, for the bounds and for what counts as inside of them."""
    options = config.options
    if config.ratio == "hapo" and any(
        options[f"clip_{side}"] != options.get(f"hapo_{side}", options[f"clip_{side}"])
        for side in ("low", "high")
    ):
        return "`clip_low, clip_high` and `hapo_low, hapo_high` are one range in HAPO: change both, or none."
    return None


def _penalises_many_tokens(config: ObjectiveConfig) -> str | None:
    if "kl_cov" not in config.terms:
        return None
    told: str | None = registry.load("terms", "kl_cov").warning(config.options["kl_cov_fraction"])
    return told


def _one_ratio_for_a_sequence(config: ObjectiveConfig) -> str | None:
    if config.ratio == "gspo" and config.aggregation != "seq_mean_token_mean":
        return (
            f"`ratio: gspo` is a loss of sequences: with `aggregation: {config.aggregation}` long answers count more. "
            "Take `aggregation: seq_mean_token_mean`."
        )
    return None


def _stale(config: ObjectiveConfig, updates: int) -> str | None:
    is_held = any(getattr(registry.load("terms", name), "HOLDS", False) for name in config.terms)
    if updates == 1 or is_held:
        return None
    if config.ratio == "reinforce":
        return (
            f"`ratio: reinforce` with {updates} updates a step: later updates take stale samples for fresh "
            "ones. Take `ratio: ppo`, or one update."
        )
    if config.ratio == "ratio":
        return (
            f"`ratio: ratio` with {updates} updates a step: nothing holds the policy near the start of the step. Take "
            "`ratio: ppo`, one update, or a term that does (`kl_cov`, `disco_constraint`)."
        )
    return None


def _idle(config: ObjectiveConfig, updates: int) -> str | None:
    """Say which parts do nothing with so many updates a step: at one, every ratio to the start of the step is 1."""
    modules = {name: registry.load(kind, name) for kind, name in config.parts()}
    idle = [name for name, module in modules.items() if _idles(module)]
    if updates > 1 or not idle:
        return None
    return f"`{idle[0]}` does nothing with one update a step, where every ratio is 1: say `updates: 4`, or leave it out"


def _idles(module: ModuleType) -> bool:
    return bool(getattr(module, "IDLE_AT_ONE", False))


RATIOS = (
    "tis",
    "icepop",
    "seq_tis",
    "seq_mask",
)  # the mismatch weights that are ratios; the others are masks
REFUSED: tuple[Rule, ...] = (
    _named_twice,
    _constant_without_a_length,
    control_compatibility.two_controllers_on_one_knob,
    control_compatibility.more_controllers_than_are_logged,
    control_compatibility.reads_tempered_rows,
    control_compatibility.steers_the_wrong_way,
    control_compatibility.goes_beyond_the_option,
    _mismatch_counted_twice,
    _parts_that_belong_together,
    _two_kinds_of_entropy,
    _subtracts_after_a_weight,
    _drops_groups_it_has_none_of,
)
WARNED: tuple[Rule, ...] = (
    control_compatibility.fixed_push,
    control_compatibility.raw_reading,
    control_compatibility.reads_chosen_rows,
    _drops_groups_it_learns_from,
    _two_clip_ranges,
    _penalises_many_tokens,
    _one_ratio_for_a_sequence,
)
WARNED_BY_UPDATES: tuple[UpdateRule, ...] = (_stale, _idle, control_compatibility.moves_an_idle_clip)
