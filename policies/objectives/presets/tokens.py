"""Presets whose point is which tokens teach how much: by a clip on the ratio, or by weights and masks.

At one update a step every ratio is 1 and no clip does anything, so those bring their own number of updates.
"""

from __future__ import annotations

from policies.objectives.presets.preset import Preset

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
                "type": "sign_step",
                "knob": "clip_high",
                "target": 0.3,
                "target_in": "nats",
                "delta": 0.25,
                "low": 1.5,
                "high": 4.0,
                "tie": "hold",
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
