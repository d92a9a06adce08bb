"""A preset described for people: what it is made of, what it costs, when to use it. Does not load torch."""

from __future__ import annotations

from policies.objectives import aggregations, registry
from policies.objectives.config import ObjectiveConfig
from policies.objectives.contracts import Need
from policies.objectives.parts import Part, PartModule
from policies.objectives.presets import PRESETS, Preset, family_of

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


def story(name: str) -> str:
    """Describe a preset: its parts with their formulas, in the order in which they act, and what to know of it."""
    preset, config = PRESETS[name], ObjectiveConfig.model_validate(name)
    verified = "Verified against the authors' or a maintained implementation."
    if preset.missing is not None:
        verified = f"Experimental; not verified, ours or left out: {preset.missing}."
    lines = [f"{preset.about}.", "", f"Family {family_of(name)}.", verified]
    if differs := differs_of(preset, config):
        lines.append(f"Differs on purpose: {differs}.")
    lines += ["", "Made of, in the order in which they act:"]
    for part in acting(config):
        lines += _formula(f"{part.kind.removesuffix('s').replace('_', ' ')} {part.name}", part)
    # what an aggregation makes a token weigh, and what its letters are: from the table in that module
    paragraphs = (aggregations.__doc__ or "").split("\n\n")
    weights = dict(line.split(None, 1) for line in paragraphs[1].strip().splitlines())
    weight = " ".join(f"{weights[config.aggregation]}. {paragraphs[2].split('.')[0]}".split())
    lines += [f"  aggregation {config.aggregation}: {weight}"]
    for one, knob in zip(config.controllers, config.knobs, strict=True):
        lines += _formula(f"controller {one.type} of `{knob}`", one.method)
    notes = {
        "Entropy": preset.entropy,
        "Cost": "; ".join(cost_of(config)) or "none beside the update itself",
        "Updates a step": str(config.updates),
        "Use it for": preset.use,
        "Beware": preset.beware,
    }
    return "\n".join([*lines, "", *(f"{key}: {value}." for key, value in notes.items() if value)])


def acting(config: ObjectiveConfig) -> list[PartModule]:
    """The parts that are on as the section stands: a term whose coefficient is 0 is left out."""
    strengths = config.strengths()
    return [part for part in config.modules() if part.kind != "terms" or part.info.knob in (None, *strengths)]


def cost_of(config: ObjectiveConfig) -> list[str]:
    """What the learner computes for it beside the update, a clause each."""
    # with several updates ratios are to the log-probs at the start of the step
    needs: set[Need] = {"step"} if config.updates > 1 else set()
    costs = [part.info.cost for part in sorted(acting(config), key=lambda part: part.name) if part.info.cost]
    for part in acting(config):
        made = part.create(config.options_of(part))
        if not isinstance(made, Part):  # off, or a plan
            continue
        needs |= made.needs | ({"step"} if made.survey else set())
        if made.components:
            costs.append("a backward pass, and a copy of the gradient, for each component of the score")
    return costs + [cost for need, cost in COSTS.items() if need in needs and cost]


def _formula(what: str, part: PartModule) -> list[str]:
    """What a part is: the first paragraph of its docstring, and the one that says what the formula's letters are."""
    found = [" ".join(paragraph.split()) for paragraph in part.text.strip().split("\n\n")]
    lines = [f"  {what}: {found[0]}"]
    at = next((i for i, text in enumerate(found) if text.startswith("Symbols:")), None)
    if at is not None:
        goes_on = found[at].endswith((",", ":")) and at + 1 < len(found)  # to a formula in a line of its own
        lines.append(f"    {' '.join(found[at : at + 1 + goes_on])}")
    return lines


def differs_of(preset: Preset, config: ObjectiveConfig) -> str | None:
    """Where the composition departs on purpose from the code that it was checked against."""
    return registry.joined([preset.differs, *(part.info.differs for part in acting(config))])
