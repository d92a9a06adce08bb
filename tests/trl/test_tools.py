"""A class for `environment_factory` is the same environment in TRL's GRPOTrainer and here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trl.here import printed


@pytest.mark.slow
def test_tools_prompt_conversation_and_reward_are_trls(tmp_path: Path) -> None:
    found = printed("tests.trl.tools", tmp_path)
    assert [tool["function"]["name"] for tool in found["ours"]["tools"]] == ["enter", "hint"]
    assert found["ours"]["tools"] == found["trl"]["tools"]
    assert found["ours"]["prompt"] == found["trl"]["prompt"]
    assert "<tools>" in found["ours"]["prompt"]
    assert found["ours"]["conversation"] == found["trl"]["conversation"]
    said = [message for message in found["ours"]["conversation"] if message["role"] == "assistant"]
    assert [one["content"] for one in said] == ["", "I try what is short.", "Then all.", "It should be.", "It is open."]
    assert [len(one.get("tool_calls", ())) for one in said] == [2, 1, 1, 1, 0]
    assert found["ours"]["reward"] == found["trl"]["reward"] == 1.0
