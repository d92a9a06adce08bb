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
    Metric("passed_over", "train", "tasks", -1, "tasks left out while the batch was drawn: too long, or unreadable",
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
    Metric("repeated_frac", "train", "fraction", -1, "share of a sample's runs of four tokens that stand in it "
           "before, mean over samples; only where a guard reads it", "rises while reward does: answers repeat"),
    Metric("truncated_frac", "train", "fraction", -1, "samples cut off by a limit of tokens or turns", "above half"),
    Metric("num_turns", "train", "turns", 0, "mean turns of an episode, where there is more than one",
           "always the most: episodes do not end by themselves"),
    Metric("entropy_token", "train", "nats", 0, "mean entropy at the tokens that were written, of what they were "
           "drawn from: the policy at the sampling temperature", "below .05: collapsed; far above its start: diverging",
           _ENTROPY),
    Metric("entropy_reading", "train", "ratio", 0, "entropy over H0, corrected for the mix; what controllers read",
           "far from target for long"),
    Metric("entropy_reading_nats", "train", "nats", 0, "the same in nats: mean of the categories seen so far",
           "far from target for long, where targets are in nats", _ENTROPY),
    Metric("entropy_reading_raw", "train", "ratio", 0, "entropy over H0 before the mix is corrected",
           "moves where the corrected one does not: that is the bandit, not the policy"),
    # the update
    Metric("loss", "train", "nats", 0, "-(W lp) - (K H), summed: what is differentiated; mean over the step's updates",
           "not finite"),
    Metric("loss_value", "train", "nats", 0, "the objective's conventional loss, as other libraries tell it; mean "
           "over the step's updates; with `objective.by` of each environment", "not comparable between objectives"),
    Metric("grad_norm", "train", "norm", 0, "gradient norm before clipping, mean over the step's updates",
           "spikes, or always above the clip"),
    Metric("lr", "train", "per update", 0, "learning rate of the last update", "not what the spec says"),
    Metric("clip_frac", "train", "fraction", 0, "tokens whose ratio was clipped", "above .3"),
    Metric("clip_high_frac", "train", "fraction", 0, "good tokens held back from rising further",
           "far from clip_low_frac: one side alone is held"),
    Metric("clip_low_frac", "train", "fraction", 0, "bad tokens held back: from falling further, or by a dual clip",
           "far from clip_high_frac: one side alone is held"),
    Metric("force", "train", "fraction", 0, "share of the L1 norms that make up W: force_<part>, one for each",
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
    Metric("skipped_updates", "train", "updates", -1, "updates left out: not finite, or against a guard", "any"),
    Metric("coefficient", "train", "weight", 0, "strength of the force on entropy, set by the controller; with `band` "
           "that of each environment, and their mean", "stuck at an end of its range"),
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
    # of the network at boundaries, layer by layer and as a whole: `measure: network`
    Metric("entropy_fixed", "measure", "nats", 0, "mean token entropy on frozen answers, T = 1",
           "far below its start: the policy has sharpened at the same states", _ENTROPY),
    Metric("kl_base", "measure", "nats", -1, "KL of the first measured policy from this one, on frozen answers",
           "grows where nothing is learnt: what came before is being forgotten"),
    Metric("kl_prev", "measure", "nats", -1, "the same of the policy that was measured last",
           "large on environments that the stage did not train"),
    Metric("flip_base", "measure", "fraction", -1, "frozen tokens where another is the likeliest than at first",
           "grows on environments that the stage did not train"),
    Metric("flip_prev", "measure", "fraction", -1, "the same against the policy that was measured last",
           "large on environments that the stage did not train"),
    Metric("dormant_0.025", "measure", "fraction", -1, "MLP units at most .025 as active as their layer's mean",
           "grows; 0 is no evidence of health: smooth units are hardly ever silent"),
    Metric("dormant_0.1", "measure", "fraction", -1, "MLP units at most .1 as active as their layer's mean",
           "grows; 0 is no evidence of health"),
    Metric("dormant_functional_0.025", "measure", "fraction", -1,
           "the same of activity times the norm of the weights that read it", "above dormant_0.025: unread units"),
    Metric("dormant_functional_0.1", "measure", "fraction", -1,
           "the same of activity times the norm of the weights that read it", "above dormant_0.1: unread units"),
    Metric("log_activation_q01", "measure", "nats", 1, "log of MLP units' activity over their layer's, quantile .01",
           "falls: some units fall silent, long before any is dormant"),
    Metric("log_activation_q05", "measure", "nats", 1, "the same, quantile .05", "falls"),
    Metric("log_activation_q50", "measure", "nats", 1, "the same, median", "falls: few units carry the layer"),
    Metric("rank_rows", "measure", "prompts", 0, "prompts whose features the ranks are of",
           "another number than before: ranks do not compare"),
    Metric("erank", "measure", "rank", 1, "effective rank of the prompts' last hidden states", "falls"),
    Metric("stable_rank", "measure", "rank", 1, "their variance over that of the largest direction", "falls"),
    Metric("srank", "measure", "rank", 1, "directions that make up .99 of the singular values", "falls"),
    Metric("approx_rank", "measure", "rank", 1, "directions that make up .99 of the variance", "falls"),
    Metric("participation", "measure", "rank", 1, "participation ratio of the variances", "falls"),
    Metric("erank_centred", "measure", "rank", 1, "effective rank, columns centred", "falls"),
    Metric("stable_rank_centred", "measure", "rank", 1, "stable rank, columns centred", "falls"),
    Metric("srank_centred", "measure", "rank", 1, "srank, columns centred", "falls"),
    Metric("approx_rank_centred", "measure", "rank", 1, "approximate rank, columns centred", "falls"),
    Metric("participation_centred", "measure", "rank", 1, "participation ratio, columns centred", "falls"),
    Metric("weight_norm", "measure", "norm", 0, "norm of the matrices, without embeddings and head",
           "grows without end: the effective learning rate falls"),
    Metric("weight_norm_embedding", "measure", "norm", 0, "norm of embeddings and head", "grows without end"),
    Metric("weight_norm_vector", "measure", "norm", 0, "norm of norms and biases", "grows without end"),
    Metric("weight_dist_base", "measure", "norm", 0, "distance of the matrices to those at the start", "spikes"),
    Metric("weight_dist_rel_base", "measure", "ratio", 0, "that distance over their norm at the start", "spikes"),
    Metric("weight_dist_rel_base_embedding", "measure", "ratio", 0, "the same of embeddings and head", "spikes"),
    Metric("weight_dist_rel_base_vector", "measure", "ratio", 0, "the same of norms and biases", "spikes"),
    Metric("weight_cos_base", "measure", "cosine", 0, "cosine of the matrices with those at the start", "falls fast"),
    Metric("weight_dist_prev", "measure", "norm", 0, "distance of the matrices to those measured last", "spikes"),
    Metric("weight_dist_rel_prev", "measure", "ratio", 0, "that distance over their norm then",
           "near 0: the stage moved nothing"),
    Metric("weight_dist_rel_prev_embedding", "measure", "ratio", 0, "the same of embeddings and head", "spikes"),
    Metric("weight_dist_rel_prev_vector", "measure", "ratio", 0, "the same of norms and biases", "spikes"),
    Metric("weight_cos_prev", "measure", "cosine", 0, "cosine of the matrices with those measured last", "falls fast"),
    # between environments at boundaries: `measure: gradients`
    Metric("gradient_norm", "measure", "norm", 0, "norm of the policy gradient on the evaluation's samples",
           "near 0: nothing to learn there, or nothing to learn from"),
    Metric("gradient_split_half", "measure", "cosine", 1, "cosine of two halves of its tasks, by category",
           "near 0: too few samples, and cosines with others say nothing"),
    Metric("gradient_noise", "measure", "ratio", -1, "trace of the covariance of its parts over their mean, squared",
           "far above 1: the mean gradient is mostly noise"),
    Metric("gradient_diversity_erank", "measure", "rank", 0, "effective rank of the cosines between environments",
           "near 1: all pull alike; near gradient_environments: unrelated"),
    Metric("gradient_environments", "measure", "environments", 0, "environments with a gradient, which are compared",
           "another number than before: gradient_diversity_erank does not compare"),
    Metric("cosine", "measure", "cosine", 0, "of the policy gradients with another environment's: cosine_<its name>",
           "below 0: conflict"),
    # what the evaluation's samples say more: measure samples (store/answers.py, store/support.py)
    Metric("pass", "measure", "fraction", 1, "chance that at least one of k samples is correct: pass_<k>",
           "falls while pass_1 rises: support is lost", _ACCURACY),
    Metric("maj", "measure", "fraction", 1, "chance that the most frequent answer of k samples is correct: maj_<k>",
           "below pass_1: what is given most often is wrong", _ACCURACY),
    Metric("entropy_answer", "measure", "nats", 0, "entropy of the answers to a task, from their shares: biased low",
           "falls while entropy_token stays: only the wording still varies", _ENTROPY),
    Metric("entropy_answer_corrected", "measure", "nats", 0, "the same with Miller's and Madow's correction",
           "see entropy_answer", _ENTROPY),
    Metric("entropy_answer_wrong", "measure", "nats", 0, "entropy of the wrong answers alone, where there are any",
           "near 0: always the same mistake"),
    Metric("entropy_answer_right", "measure", "nats", 0, "entropy of the correct answers alone, where there are any",
           "falls where a task has many right answers: only one is left"),
    Metric("effective_answers", "measure", "answers", 0, "exp of the entropy of a task's answers, mean over tasks",
           "near 1: every sample says the same"),
    Metric("answer_disagreement", "measure", "fraction", 0, "chance that two samples of a task differ in their answer",
           "near 0: every sample says the same"),
    Metric("answerless_frac", "measure", "fraction", -1, "samples without an answer: cut off, or nothing to be read",
           "above half"),
    Metric("distinct", "measure", "fraction", 0, "share of different n-grams of tokens among a task's responses: "
           "distinct_<n>; the mean over n without a number", "falls: responses repeat each other, or grow longer"),
    Metric("support", "measure", "fraction", 0, "tasks with a correct sample now and at a reference: support_<what>_"
           "<against>, where what is kept, found, harmonic, net, surely_lost, surely_found; against base, previous, "
           "or halves: one boundary's samples against each other", "kept well below that of halves: tasks are lost"),
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
    Metric("probe_score", "measure", "fraction", 1, "probe: share of samples correct; linear: balanced accuracy over "
           "chance, which is 1 / the number of classes", "gains less than the base's", _ACCURACY),
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
    Metric("tokens_per_s_update", "time", "tokens/s", 1, "tokens that the policy wrote over the time of the update",
           "falls: longer prompts, or more rows with an advantage"),
)
# fmt: on

# What the evaluation tells of every environment at every boundary, whatever else a spec measures.
EVALUATED = ("pass_1", "value", "pass_4", "truncated_frac", "entropy_token")
INTERIM = "eval_"  # before the name of what is measured at boundaries, where it was measured inside a stage
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
# Of these there are many: force_<part of the objective>, part_<what it calls it>, own_<what a measurement says>,
# cosine_<environment>, and those of samples.
FAMILIES = ("force", "part", "own", "cosine", "pass", "maj", "distinct", "support")
NUMBERED = ("pass", "maj", "distinct")  # of these a member is a number: pass_8


def metric(name: str) -> Metric:
    """Look a metric up. Raises `UnknownMetric` with the nearest name."""
    if name in METRICS:
        return METRICS[name]
    family, _, member = name.partition("_")
    is_member = member.isdigit() if family in NUMBERED else member and family in FAMILIES
    if is_member:
        return replace(METRICS[family], name=name)
    hint = did_you_mean(name, METRICS)
    raise UnknownMetric(f"There is no metric {name!r}.{hint} A new one is a line in store/metrics.py.")
