"""A part of a user's own passes every rule that ours pass: a copy of ours under another name is treated as ours is."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.spec import Spec
from policies.objectives import Objective, ObjectiveConfig, ObjectiveError
from policies.objectives.config import _in_a_row, _laid_over, _written_out
from policies.objectives.description import cost_of
from policies.objectives.parts import Kind
from policies.objectives.presets import PRESETS
from policies.objectives.registry import every, load, names
from tests.orchestrator.specs import small

FIELDS: dict[Kind, str] = {
    "plans": "plans",
    "reward_maps": "reward_maps",
    "estimators": "estimator",
    "shapers": "shapers",
    "mismatch_weights": "mismatch",
    "ratio_rules": "ratio",
    "terms": "terms",
    "controllers": "controllers",
    "aggregations": "aggregation",
}
MANY = (
    "plans",
    "reward_maps",
    "shapers",
    "mismatch",
    "terms",
    "controllers",
)  # of these a section has a list
INFO_LINE = "INFO = PartInfo(plan='drops_even_groups')\n"
OWN_PLAN = f"""
from policies.objectives.parts import PartInfo, PartOptions

SOURCE = "here"
{INFO_LINE}

class Config(PartOptions):
    pass


def create(config):
    return None
"""
# What goes badly with some part of each kind, so that every rule has something to say.
SURROUNDINGS: list[dict[str, Any]] = [
    {"preset": "rloo"},
    {"preset": "rloo", "plans": ["dynamic_sampling"], "updates": 4},
    {"preset": "rloo", "plans": ["tempered"], "entropy": "surprisal_iw", "controller": "geometric"},
    {"preset": "rloo", "plans": ["dynamic_sampling"], "entropy": "surprisal_iw", "shaper": "repo_r"},
    {"preset": "dppo", "mismatch": ["tis"]},
    {"preset": "rloo", "mismatch": ["icepop"], "updates": 4},
    {"preset": "rloo", "ratio": "hapo"},
    {"preset": "hapo", "clip_high": 0.3},
    {"preset": "disco", "ratio": "ratio"},
    {"preset": "disco", "terms": []},
    {"preset": "lp_reg", "ratio": "cispo"},
    {"preset": "lp_reg", "updates": 4},
    {"preset": "siren", "shaper": "top_entropy"},
    {"preset": "siren", "updates": 4},
    {"preset": "rloo", "shapers": ["top_entropy", "repo"], "controller": "geometric"},
    {"preset": "repo", "controller": "pi"},
    {"preset": "repo", "controller": "none"},
    {"preset": "repo", "controller": {"type": "dual_ascent", "rate": -0.01}},
    {"preset": "entropy_bonus", "controller": "pi"},
    {"preset": "entropy_bonus", "controller": "none"},
    {"preset": "entropic", "controller": "geometric"},
    {"preset": "adapo", "updates": 1},
    {"preset": "kl_cov", "kl_cov_fraction": 0.2},
    {"preset": "kl_cov", "updates": 1},
    {"preset": "gspo", "aggregation": "token_mean"},
    {"preset": "rloo_on_policy", "updates": 4},
    {"preset": "rloo", "aggregation": "constant"},
    {"preset": "rloo", "kl": 0.1, "controller": "adaptive_kl"},
    {"preset": "rloo", "kl": 0.01, "controller": "geometric_signed"},
    {"preset": "scope", "controller": {"low": -1}},
    {"preset": "gvm", "gvm_pilot": 4, "gvm_floor": 1},
]

AHEAD: tuple[dict[str, Any], ...] = ({}, {"sampler": {"ahead": 1}})


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's package with a copy of every part of ours, `kind_name`."""
    package = tmp_path / "mine_of_parts"
    package.mkdir()
    ours = Path(str(importlib.import_module("policies.objectives").__file__)).parent
    for kind, name in every():
        (package / f"{kind}_{name}.py").write_text((ours / kind / f"{name}.py").read_text())
    for name in names("aggregations"):
        info = {"constant": "needs_max_length=True", "seq_mean_token_mean": "weighs_sequences_alike=True"}
        (package / f"aggregations_{name}.py").write_text(
            f"from policies.objectives.aggregations import {name}\n"
            "from policies.objectives.parts import PartInfo, PartOptions\n\n"
            f"SOURCE = 'here'\nINFO = PartInfo({info.get(name, '')})\n\n\n"
            f"class Config(PartOptions):\n    pass\n\n\ndef create(config):\n    return {name}\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    return package.name


def written_out(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section with the names of all its parts said, its preset's or the default ones."""
    base, given = _written_out(PRESETS[section["preset"]].overrides), _written_out(section)
    merged = {FIELDS[kind]: ObjectiveConfig.model_fields[FIELDS[kind]].default for kind in FIELDS} | base | given
    below = [*base.get("controllers", ()), {}]
    merged["controllers"] = [_laid_over(one, below[0]) for one in _in_a_row(merged["controllers"])]
    return {key: _in_a_row(value) if key in MANY else value for key, value in merged.items()}


def renamed(section: Mapping[str, Any], kind: Kind, mine: str) -> dict[str, Any]:
    """The section with the parts of a kind named as the copies in the user's package."""

    def other(name: Any) -> Any:
        return {**name, "type": other(name["type"])} if isinstance(name, Mapping) else f"{mine}.{kind}_{name}"

    given = section[FIELDS[kind]]
    return {**section, FIELDS[kind]: list(map(other, given)) if FIELDS[kind] in MANY else other(given)}


@cache
def of_ours(number: int, ahead: int) -> Any:
    """All that is said of one of SURROUNDINGS with our own parts, which is the same for every kind."""
    return outcome(written_out(SURROUNDINGS[number]), **AHEAD[ahead])


def outcome(section: Mapping[str, Any], **sampler: Any) -> Any:
    """All that is said of a section, in an objective and in a spec."""
    try:
        config = ObjectiveConfig.model_validate(section)
    except ValidationError as error:
        return error.errors()[0]["msg"]
    said = [config.warnings(1), config.warnings(4), config.weighs_mismatch, config.anchor, config.knobs]
    described = Objective(config).describe()
    facts = [described["verified"], described["differs"], described["needs"], cost_of(config)]
    try:
        spec = Spec.model_validate(small(objective=section, **sampler))
        return said, facts, spec.warnings()
    except ValidationError as error:
        return said, facts, error.errors()[0]["msg"]


@pytest.mark.parametrize("kind", FIELDS)
def test_a_copy_of_ours_is_accepted_refused_and_warned_of_as_ours(kind: Kind, mine: str) -> None:
    said = set()
    for number, surrounding in enumerate(SURROUNDINGS):
        for ahead, sampler in enumerate(AHEAD):
            ours = of_ours(number, ahead)
            copied = outcome(renamed(written_out(surrounding), kind, mine), **sampler)
            assert repr(copied).replace(f"{mine}.{kind}_", "") == repr(ours), surrounding
            said.add(repr(ours))
    assert len(said) > len(SURROUNDINGS), "the surroundings differ in what is said of them"


def test_a_copy_of_tis_is_seen_as_an_importance_weight(mine: str) -> None:
    for name, is_weighed in (("tis", True), ("icepop", True), ("seq_tis", True), ("geo_mask", False)):
        objective = {"preset": "rloo", "mismatch": [f"{mine}.mismatch_weights_{name}"]}
        assert ObjectiveConfig.model_validate(objective).weighs_mismatch is is_weighed
        spec = small(objective=objective, sampler={"ahead": 1})
        if is_weighed:
            assert Spec.model_validate(spec).objective.mismatch == tuple(objective["mismatch"])
        else:
            with pytest.raises(ValidationError, match="no importance weight"):
                Spec.model_validate(spec)


def test_every_part_of_ours_can_be_copied(mine: str) -> None:
    """Each alone, whatever else it needs: the copy and ours give one sentence, or none."""
    for kind, name in every():
        section = written_out({"preset": "rloo"})
        if name == "off_policy_mask":
            section["off_policy_mask_delta"] = 0.1
        named = {"type": name} if kind == "controllers" else name
        section[FIELDS[kind]] = [named] if FIELDS[kind] in MANY else named
        copied = repr(outcome(renamed(section, kind, mine)))
        assert copied.replace(f"{mine}.{kind}_", "") == repr(outcome(section)), name


def test_two_plans_that_do_the_same_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_plans").mkdir()
    (tmp_path / "my_plans" / "drops.py").write_text(OWN_PLAN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValidationError, match="decide the same thing"):
        ObjectiveConfig.model_validate({"preset": "rloo", "plans": ["dynamic_sampling", "my_plans.drops"]})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("KNOB = 'mine'\nIDLE_AT_ONE = True\n", "INFO = PartInfo\\(knob=..., idle_at_one_update=...\\)"),
        ("INFO = {'knob': 'mine'}\n", "is no `policies.objectives.parts.PartInfo`"),
    ],
)
def test_a_part_that_says_it_the_former_way_is_refused_with_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str
) -> None:
    (tmp_path / "former_parts").mkdir()
    (tmp_path / "former_parts" / f"part{len(text)}.py").write_text(OWN_PLAN.replace(INFO_LINE, "") + text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ObjectiveError, match=sentence) as caught:
        load("terms", f"former_parts.part{len(text)}")
    assert "docs/extend.md" in str(caught.value)


def test_a_part_whose_memory_is_of_no_option_that_there_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "forgetful_plan.py").write_text(OWN_PLAN.replace(INFO_LINE, "INFO = PartInfo(memory_of=('size',))\n"))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    config = ObjectiveConfig.model_validate({"preset": "rloo", "plans": "forgetful_plan:create"})
    with pytest.raises(ObjectiveError, match=r"`memory_of` of .* names `size`, which is no option"):
        Objective(config)
