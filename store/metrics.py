"""Every number that Evergreen records: one line each. An unknown name is refused.

The same name is used for the value over everything, for an environment and for a category, in training and at
boundaries: where it was measured is said by the row, not by the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from store.errors import UnknownMetric, did_you_mean

Group = Literal["train", "measure", "time"]


@dataclass(frozen=True)
class Metric:
    """What a number means."""

    name: str
    group: Group  # "time" is left out of both digests
    unit: str
    direction: Literal[-1, 0, 1]  # lower is better, no good direction, higher is better
    meaning: str
    unhealthy: str
    ratio_floor: float | None = None  # below it a ratio to this value is undefined; None: no ratios at all


_ACCURACY, _ENTROPY = 0.02, 0.05  # floors of ratios: fractions, nats

# fmt: off
_ALL = (
    # what was earned
    Metric("reward", "train", "fraction", 1, "mean value of the scored samples",
           "flat while accuracy moves", _ACCURACY),
    Metric("accuracy", "train", "fraction", 1, "share of scored samples that are correct",
           "falls for many steps", _ACCURACY),
    Metric("signal", "train", "value", 0, "mean reward the bandits were given",
           "zero: nothing left to learn, or all out of reach"),
    Metric("num_unscorable", "train", "samples", -1, "samples whose score could not be found", "more than a few"),
    Metric("zero_var_groups", "train", "fraction", -1, "groups whose samples all got the same value",
           "above .9: hardly any gradient"),
    # what was drawn
    Metric("passed_over", "train", "tasks", -1, "tasks left out while the batch was drawn: their prompts are too long",
           "as many as are played: most of an environment is out of reach"),
    # what the data plans made of the batch
    Metric("generation_rounds", "train", "rounds", -1, "rounds of generation until all groups had spread, or no more",
           "always the most: nearly all is solved or out of reach"),
    Metric("groups_generated", "train", "groups", -1, "groups played, those among them that were left out",
           "many times groups_kept: playing is wasted"),
    Metric("groups_kept", "train", "groups", 1, "groups that the update was made of",
           "below the batch's size; its shares are far from those chosen"),
    Metric("smallest_group", "train", "samples", 0, "samples of the task that got the fewest",
           "always the pilot alone"),
    Metric("largest_group", "train", "samples", 0, "samples of the task that got the most",
           "most of the batch: one task takes it all"),
    Metric("tempered_rows", "train", "rows", 0, "correct samples at another temperature that were learned from",
           "zero: the side batch pulls at nothing"),
    Metric("tempered_temperature", "train", "temperature", 0, "at which the side batch was played",
           "stuck at an end of its range"),
    # what was written
    Metric("response_len", "train", "tokens", 0, "mean tokens the policy wrote in a sample", "runs to the limit"),
    Metric("truncated_frac", "train", "fraction", -1, "samples cut off by a limit of tokens or turns", "above half"),
    Metric("num_turns", "train", "turns", 0, "mean turns of an episode, where there is more than one",
           "always the most: episodes do not end by themselves"),
    Metric("entropy_token", "train", "nats", 0, "mean entropy of the policy at the tokens it wrote, T = 1",
           "below .05: collapsed; far above its start: diverging", _ENTROPY),
    Metric("entropy_reading", "train", "ratio", 0, "entropy over H0, corrected for the mix; what controllers read",
           "far from target for long"),
    Metric("entropy_reading_nats", "train", "nats", 0, "the same in nats: mean of the categories seen so far",
           "far from target for long, where targets are in nats", _ENTROPY),
    Metric("entropy_reading_raw", "train", "ratio", 0, "entropy over H0 before the mix is corrected",
           "moves where the corrected one does not: that is the bandit, not the policy"),
    # the update
    Metric("loss", "train", "nats", 0, "the loss of the step's last update; not comparable between objectives",
           "not finite"),
    Metric("grad_norm", "train", "norm", 0, "gradient norm before clipping", "spikes, or always above the clip"),
    Metric("lr", "train", "per update", 0, "learning rate of the last update", "not what the spec says"),
    Metric("clip_frac", "train", "fraction", 0, "tokens whose ratio was clipped", "above .3"),
    Metric("clip_high_frac", "train", "fraction", 0, "good tokens held back from rising further",
           "far from clip_low_frac: one side alone is held"),
    Metric("clip_low_frac", "train", "fraction", 0, "bad tokens held back: from falling further, or by a dual clip",
           "far from clip_high_frac: one side alone is held"),
    Metric("force", "train", "fraction", 0, "share of W's L1 norm that a part makes up: force_<part>, one for each",
           "a term or shaper near 1: it drives the update"),
    Metric("part", "train", "its own", 0, "what a part of the objective tells: part_<its name for it>, see `methods`",
           "see the part"),
    Metric("covariance", "train", "value x nats", 0, "covariance of advantage and log-prob: what costs entropy",
           "large and positive: entropy is about to fall"),
    Metric("kl_ref", "train", "nats", 0, "KL to the reference, mean of the estimate that is penalised",
           "grows without end: the coefficient is too small to hold"),
    Metric("advantage_abs", "train", "value", 0, "mean absolute advantage that reached the objective", "zero"),
    Metric("rows_run_frac", "train", "fraction", 0, "rows that the update ran; the others cannot move the policy",
           "near 0: hardly any gradient"),
    Metric("skipped_updates", "train", "updates", -1, "updates left out because something was not finite", "any"),
    Metric("coefficient", "train", "weight", 0, "strength of the force on entropy, set by the controller",
           "stuck at an end of its range"),
    Metric("coefficient_at_bound", "train", "fraction", -1, "whether that strength stood at an end of its range",
           "always 1: the controller has no room left"),
    Metric("entropy_target", "train", "ratio", 0, "what the controller steers the entropy reading to, or that in nats",
           "unreachable"),
    Metric("control_target", "train", "value", 0, "what a controller of something else than entropy steers it to",
           "unreachable"),
    Metric("coefficient_2", "train", "weight", 0, "strength that a second controller sets",
           "stuck at an end of its range"),
    Metric("coefficient_at_bound_2", "train", "fraction", -1, "whether that strength stood at an end of its range",
           "always 1: the controller has no room left"),
    Metric("entropy_target_2", "train", "ratio", 0, "what the second controller steers the entropy reading to",
           "unreachable"),
    Metric("control_target_2", "train", "value", 0, "what the second controller steers something else than entropy to",
           "unreachable"),
    # sampler against learner
    Metric("versions_behind", "train", "versions", 0, "age of the weights that wrote the batch, mean over its tokens",
           "other than what `ahead` says"),
    Metric("sampler_gap_mean", "train", "nats", -1, "mean absolute difference of log-probs to the learner, of rows run",
           "above .01"),
    Metric("sampler_gap_max", "train", "nats", -1, "largest such difference", "above 1"),
    Metric("sampler_kl", "train", "nats", -1, "KL of learner from sampler, mean of exp(d) - d - 1", "above .01"),
    Metric("effective_samples", "train", "fraction", 1, "mismatch weights w: (mean w)^2 / mean w^2 over tokens",
           "below .9: few tokens carry the update"),
    Metric("tis_weight_mean", "train", "ratio", 0, "mean importance weight, learner to sampler", "away from 1"),
    Metric("tis_weight_max", "train", "ratio", -1, "largest importance weight, at most the cap", "at the cap"),
    Metric("tis_capped_frac", "train", "fraction", -1, "tokens whose importance weight was capped", "above .01"),
    # measured at boundaries
    Metric("own", "measure", "its own", 0, "what a measurement of the user's own tells: own_<its name for it>",
           "see the measurement"),
    Metric("value", "measure", "fraction", 1, "mean value of the evaluated samples",
           "falls on environments seen before", _ACCURACY),
    Metric("pass_1", "measure", "fraction", 1, "chance that one sample is correct",
           "falls on environments seen before", _ACCURACY),
    Metric("pass_4", "measure", "fraction", 1, "chance that at least one of four samples is correct",
           "falls while pass_1 rises: support is lost", _ACCURACY),
    Metric("greedy_accuracy", "measure", "fraction", 1, "share correct when the most likely token is always taken",
           "far from pass_1", _ACCURACY),
    # the same inside a stage, of the environments that are evaluated there: `evaluate.every`
    Metric("eval_pass_1", "measure", "fraction", 1, "inside a stage: chance that one sample is correct",
           "falls while the training's accuracy rises: its tasks are learnt by heart", _ACCURACY),
    Metric("eval_pass_4", "measure", "fraction", 1, "inside a stage: chance that at least one of four is correct",
           "falls while eval_pass_1 rises: support is lost", _ACCURACY),
    Metric("eval_value", "measure", "fraction", 1, "inside a stage: mean value of the evaluated samples",
           "flat while the training's reward moves", _ACCURACY),
    Metric("eval_greedy_accuracy", "measure", "fraction", 1, "inside a stage: share correct when greedy",
           "far from eval_pass_1", _ACCURACY),
    Metric("eval_entropy_token", "measure", "nats", 0, "inside a stage: mean entropy at the tokens written, T = 1",
           "below .05: collapsed; far above its start: diverging", _ENTROPY),
    Metric("eval_truncated_frac", "measure", "fraction", -1, "inside a stage: evaluated samples that were cut off",
           "above half"),
    # of a probe's copy, along its steps
    Metric("probe_score", "measure", "fraction", 1, "probe: share of samples correct; linear: accuracy over chance",
           "gains less than the base's", _ACCURACY),
    Metric("probe_score_middle", "measure", "fraction", 1, "linear probe: the same at the middle layer",
           "falls: information is lost", _ACCURACY),
    Metric("probe_loss", "measure", "nats", -1, "probe: mean loss of the tokens to predict",
           "falls less than the base's", _ENTROPY),
    Metric("probe_entropy", "measure", "nats", 0, "probe: mean entropy of the copy where it is looked at",
           "below .05: it no longer tries", _ENTROPY),
    Metric("probe_zero_var_groups", "measure", "fraction", -1, "probe: groups whose samples all earned the same",
           "above .5: there is hardly any gradient, whatever the policy could learn"),
    Metric("probe_grad_norm", "measure", "norm", 0, "probe: gradient norm of the copy before clipping",
           "near zero: nothing moves it"),
    # time
    Metric("seconds_draw", "time", "s", -1, "choosing arms and drawing tasks", "noticeable"),
    Metric("seconds_play", "time", "s", -1, "generating", "grows with the step"),
    Metric("seconds_score", "time", "s", -1, "scoring, beyond what playing hid", "above seconds_play"),
    Metric("seconds_wait", "time", "s", -1, "waiting for the batch that is played beside the update",
           "above seconds_update: playing is the bottleneck"),
    Metric("seconds_update", "time", "s", -1, "log-probs and updates", "grows with the step"),
    Metric("seconds_other", "time", "s", -1, "the rest of the step: ledger, bandits, checkpoints", "noticeable"),
    Metric("seconds_evaluate", "time", "s", -1, "evaluating inside a stage, no part of the step's time",
           "above the time of the steps between"),
    Metric("tokens_per_s", "time", "tokens/s", 1, "tokens the policy wrote over the time of the step", "falls"),
    Metric("tokens_per_s_play", "time", "tokens/s", 1, "the same over the time of playing; environments add up",
           "falls: longer answers, or a server less"),
    Metric("tokens_fed_per_s", "time", "tokens/s", 1, "tokens that the update fed to the model over its time",
           "falls: smaller micro-batches"),
    Metric("tokens_per_s_update", "time", "tokens/s", 1, "the same over the time of the update",
           "falls: longer prompts, or more rows with an advantage"),
)
# fmt: on

INTERIM = "eval_"  # before the name of what is measured at boundaries, where it was measured inside a stage
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
# Of these there are many: force_<part of the objective>, part_<what it calls it>, own_<what a measurement says>.
FAMILIES = ("force", "part", "own")


def metric(name: str) -> Metric:
    """Look a metric up. Raises `UnknownMetric` with the nearest name."""
    family = name.partition("_")[0]
    if name in METRICS or (family in FAMILIES and name != family):
        return METRICS.get(name) or replace(METRICS[family], name=name)
    hint = did_you_mean(name, METRICS)
    raise UnknownMetric(f"There is no metric {name!r}.{hint} A new one is a line in store/metrics.py.")
