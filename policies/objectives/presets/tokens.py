"""Presets of weights and masks on tokens: some tokens teach more than others."""

from __future__ import annotations

from policies.objectives.presets.preset import Preset

PRESETS: dict[str, Preset] = {
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
