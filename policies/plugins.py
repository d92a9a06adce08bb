"""The kinds of plug-ins here: samplers, interventions, parts of objectives. Importing this loads nothing else."""

from __future__ import annotations

from environments.plugins import PluginKind

SAMPLERS = PluginKind.of("policies.samplers", "policies.samplers.contracts:Sampler")
INTERVENTIONS = PluginKind.of("policies.interventions", "policies.interventions.contracts:Intervention")


def _part(kind: str) -> PluginKind:
    return PluginKind(kind, f"policies.objectives.{kind}", "evergreen.objectives", f"{kind}.")


# What objectives are made of, in the order in which a step meets them; an objective's section names them.
PARTS = {
    kind: _part(kind)
    for kind in (
        *("plans", "reward_maps", "estimators", "shapers"),
        *("mismatch_weights", "ratio_rules", "terms", "controllers"),
    )
}
AGGREGATIONS = _part("aggregations")  # ours are functions of one file
