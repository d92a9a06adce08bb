"""Presets whose point is which tokens teach how much: by clips on the ratio, weights and masks, forces on entropy.

At one update a step every ratio is 1 and no clip does anything, so the clips bring their own number of updates. REPO
pushes entropy by the score function, without gradient through the distribution; an entropy term has it.
"""

from __future__ import annotations

from policies.objectives.parts import Preset

CLIPS: dict[str, Preset] = {
    "dapo": Preset(
        "GRPO with clip-higher, the token mean, groups with spread only, and a penalty on overlong answers",
        "arXiv 2503.14476",
        {
            "estimator": "grpo",
            "plans": ["dynamic_sampling"],
            "reward_maps": ["overlong"],
            "clip_low": 0.2,
            "clip_high": 0.28,
            "updates": 4,
        },
        entropy="raises, may explode",
        use="comparison with published runs; long answers of one environment",
        beware="nothing steers the upper clip: users saw entropy past 2 nats, the REPO paper +298 %; and say "
        "`overlong_max_length`, the sampler's `max_tokens`, or no answer is overlong",
    ),
    "gspo": Preset(
        "GRPO with one ratio a sequence, clipped tightly",
        "arXiv 2507.18071",
        {
            "estimator": "grpo",
            "mismatch": "none",
            "ratio": "gspo",
            "aggregation": "seq_mean_token_mean",
            "updates": 4,
        },
        use="long answers, and models whose token ratios are noisy (mixtures of experts)",
        beware="on answers of a few tokens its bounds clip nearly everything: widen `gspo_low` and `gspo_high`",
    ),
    "cispo": Preset(
        "GRPO with a bounded importance weight instead of a clip: every token keeps a gradient",
        "arXiv 2506.13585",
        {"estimator": "grpo", "mismatch": "none", "ratio": "cispo", "updates": 4},
        entropy="slows the fall",
        use="many updates a step, where PPO's clip would stop the rare tokens that matter",
        beware="a high cap leaves W unbounded in practice",
    ),
    "sapo": Preset(
        "GRPO with a smooth gate on the ratio instead of a clip",
        "arXiv 2511.20347",
        {"estimator": "grpo", "ratio": "sapo", "aggregation": "seq_mean_token_mean", "updates": 4},
        entropy="slows the fall",
        use="a softer GSPO or PPO, with nothing dropped at an edge",
        beware="the gate is wide: it holds the policy less than a clip of .2",
    ),
    "dppo": Preset(
        "centred advantages inside a trust region on probabilities, measured to the sampler itself",
        "arXiv 2602.04879",
        {
            "estimator": "dr_grpo",
            "mismatch": "none",
            "ratio": "dppo",
            "terms": ["entropy_bonus", "kl", "squared_log_ratio"],
            "squared_log_ratio": 1e-3,
            "updates": 4,
        },
        entropy="slows the fall",
        use="stale samplers: no pass for lp_old, and no mismatch weight",
        beware="it stands on the sampler's log-probs: they must be of the distribution really sampled from",
    ),
    "ce_gppo": Preset(
        "GRPO that keeps a bounded gradient on clipped tokens, apart for those that rose and those that fell",
        "arXiv 2509.20712",
        {"estimator": "grpo", "ratio": "ce_gppo", "updates": 4},
        entropy="b_hi raises, b_lo lowers",
        use="several updates a step, with two strengths to balance entropy by hand",
        beware="a large `ce_gppo_low` collapses",
    ),
    "adapo": Preset(
        "DAPO whose upper clip follows the entropy; our controller",
        "arXiv 2603.11682",
        {
            "estimator": "grpo",
            "plans": ["dynamic_sampling"],
            "clip_low": 0.2,
            "clip_high": 0.28,
            "controller": {"type": "geometric", "knob": "clip_high", "factor": 1.1, "low": 0.05, "high": 1.0},
            "updates": 4,
        },
        missing="step size and bounds of the upper clip; ours: a factor of 1.1 in [.05, 1]",
        entropy="two-way, controlled",
        use="entropy is to be held by the clip alone, without touching advantages",
        beware="it can only permit entropy, never create it; with one update a step it does nothing",
    ),
    "mai_clip": Preset(
        "GRPO in a wide clip whose upper bound, 2.5 + k times, is stepped by the entropy",
        "MAI-Thinking-1 technical report (2026)",
        {
            "estimator": "grpo",
            "clip_low": 0.6,
            "clip_high": 1.5,
            "ratio_cap": 50.0,
            "controller": {
                **{"type": "sign_step", "knob": "clip_high", "target": 0.3, "target_in": "nats"},
                **{"delta": 0.25, "low": 1.5, "high": 4.0, "tie": "hold"},
            },
            "updates": 4,
        },
        missing="no code read: two descriptions agree; there entropy is estimated with importance weights",
        entropy="two-way, controlled",
        use="many updates a step from far-off samples",
        beware="its target, .3 nat, is one model's: say your own, or `target_in: fraction`",
    ),
}

TOKENS: dict[str, Preset] = {
    "top_entropy": Preset(
        "GRPO that learns from the fifth of tokens with the highest entropy",
        "arXiv 2506.01939",
        {"estimator": "grpo", "shaper": "top_entropy"},
        entropy="holds it up somewhat",
        use="long answers, where few tokens decide",
        beware="it drops four fifths of the signal, and answers of one token with it",
    ),
    "steer": Preset(
        "GRPO with less weight on tokens whose update changes entropy most",
        "arXiv 2510.10150",
        {"estimator": "grpo", "shaper": "steer", "dual_clip": 10.0},
        entropy="slows its change, both ways",
        use="a gentle brake that needs no tuning",
        beware="one outlier sets the scale: `steer_quantile: 0.999` if the weights jump",
    ),
    "erc": Preset(
        "DAPO that leaves out tokens whose entropy moved too far within the step",
        "arXiv 2512.05591",
        {"estimator": "grpo", "shaper": "erc", "plans": ["dynamic_sampling"], "updates": 4},
        entropy="bounds its change a step",
        use="several updates a step, where some tokens run away",
        beware="it does nothing at the first update of a step",
    ),
    "ettrl": Preset(
        "GRPO with more advantage for the surer responses of a group; without tree rollouts and pseudo-labels",
        "arXiv 2508.11356",
        {"estimator": "grpo", "shaper": "entropy_advantage", "clip_high": 0.2},
        missing="no code read; of the method only the advantage",
        entropy="lowers",
        use="comparison",
        beware="it collapses entropy; a response with twice the entropy of its group has its advantage turned round",
    ),
    "hapo": Preset(
        "advantages, weights and bounds of each token by how undecided the policy was there",
        "arXiv 2509.16591",
        {"estimator": "hapo", "shaper": "hapo", "ratio": "hapo", "clip_high": 0.2, "updates": 4},
        missing="its temperature for every next token, which needs a sampler of its own",
        entropy="redistributes, from decided tokens to undecided ones",
        use="long answers that mix routine and decisions",
        beware="many knobs; one token of very small or very large entropy sets the scale",
    ),
}

REPO: dict[str, Preset] = {
    "repo": Preset(
        "RLOO with a push on entropy, also where no group has a signal; our controller",
        "arXiv 2603.11682",
        {"shaper": "repo", "controller": {"type": "geometric"}},
        missing="no official code: two descriptions agree; the controller is ours",
        entropy="raises, controlled; a strength below 0 lowers",
        use="entropy has to come back even where everything is solved",
        beware="a fixed strength acts on groups without a signal too, and can destroy the policy",
    ),
    "repo_adaptive": Preset(
        "REPO that keeps each environment's entropy in a band: a share of the signal inside, more below, none above",
        "arXiv 2603.11682; controller ours",
        {
            "shaper": "repo",
            "per": "response",
            "strength": 0.02,
            "reading": "recent",
            "controller": {"type": "band"},
        },
        missing="REPO has no official code; the rule is ours, measured on books and words of a small policy only",
        entropy="raises, controlled",
        use="the default: stages of different tasks, without a strength to tune",
        beware="it keeps the next task learnable, not the entropy at its start; large policies are untried",
    ),
    "repo_d": Preset(
        "RLOO with a push against the entropy change that a step is about to cause; our controller",
        "arXiv 2603.11682",
        {"shaper": "repo_d", "controller": {"type": "geometric"}},
        missing="the exact definition of the entropy change is our reading, and so is that a positive zeta of at most "
        ".1 is moved (the paper: either sign, up to 10, by the rule of REPO-R)",
        entropy="damps its change, both ways",
        use="studies of REPO; REPO-R did at least as well in the paper",
        beware="it slows a rise as it slows a fall; zeta above 1 / Var(L) turns the change round",
    ),
    "repo_r": Preset(
        "RLOO whose advantages lean to rare or to likely tokens so that entropy stays",
        "arXiv 2603.11682",
        {"shaper": "repo_r", "controller": {"type": "geometric_signed"}},
        entropy="two-way, controlled",
        use="nothing must happen where no group has a signal",
        beware="18 steps from bound to bound; with few actions its bound is too small to matter",
    ),
}

COVARIANCE: dict[str, Preset] = {
    "clip_cov": Preset(
        "GRPO that leaves out a few random tokens of large covariance, in wide clips",
        "arXiv 2505.22617",
        {"estimator": "grpo", "shaper": "clip_cov", "clip_low": 1.0, "clip_high": 1.0, "updates": 4},
        entropy="slows the fall",
        use="long answers: the loss of entropy hangs on few tokens",
        beware="the ratio is tuned per model, and there is no target",
    ),
    "kl_cov": Preset(
        "GRPO without a clip that holds the few tokens of largest covariance near the start of the step",
        "arXiv 2505.22617",
        {"estimator": "grpo", "ratio": "ratio", "terms": ["entropy_bonus", "kl", "kl_cov"], "updates": 4},
        entropy="slows the fall",
        use="long answers: the loss of entropy hangs on few tokens; stronger than `clip_cov` in the paper",
        beware="the fraction is tuned per model (.002 for 7B, .0002 for 32B); nothing bounds the ratio of other tokens",
    ),
}

TERMS: dict[str, Preset] = {
    "entropy_bonus": Preset(
        "GRPO with the entropy itself in the loss; our controller",
        "arXiv 1602.01783",
        {
            "estimator": "grpo",
            "clip_high": 0.2,
            "entropy_bonus": 1e-3,
            "controller": {"type": "geometric", "knob": "entropy_bonus"},
        },
        missing="the controller is ours",
        entropy="raises",
        use="comparison; REPO estimates the same gradient for less",
        beware="a constant coefficient makes entropy explode; the gradient goes through all logits",
    ),
    "skywork": Preset(
        "GRPO with an entropy bonus that acts below a floor, its coefficient stepped by the sign of the distance",
        "arXiv 2505.22312",
        {
            "estimator": "grpo",
            "clip_high": 0.2,
            "entropy_bonus": 1e-4,
            "controller": {
                **{"type": "sign_step", "knob": "entropy_bonus", "target": 0.2, "target_in": "nats"},
                "gated": True,
            },
        },
        entropy="holds a floor",
        use="entropy may be anything above a floor that you know",
        beware="slow: 50 steps to its full strength; the floor, .2 nat, is one model's; gradient through all logits",
    ),
    "entropic": Preset(
        "GRPO whose likely tokens weigh more or less where they were good than where they were bad, by a PI controller",
        "arXiv 2511.15248",
        {
            "estimator": "grpo",
            "clip_high": 0.2,
            "terms": ["entropy_bonus", "kl", "entropic"],
            "controller": {"type": "pi", "knob": "entropic_alpha", "target": 0.1, "target_in": "nats"},
        },
        missing="the term's weight: the released code takes its mean over the selected tokens",
        entropy="two-way, controlled",
        use="an entropy to be held at a number, without gradient through the distribution",
        beware="its target, .1 nat, is one model's: say your own, or `target_in: fraction`; no force on solved groups",
    ),
    "lp_reg": Preset(
        "GRPO in a wide clip that pulls rare but plausible tokens of bad samples up to a filtered policy",
        "arXiv 2510.03222",
        {"estimator": "grpo", "clip_low": 1.0, "clip_high": 9.0, "terms": ["entropy_bonus", "kl", "lp_reg"]},
        entropy="holds the useful tail",
        use="long on-policy runs that lose their rare tokens",
        beware="nearly inert with one update a step, as published (`updates: 4` makes it felt); tuned share and kappa",
    ),
    "siren": Preset(
        "Dr. GRPO with the entropy of undecided tokens, over their likeliest continuations, held at its start",
        "arXiv 2509.25133",
        {
            "estimator": "dr_grpo",
            "aggregation": "constant",
            "max_length": 1024,
            "terms": ["entropy_bonus", "kl", "siren"],
        },
        entropy="to its anchor",
        use="entropy is to stay where it began, without a target to choose",
        beware="the anchor is measured on one batch of each environment; the gradient goes through all logits",
    ),
    "epo": Preset(
        "GRPO with an entropy bonus, and a band for the entropy of each turn around its own history; our hinge",
        "arXiv 2509.22576",
        {
            "estimator": "grpo",
            "clip_high": 0.2,
            "terms": ["entropy_bonus", "kl", "epo"],
            "controller": {"type": "schedule", "knob": "epo_beta", "form": "epo", "steps": 150},
        },
        missing="the hinge is ours",
        entropy="raises, to a band",
        use="episodes of many turns",
        beware="the band fades over 150 steps and the bonus stays; as published the band had no gradient at all",
    ),
}
