"""Presets whose force is on entropy: by the score function (REPO), on the few tokens that cost it, by loss terms.

REPO has no gradient through the distribution; an entropy term has.
"""

from __future__ import annotations

from policies.objectives.presets.preset import Preset

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
        "REPO that looks after itself: pushes harder the lower entropy has come, and pulls down above its start",
        "arXiv 2603.11682; controller ours",
        {
            "shaper": "repo",
            "per": "response",
            "strength": 0.05,
            "reading": "recent",
            "controller": {"type": "log_affine"},
        },
        missing="REPO has no official code; the rule is ours, measured on a codebook and on spelling only",
        entropy="two-way, controlled",
        use="stages of different tasks where nobody wants to tune a strength",
        beware="entropy comes down to .4 of the start all the same; it costs .01 of accuracy where that buys nothing",
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
        use="the safe choice for language models: nothing happens where no group has a signal",
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
                "type": "sign_step",
                "knob": "entropy_bonus",
                "target": 0.2,
                "target_in": "nats",
                "delta": 1e-4,
                "low": 0.0,
                "high": 5e-3,
                "tie": "up",
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
            "controller": {
                "type": "pi",
                "knob": "entropic_alpha",
                "target": 0.1,
                "target_in": "nats",
                "kp": 1.0,
                "ki": 0.01,
            },
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
