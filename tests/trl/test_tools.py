"""A class for `environment_factory` is the same environment in TRL's GRPOTrainer and here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trl.here import printed


@pytest.mark.slow
def test_tools_prompt_replies_and_reward_are_trls(tmp_path: Path) -> None:
    found = printed("tests.trl.tools", tmp_path)
    assert [tool["function"]["name"] for tool in found["ours"]["tools"]] == ["enter", "hint"]
    assert found["ours"]["tools"] == found["trl"]["tools"]
    assert found["ours"]["prompt"] == found["trl"]["prompt"]
    assert "<tools>" in found["ours"]["prompt"]
    assert found["ours"]["replies"] == found["trl"]["replies"]
    assert found["ours"]["replies"][:2] == ["4", "1"]
    assert found["ours"]["reward"] == found["trl"]["reward"] == 1.0
