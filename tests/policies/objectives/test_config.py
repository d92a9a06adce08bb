import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from policies.objectives import ObjectiveConfig
from policies.objectives.presets import PRESETS

read = ObjectiveConfig.model_validate


def errors(section: Any) -> list[tuple[tuple[int | str, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        read(section)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


def test_a_name_stands_for_a_preset_and_keys_override_it() -> None:
    assert read("repo_adaptive") == read({"preset": "repo_adaptive"}) == ObjectiveConfig()
    assert read({"preset": "repo_r", "clip_high": 0.3}).options["clip_high"] == 0.3


def test_the_dump_is_resolved_and_reads_back_the_same() -> None:
    sections: list[Any] = [
        *PRESETS,
        {"preset": "rloo", "shaper": "repo", "centre": "batch", "controller": "geometric"},
        {"controller": {"start": 0.01, "target": 0.5}},
        {"preset": "repo", "controller": "none"},
        {"preset": "grpo", "tis_cap": None, "std": "population"},
    ]
    for section in sections:
        config = read(section)
        assert read(config.model_dump()) == config, section
        assert read(config.model_dump(mode="json")).model_dump() == config.model_dump(), section


@pytest.mark.parametrize(
    ("section", "where", "message"),
    [
        (
            "repoo",
            ("preset",),
            "there is no preset `repoo`; there are: ",
        ),
        ("gpro", ("preset",), "did you mean `grpo`?"),
        ({"clip_hgih": 0.3}, ("clip_hgih",), "did you mean `clip_high`?"),
        ({"std": "sample"}, ("std",), "`std` is an option of estimators/grpo, which is not part of"),
        ({"estimator": "grop"}, ("estimator",), "did you mean `grpo`?"),
        ({"controller": "pid"}, ("controllers", 0, "type"), "there is no controller `pid`"),
        ({"preset": "repo_r", "controller": {"fctor": 2}}, ("controllers", 0, "fctor"), "did you mean `factor`?"),
        (
            {"preset": "repo_r", "controller": {"low": 0.2}},
            ("controllers", 0),
            "lower bound 0.2 is above the upper bound 0.05",
        ),
        ({"clip_low": "much"}, ("clip_low",), "valid number"),
        ({"strength": float("nan")}, ("strength",), "finite"),
        ({"strength": 0.4}, (), "starts at 0.4, outside of its bounds [0, 0.3]"),
        ({"preset": "repo_r", "strength": 0.2}, (), "starts at 0.2, outside of its bounds [-0.05, 0.05]"),
        ({"preset": "repo", "strength": 0.0}, (), "starts at 0, outside of its bounds [0.0001, 0.1]"),
        ({"shaper": None}, (), "no coefficient to move: add a shaper with a strength"),
        ({"preset": "rloo", "controller": "geometric"}, (), "or say `controller: none`"),
        ({"controller": {"knob": "zeta"}}, (), "(`zeta` is none)"),
        ({"strength": 0.03, "controller": {"start": 0.01}}, (), "give one of them"),
        ({"dual_clip": 1.1}, (), "inside the clip range; take more than 1.28"),
        ({"aggregation": "constant"}, (), "needs `max_length`"),
        ({"shaper": "tis"}, ("shapers", 0), "there is no shaper `tis`"),
        ({"shaper": "repo", "shapers": []}, (), "two ways to say the same"),
        ({"shapers": ["repo", "repo_r"]}, (), "two parts of this objective have an option `strength`"),
        ({"terms": ["kl", "kl"], "preset": "rloo"}, (), "two parts of this objective have an option `kl`"),
        ({"controllers": ["geometric_signed", "geometric_signed"]}, (), "two controllers move `strength`"),
        ({"preset": "dppo", "mismatch": "tis"}, (), "would count the mismatch twice: say `mismatch: none`"),
        (
            {"preset": "rloo", "mismatch": ["tis", "icepop"]},
            (),
            "`tis` and `icepop` count the same mismatch twice",
        ),
        ({"preset": "rloo", "ratio": "hapo"}, (), "add it, or take `ratio: ppo`"),
        ({"preset": "lp_reg", "ratio": "cispo"}, (), "take `ratio: ppo`"),
        ({"preset": "siren", "shaper": "top_entropy"}, (), "reads entropies over a nucleus"),
        ({"preset": "rloo", "shapers": ["top_entropy", "repo"]}, (), "`repo` subtracts from the advantage"),
        (
            {"preset": "rloo", "estimator": "reinforce", "plans": "dynamic_sampling"},
            (),
            "does not compare inside groups: take one that does",
        ),
        (
            {"preset": "repo", "controller": "pi"},
            (),
            "`strength` raises entropy, and this controller",
        ),
        ({"preset": "entropy_bonus", "controller": "pi"}, (), "for `pi` gains below 0"),
        ({"preset": "entropic", "controller": "geometric_signed"}, (), "`entropic_alpha` lowers entropy"),
        (
            {"preset": "rloo", "kl": 0.01, "controller": "geometric_signed"},
            (),
            "a controller may take `kl` to -0.05, and it cannot be that",
        ),
        ({"preset": "scope", "controller": {"low": -1}}, (), "may take `tempered_temperature` to -1"),
        (
            {"preset": "repo", "controller": {"type": "dual_ascent", "rate": -0.01}},
            (),
            "`dual_ascent` a rate above 0",
        ),
        ({"preset": "disco", "ratio": "ratio"}, (), "say `shapers: []`"),
        ({"preset": "aepo", "entropy": "surprisal_iw"}, (), "leave them out"),
        (
            {"preset": "rloo", "kl": 0.1, "controller": {"type": "adaptive_kl", "horizon": 10}},
            ("controllers", 0),
            "raise `horizon`",
        ),
        ({"estimator": "no.such.module"}, ("estimator",), "cannot import `no.such.module`"),
        (
            {"estimator": "yaml.error"},
            ("estimator",),
            "`yaml.error` is no part of an objective: it lacks SOURCE",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_change(section: Any, where: tuple[str, ...], message: str) -> None:
    [(location, said)] = errors(section)
    assert location == where
    assert message in said


def test_errors_keep_their_place_inside_a_spec() -> None:
    class Spec(BaseModel):
        objective: ObjectiveConfig

    with pytest.raises(ValidationError) as caught:
        Spec.model_validate({"objective": {"clip_low": 2}})
    assert caught.value.errors()[0]["loc"] == ("objective", "clip_low")


def test_options_of_a_part_that_was_replaced_fall_away() -> None:
    config = read({"preset": "grpo", "ratio": "reinforce", "estimator": "rloo"})
    assert not {"clip_high", "std", "eps"} & set(config.options)


@pytest.mark.parametrize(
    ("section", "knob", "start"),
    [
        ("repo_r", "strength", 1e-3),
        ({"preset": "repo", "entropy_bonus": 0.01}, "strength", 1e-3),
        ("entropy_bonus", "entropy_bonus", 1e-3),
        ({"preset": "entropy_bonus", "shaper": "repo_r"}, "entropy_bonus", 1e-3),
        ({"preset": "entropy_bonus", "controller": "geometric_signed"}, "entropy_bonus", 1e-3),
        ({"preset": "rloo", "entropy_bonus": 0.01, "controller": "geometric"}, "entropy_bonus", 0.01),
        ({"controller": {"start": 0.01}}, "strength", 0.01),
        ({"controller": {"knob": "clip_high", "type": "geometric", "high": 1}}, "clip_high", 0.28),
    ],
)
def test_a_controller_moves_the_shaper_before_the_bonus(section: Any, knob: str, start: float) -> None:
    config = read(section)
    [controller] = config.create_controllers()
    assert (config.knobs, config.options[knob], controller.value) == ([knob], start, start)


def test_a_controller_is_laid_over_the_one_of_the_preset() -> None:
    [same] = read({"preset": "repo_r", "controller": {"target": 0.5}}).controllers
    [other] = read({"preset": "repo_r", "controller": "geometric"}).controllers
    assert (same.type, same.options["target"], same.options["high"]) == ("geometric_signed", 0.5, 0.05)
    assert (other.type, other.options["high"]) == ("geometric", 0.1)
    assert read({"controller": "none"}).controllers == ()


@pytest.mark.parametrize(
    ("section", "warning"),
    [
        ({"preset": "repo", "controller": "none"}, "`strength: 0.001` is fixed"),
        ({"preset": "entropy_bonus", "controller": "none"}, "`entropy_bonus: 0.001` is fixed"),
        ({"preset": "repo", "entropy_bonus": 0.01}, "`entropy_bonus: 0.01` is fixed"),
        ({"reading": "raw"}, "chases the bandit"),
        ({"preset": "rloo_on_policy", "updates": 4}, "stale samples"),
        ({"preset": "gspo", "updates": 1}, "does nothing with one update a step"),
        ("epo", "`epo_strength: 0.001` is fixed"),
        (
            {"preset": "repo", "controller": {"type": "schedule", "end": 0.1}},
            "`strength: 0.001` is fixed",
        ),
        ({"preset": "adapo", "updates": 1}, "the controller moves `clip_high`, which does nothing"),
        ({"preset": "kl_cov", "terms": []}, "nothing holds the policy near the start of the step"),
        ({"preset": "copo", "plans": "dynamic_sampling"}, "learns from groups without spread"),
        ({"preset": "hapo", "clip_high": 0.28}, "are one range in HAPO"),
        ({"preset": "kl_cov", "kl_cov_fraction": 0.2}, "0.2"),
        ({"preset": "gspo", "aggregation": "token_mean"}, "long answers count more"),
    ],
)
def test_what_is_allowed_and_usually_a_mistake_is_warned_of(section: Any, warning: str) -> None:
    [said] = read(section).warnings()
    assert warning in said


@pytest.mark.parametrize(
    "controller",
    [
        {"type": "dual_ascent", "rate": -0.01, "low": -1},
        {"type": "dual_ascent", "metric": "kl_ref", "target": 0.1, "low": -1},
    ],
    ids=["at most so much entropy", "not of entropy"],
)
def test_a_controller_that_steers_the_right_way_or_no_entropy_is_taken(controller: Any) -> None:
    assert read({"preset": "entropic", "controller": controller}).knobs == ["entropic_alpha"]


@pytest.mark.parametrize(
    "section",
    [
        {"mismatch": "geo_mask"},
        {"mismatch": "off_policy_mask", "off_policy_mask_delta": 0.1},
        {"mismatch": ["tis", "geo_mask"], "tis_cap": None},
    ],
)
def test_a_mask_alone_weighs_nothing(section: Any) -> None:
    assert not read({"preset": "rloo", **section}).weighs_mismatch
    assert read({"preset": "rloo", "mismatch": ["icepop", "geo_mask"]}).weighs_mismatch


def test_what_is_sound_is_not_warned_of() -> None:
    sound = [
        *(set(PRESETS) - {"epo"}),
        {"preset": "repo_r", "controller": "none"},
        {"preset": "rloo", "reading": "raw"},
    ]
    assert not [(section, said) for section in sound if (said := read(section).warnings())]


def test_reading_a_section_does_not_load_torch() -> None:
    code = (
        "import sys; from policies.objectives import PRESETS, ObjectiveConfig;"
        "[ObjectiveConfig.model_validate(name).warnings() for name in PRESETS];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_users_part_that_raises_is_told_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "part.py").write_text("SOURCE = ''\n1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    [(location, said)] = errors({"estimator": "broken.part"})
    assert location == ("estimator",)
    assert "`broken.part` cannot be imported: ZeroDivisionError: division by zero, in part.py:2" in said


def test_two_parts_of_one_short_name_are_refused(tmp_path: Path) -> None:
    """Their memory in a checkpoint would be one, and so would `force_<part>`."""
    text = "from policies.objectives.terms import {} as o\nConfig, create, SOURCE = o.Config, o.create, o.SOURCE\n"
    files = [tmp_path / folder / "mine.py" for folder in ("a", "b")]
    for file, ours in zip(files, ("entropy_bonus", "squared_log_ratio"), strict=True):
        file.parent.mkdir()
        file.write_text(text.format(ours))
    with pytest.raises(ValidationError, match="are both called `mine` in records: rename one"):
        ObjectiveConfig.model_validate({"preset": "rloo", "terms": [f"{file}:create" for file in files]})
    ObjectiveConfig.model_validate({"preset": "rloo", "terms": [f"{files[0]}:create", "squared_log_ratio"]})


@pytest.mark.parametrize("field", ["entropy_bonus", "kl", "clip_high"])
def test_what_no_tensor_holds_is_refused(field: str) -> None:
    with pytest.raises(ValidationError, match="fits into a tensor"):
        ObjectiveConfig.model_validate({"preset": "entropy_bonus", "controller": "none", field: 1e308})
