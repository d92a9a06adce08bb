"""Presets of REPO: a push on entropy by the score function, without gradient through the distribution."""

from __future__ import annotations

from policies.objectives.presets.preset import Preset

PRESETS: dict[str, Preset] = {
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
