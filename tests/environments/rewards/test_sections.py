import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from environments import EnvironmentFault
from environments.rewards import Attempt, RewardSection, make_reward
from environments.rewards.config import REWARDS

GRADERS = "tests.environments.rewards.graders"


class Options(BaseModel):
    reward: RewardSection


def resolved(raw):
    return Options(reward=raw).model_dump(mode="json")["reward"]


@pytest.mark.parametrize(
    ("raw", "whole"),
    [
        ("countdown", {"type": "countdown", "format_value": 0.1}),
        (
            {"type": "exact", "ignore_case": True},
            {"type": "exact", "ignore_case": True, "ignore_space": False},
        ),
        (
            {"type": "json_schema", "schema": {"type": "integer"}},
            {"type": "json_schema", "schema": {"type": "integer"}, "format_value": 0.0},
        ),
        ("a.b:f", {"type": "a.b:f", "scale": None, "correct_at": 1.0}),
        (
            {"type": "a.b:f", "scale": [-1, 1], "depth": 3},
            {"type": "a.b:f", "scale": [-1.0, 1.0], "correct_at": 1.0, "depth": 3},
        ),
        (
            [{"type": "countdown", "weight": 2}, "a.b:f"],
            {
                "type": "combined",
                "parts": [
                    {"type": "countdown", "format_value": 0.1, "weight": 2.0},
                    {"type": "a.b:f", "scale": None, "correct_at": 1.0, "weight": 1.0},
                ],
                "correct": None,
            },
        ),
    ],
)
def test_what_is_read_shows_every_option_and_reads_as_itself(raw, whole):
    assert resolved(raw) == whole
    assert resolved(whole) == whole


@pytest.mark.parametrize(
    ("raw", "place", "message"),
    [
        ("exat", (), r"no reward type 'exat'. Did you mean exact\? There are: choice, code_tests, .*package.module:f"),
        ({"type": "exact", "ignore_cas": 1}, ("ignore_cas",), "Extra inputs"),
        (["exact", {"type": "exact", "ignore_cas": 1}], (1, "ignore_cas"), "Extra inputs"),
        (["exact", "exat"], (1,), "Did you mean exact"),
        (["exact", ["exact"]], (1,), "no further combination"),
        ([{"type": "exact", "weight": -1}], (0, "weight"), "greater than or equal to 0"),
        ([{"type": "exact", "weight": 0}], (), "every part has weight 0"),
        ([], ("parts",), "at least 1"),
        ({"type": "exact", "weight": 2}, (), "only in a list"),
        ({"typ": "exact"}, (), "a map with `type`"),
        (3, (), "expected the name of a reward"),
        ({"type": "a:b", "scale": [1, 0]}, ("scale",), "lowest first"),
        ({"type": "a:b", "scale": [0, "inf"]}, ("scale", 1), "finite"),
        ({"type": "a:b", "correct_at": 2}, ("correct_at",), "less than or equal to 1"),
        ({"type": "combined", "parts": ["exact", "exact"], "correct": "exact_3"}, (), "mean 'exact_2'"),
        ({"type": "combined", "parts": ["exact", {"type": "exact", "x": 1}]}, ("parts", 1, "x"), "Extra inputs"),
        ({"type": "regex", "pattern": "("}, ("pattern",), "does not compile"),
        ({"type": "json_schema", "schema": {"type": "nonsense"}}, ("schema",), "is not one"),
        ({"type": "choice", "letters": "AA"}, ("letters",), "different letters"),
        ({"type": "choice", "letters": "A-D"}, ("letters",), "different letters"),
        ({"type": "choice", "options": "a b"}, ("options",), "neither a column path"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(raw, place, message):
    with pytest.raises(ValidationError, match=message) as refused:
        Options(reward=raw)
    assert refused.value.errors()[0]["loc"] == ("reward", *place)


def test_rewards_are_listed_and_the_package_is_imported_without_importing_any():
    assert {
        "choice",
        "code_tests",
        "combined",
        "countdown",
        "exact",
        "json_schema",
        "math",
        "numeric",
        "regex",
    } == set(REWARDS.built_in())
    code = (
        "import sys; from environments.rewards.config import REWARDS; REWARDS.built_in();"
        "print([m for m in sys.modules if m in ('jsonschema', 'math_verify', 'sympy')"
        " or m.startswith('environments.rewards.co') and not m.endswith(('contracts', 'config'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_function_is_found_in_the_users_folder_which_comes_last(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_rewards_for_a_test.py").write_text("def always(attempt):\n    return 1.0\n")
    for section in ("my_rewards_for_a_test:always", ["my_rewards_for_a_test:always", "exact"]):
        reward = make_reward(section, str(tmp_path))
        assert reward.score(Attempt("a", "a", "a")).value == 1.0
    assert sys.path[-1] == str(tmp_path)
    sys.modules.pop("my_rewards_for_a_test")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("no_such_module:f", "reward type 'no_such_module:f': no module"),
        (f"{GRADERS}:missing", r"graders.py has no function 'missing'; expected one that is called as compute_score"),
        (f"{GRADERS}:no_function", "has no function 'no_function'"),
        (f"{GRADERS}:later", "it is async"),
        (f"{GRADERS}:unknown_words", r"its parameters are \(reply, truth\); expected a function called as"),
        (f"{GRADERS}:wants_state", "nothing here fills its parameter 'trainer_state'"),
        (f"{GRADERS}:wants_more", "nothing here fills its parameter 'tokenizer'"),
        (f"{GRADERS}:only_by_place", "nothing here fills its parameter 'attempt'"),
        ({"type": f"{GRADERS}:near", "mots": 3}, "it has no parameter 'mots'; it takes attempt, most"),
    ],
)  # fmt: skip
def test_a_function_that_cannot_be_used_says_why(section, message):
    with pytest.raises(EnvironmentFault, match=message):
        make_reward(section)


@pytest.mark.parametrize(("reward", "package"), [("math", "math_verify"), ("json_schema", "jsonschema")])
def test_a_missing_extra_is_named_by_what_installs_it(reward, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'evergreen-rl\[rewards\]'"):
        make_reward(reward)
