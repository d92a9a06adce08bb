"""docs/rewards.md stays true: its functions run, its sections are read, its table names every reward."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from environments.rewards import Attempt, make_reward
from environments.rewards.config import REWARDS

GUIDE = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text()
SECTIONS = [
    section
    for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    for text in re.split(r"^(?=reward:)", block, flags=re.MULTILINE)
    if text.startswith("reward:")
    for section in [yaml.safe_load(text)["reward"]]
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A user's folder with the guide's functions."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_rewards.py").write_text(re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)[1])
    yield tmp_path
    sys.modules.pop("my_rewards", None)


@pytest.mark.parametrize("section", SECTIONS, ids=str)
def test_every_section_is_read_and_built(section, folder):
    make_reward(section, str(folder))


def test_the_functions_do_what_is_said(folder):
    def value(section, completion, truth="4"):
        return make_reward(section, str(folder)).score(Attempt(completion, completion, truth)).value

    assert len(SECTIONS) >= 7
    assert value("my_rewards:compute_score", "it is 4") == 1.0
    assert value({"type": "my_rewards:is_short", "limit": 3}, "four") == 0.0
    distance = next(s for s in SECTIONS if isinstance(s, dict) and s["type"] == "my_rewards:distance")
    assert [value(distance, said) for said in ("4", "6", "many")] == [1.0, 0.5, 0.0]


def test_the_table_names_every_reward():
    named = set(re.findall(r"^\| `([a-z_]+)` \|", GUIDE, re.MULTILINE))
    assert named == set(REWARDS.built_in()) - {"combined"}
