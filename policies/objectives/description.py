"""A preset's story for people: what it is made of, what it costs, when to use it. Does not load torch."""

from __future__ import annotations

from policies.objectives import aggregations, registry
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Need
from policies.objectives.presets import PRESETS, family_of

COSTS: dict[Need, str] = {
    "lp_old": "",  # of every ratio, and free with one update a step
    "lp_roll": "",
    "mean_lp": "",
    "lp_ref": "a frozen copy of the weights, and a pass of it a step",
    "entropy": "a reduction over the logits of the update",
    "entropy_grad": "the gradient goes through the whole distribution: logits are kept or made twice",
    "step": "a pass without gradient over the whole step before its updates",
    "old_entropy": "a reduction over the logits of that pass",
    "old_filter": "a filter on the vocabulary in that pass",
    "drift": "a pass without gradient before every update but the first",
}

# What plans cost is paid in generation.
PLANNED = {
    "dynamic_sampling": "more generation: groups without spread are played anew, up to ten times",
    "gvm": "another pass over the pilot, and through the head again",
    "tempered": "a side batch at another temperature",
}


def story(name: str) -> str:
    """Tell a preset: its parts with their formulas, in the order in which they act, and what to know of it."""
    preset, config = PRESETS[name], ObjectiveConfig.model_validate(name)
    lines = [f"{preset.about}.", "", f"Family {family_of(name)}.", _verified(preset.missing)]
    if differs := _differs(name, config):
        lines.append(f"Differs on purpose: {differs}.")
    lines += ["", "Made of, in the order in which they act:"]
    for kind, part in acting(config):
        lines += [f"  {kind.removesuffix('s').replace('_', ' ')} {part}: {_first(kind, part)}"]
        lines += _symbols(kind, part)
    lines += [f"  aggregation {config.aggregation}: {_weight(config.aggregation)}"]
    for one, knob in zip(config.controllers, config.knobs, strict=True):
        lines += [f"  controller {one.type} of `{knob}`: {_first('controllers', one.type)}"]
        lines += _symbols("controllers", one.type)
    told = {
        "Entropy": preset.entropy,
        "Cost": "; ".join(cost_of(config)) or "none beside the update itself",
        "Updates a step": str(config.updates),
        "Use it for": preset.use,
        "Beware": preset.beware,
    }
    return "\n".join([*lines, "", *(f"{key}: {value}." for key, value in told.items() if value)])


def acting(config: ObjectiveConfig) -> list[tuple[registry.Kind, str]]:
    """The parts that are on as the section stands: a term whose coefficient is 0 is left out."""
    strengths = config.strengths()
    parts = [(kind, name, registry.load(kind, name)) for kind, name in config.parts()]
    return [
        (kind, name)
        for kind, name, module in parts
        if kind != "terms" or not hasattr(module, "KNOB") or module.KNOB in strengths
    ]


def cost_of(config: ObjectiveConfig) -> list[str]:
    """What the learner computes for it beside the update, a clause each."""
    needs, costs = set[str](), [cost for plan, cost in PLANNED.items() if plan in config.plans]
    if config.updates > 1:
        needs.add("step")  # what ratios are to: the log-probs at the start of the step
    for kind, name in acting(config):
        module = registry.load(kind, name)
        made = module.create(config.options_of(module))
        needs |= getattr(made, "needs", frozenset())
        needs |= {"step"} if getattr(made, "survey", None) else set()
        if getattr(made, "components", None):
            costs.append("a backward pass, and a copy of the gradient, for each component of the score")
    return costs + [cost for need, cost in COSTS.items() if need in needs and cost]


def row(name: str) -> str:
    """A preset as a row of the table in docs/objectives.md."""
    preset, config = PRESETS[name], ObjectiveConfig.model_validate(name)
    verified = "yes" if preset.verified else f"no; open, ours or left out: {preset.missing}"
    if differs := _differs(name, config):
        verified += f"; differs on purpose: {differs}"
    cells = [
        f"`{name}`",
        preset.about,
        preset.source,
        preset.entropy,
        "; ".join(cost_of(config)) or "none",
        verified,
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _first(kind: registry.Kind, name: str) -> str:
    """The first paragraph of a part's docstring, on one line."""
    return _paragraphs(kind, name)[0]


def _symbols(kind: registry.Kind, name: str) -> list[str]:
    """The paragraph of its docstring that says what the formula's letters are, indented below it."""
    found = _paragraphs(kind, name)
    at = next((i for i, text in enumerate(found) if text.startswith("Symbols:")), None)
    if at is None:
        return []
    goes_on = found[at].endswith((",", ":")) and at + 1 < len(found)  # to a formula in a line of its own
    return [f"    {' '.join(found[at : at + 1 + goes_on])}"]


def _paragraphs(kind: registry.Kind, name: str) -> list[str]:
    """A part's docstring, each paragraph on one line."""
    text = (registry.load(kind, name).__doc__ or "").strip()
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _weight(aggregation: str) -> str:
    """What an aggregation makes a token weigh, and what its letters are: from the table in that module."""
    paragraphs = (aggregations.__doc__ or "").split("\n\n")
    rows = dict(line.split(None, 1) for line in paragraphs[1].strip().splitlines())
    return " ".join(f"{rows[aggregation]}. {paragraphs[2].split('.')[0]}".split())


def _verified(missing: str | None) -> str:
    if missing is None:
        return "Verified against the authors' or a maintained implementation."
    return f"Experimental; not verified, ours or left out: {missing}."


def _differs(name: str, config: ObjectiveConfig) -> str | None:
    """Where the composition departs on purpose from the code that it was checked against."""
    modules = [registry.load(kind, part) for kind, part in acting(config)]
    return registry.remarks("DIFFERS", modules, PRESETS[name].differs)
