"""The named objectives are composed as the reference says, and every part says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.objectives import Objective, ObjectiveConfig
from policies.objectives.description import COSTS, acting, cost_of, differs_of, story
from policies.objectives.presets import FAMILIES, PRESETS, family_of
from policies.objectives.registry import every, load

DOCS = Path(__file__).parents[3] / "docs"

# objectives.md 16, with what the design page adds and four updates for those that idle at one: the parts that act, the
# aggregation, the updates a step, and what moves what.
COMPOSED: dict[str, tuple[str, str, int, str]] = {
    "grpo": ("grpo tis ppo", "seq_mean_token_mean", 1, ""),
    "dr_grpo": ("dr_grpo tis ppo", "constant", 1, ""),
    "rloo": ("rloo tis ppo", "token_mean", 1, ""),
    "rloo_on_policy": ("rloo tis reinforce", "token_mean", 1, ""),
    "reinforce_pp": ("reinforce_pp_baseline tis ppo", "token_mean", 1, ""),
    "dapo": ("dynamic_sampling overlong grpo tis ppo", "token_mean", 4, ""),
    "gspo": ("grpo gspo", "seq_mean_token_mean", 4, ""),
    "cispo": ("grpo cispo", "token_mean", 4, ""),
    "dppo": ("dr_grpo dppo squared_log_ratio", "token_mean", 4, ""),
    "repo_r": ("rloo repo_r tis ppo", "token_mean", 1, "geometric_signed of strength"),
    "repo": ("rloo repo tis ppo", "token_mean", 1, "geometric of strength"),
    "repo_d": ("rloo repo_d tis ppo", "token_mean", 1, "geometric of strength"),
    "adapo": ("dynamic_sampling grpo tis ppo", "token_mean", 4, "geometric of clip_high"),
    "mai_clip": ("grpo tis ppo", "token_mean", 4, "sign_step of clip_high"),
    "clip_cov": ("grpo clip_cov tis ppo", "token_mean", 4, ""),
    "kl_cov": ("grpo tis ratio kl_cov", "token_mean", 4, ""),
    "entropy_bonus": ("grpo tis ppo entropy_bonus", "token_mean", 1, "geometric of entropy_bonus"),
    "entropic": ("grpo tis ppo entropic", "token_mean", 1, "pi of entropic_alpha"),
    "aepo": ("tempered grpo tis ppo", "token_mean", 1, "switch of tempered_temperature"),
    "steer": ("grpo steer tis ppo", "token_mean", 1, ""),
    "lp_reg": ("grpo tis ppo lp_reg", "token_mean", 1, ""),
    "siren": ("dr_grpo tis ppo siren", "constant", 1, ""),
    "epo": ("grpo tis ppo epo", "token_mean", 1, "schedule of epo_beta"),
    "erc": ("dynamic_sampling grpo erc tis ppo", "token_mean", 4, ""),
    "ce_gppo": ("grpo tis ce_gppo", "token_mean", 4, ""),
    "top_entropy": ("grpo top_entropy tis ppo", "token_mean", 1, ""),
}


def read(name: str) -> ObjectiveConfig:
    return ObjectiveConfig.model_validate(name)


def row(name: str) -> str:
    """A preset as a row of the table in docs/objectives.md."""
    preset, config = PRESETS[name], ObjectiveConfig.model_validate(name)
    verified = "yes" if preset.verified else f"no; open, ours or left out: {preset.missing}"
    if differs := differs_of(preset, config):
        verified += f"; differs on purpose: {differs}"
    cost = "; ".join(cost_of(config)) or "none"
    cells = [f"`{name}`", preset.about, preset.source, preset.entropy, cost, verified]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def test_presets_are_composed_as_published() -> None:
    """Reference: objectives.md 16."""
    found = {}
    for name in COMPOSED:
        config = read(name)
        parts = " ".join(part.name for part in acting(config))
        controllers = zip(config.controllers, config.knobs, strict=True)
        moved = ", ".join(f"{one.type} of {knob}" for one, knob in controllers)
        found[name] = (parts, config.aggregation, config.updates, moved)
    assert found == COMPOSED


@pytest.mark.parametrize(
    "section",
    [
        {"preset": "rloo", "shaper": "repo_d", "controller": "geometric"},
        {"preset": "grpo", "estimator": "copo"},
        {"preset": "grpo", "reward_maps": ["pear"]},
    ],
)
def test_a_composition_is_no_more_verified_than_its_parts(section: dict[str, object]) -> None:
    described = Objective(ObjectiveConfig.model_validate(section)).describe()
    assert described["verified"] is False
    assert described["missing"]


def test_presets_are_sound_and_described_as_plain_data() -> None:
    for name, preset in PRESETS.items():
        config = read(name)
        described = Objective(config).describe()
        assert config.warnings() == described["warnings"], name
        assert len(config.warnings()) == (name == "epo"), "only its bonus is fixed, as it was published"
        assert described["verified"] is (preset.missing is None), name
        assert preset.source, name
        assert preset.entropy, name
        assert preset.use or preset.beware, name


def test_a_preset_with_a_part_that_is_not_verified_says_what_is_missing() -> None:
    silent = [name for name in PRESETS if any(p.info.missing for p in acting(read(name))) and not PRESETS[name].missing]
    assert not silent


def test_what_the_released_scripts_do_otherwise_is_not_called_verified() -> None:
    assert not PRESETS["weighted"].verified
    assert not PRESETS["entropic"].verified
    assert "hijih/copo-code" in str(PRESETS["copo"].missing)
    assert PRESETS["drpo"].verified
    assert read("drpo").options_of(load("estimators", "drpo")).drpo_lambda == 0.1, "as published"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("disco", "start of the step"),
        ("disco", "k3"),
        ("kl_cov", "once a step"),
        ("steer", "whole step"),
        ("clip_cov", "once a step"),
        ("lp_reg", "once a step"),
        ("siren", "nucleus"),
        ("grpo", "mismatch: tis"),
        ("grpo", "no KL"),
    ],
)
def test_a_verified_preset_names_where_it_departs_from_the_code(name: str, word: str) -> None:
    described = Objective(read(name)).describe()
    assert described["verified"]
    for told in (described["differs"], story(name), row(name)):
        assert word in told


def test_the_description_of_a_preset_names_its_parts_family_and_whether_it_is_verified() -> None:
    for name, preset in PRESETS.items():
        text = story(name)
        assert preset.about in text, name
        assert f"Family {family_of(name)}" in text, name
        assert ("Experimental" in text) is not preset.verified, name
        assert not [part.name for part in acting(read(name)) if f" {part.name}: " not in text], name


def test_the_table_of_the_documents_says_what_the_presets_say() -> None:
    rows = [line for line in (DOCS / "objectives.md").read_text().splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(map(row, PRESETS))


def test_families_do_not_share_names() -> None:
    assert sum(map(len, FAMILIES.values())) == len(PRESETS)


def test_every_need_has_its_price() -> None:
    needs = {need for name in PRESETS for need in Objective(read(name)).needs}
    assert needs <= set(COSTS)


def test_no_two_parts_of_a_preset_share_an_option() -> None:
    for name in PRESETS:
        options = [option for part in read(name).modules() for option in part.Config.model_fields]
        assert len(options) == len(set(options)) == len(read(name).options), name


def test_every_part_names_its_source_and_documents_its_options() -> None:
    for part in (load(*one) for one in every()):
        assert part.source, part.name
        assert "Empty cases" in part.text, part.name
        assert "Source" in part.text, part.name
        assert all(field.description for field in part.Config.model_fields.values()), part.name
