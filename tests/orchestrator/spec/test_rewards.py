"""Rewards inside an environment's options: errors find their way out, every option shows, `--set` reaches them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec import load_spec

TEXT = """\
environments:
  mine:
    type: rows
    train: rows.jsonl
    reward:
"""


def load(folder: Path, reward: str, *overrides: str) -> Any:
    path = folder / "spec.yaml"
    path.write_text(TEXT.rstrip("\n") + reward + "\n")
    return load_spec(path, overrides).environments["mine"].options["reward"]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (" exat", "line 5: environments.mine.reward: there is no reward type 'exat'. Did you mean exact? There are: "),
        (
            "\n      type: exact\n      ignore_cas: true",
            "line 7: environments.mine.reward.ignore_cas: unknown key. Did you mean 'ignore_case'?",
        ),
        (
            "\n      - numeric\n      - type: exact\n        ignore_cas: true",
            "line 8: environments.mine.reward.1.ignore_cas: unknown key. Did you mean 'ignore_case'?",
        ),
        (
            "\n      type: combined\n      parts:\n        - {type: exact, ignore_cas: 1}",
            "line 8: environments.mine.reward.parts.0.ignore_cas: unknown key. Did you mean 'ignore_case'?",
        ),
        (
            "\n      {type: json_schema, shema: {}}",
            "line 6: environments.mine.reward.shema: unknown key. Did you mean 'schema'?",
        ),
        (
            " {type: countdown, format_value: 2}",
            "line 5: environments.mine.reward.format_value: input should be less than 1, not 2",
        ),
        (" {type: 'a:b', scale: [1, 0]}", "environments.mine.reward.scale: scale is [lowest, highest]"),
        ("", "environments.mine.reward: expected the name of a reward, a map with `type`, or a list of those"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_reward_is_told_with_key_and_line(tmp_path: Path, reward: str, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        load(tmp_path, reward)
    assert message in str(refused.value)


def test_the_resolved_spec_shows_every_option_and_reads_as_itself(tmp_path: Path) -> None:
    reward = load(tmp_path, " [{type: countdown, weight: 2}, mine:bonus]")
    assert reward == {
        "type": "combined",
        "parts": [
            {"type": "countdown", "format_value": 0.1, "weight": 2.0},
            {"type": "mine:bonus", "scale": None, "correct_at": 1.0, "weight": 1.0},
        ],
        "correct": None,
    }
    assert load(tmp_path, f" {reward!r}".replace("None", "null")) == reward


def test_an_option_is_changed_from_the_command_line(tmp_path: Path) -> None:
    changed = load(tmp_path, " countdown", "environments.mine.reward.format_value=0")
    assert changed == {"type": "countdown", "format_value": 0.0}
