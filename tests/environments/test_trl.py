"""TRL's environment classes: rows reset them, methods are tools, reward functions read their state."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from environments import EnvironmentFault, EnvironmentSource
from environments.checker import check
from environments.scoring.jobs import ScoringJob, play
from environments.tools import message_of, read_calls
from tests.environments.checker.here import findings_here

MINE = '''
import random
from typing import Literal

class Vault:
    def __init__(self):
        self.reward = 0.0

    def reset(self, code, **row) -> str | None:
        self.code, self.reward, self.hints = code, 0.0, 0
        return f" There are {random.randint(3, 9)} clocks."

    def hint(self, place: int, form: Literal["digit", "parity"] = "digit") -> str:
        """Tell a digit of the code.

        Args:
            place: Which digit, from 0
                to 2.
            form: What to tell of it.

        Returns:
            The digit.
        """
        self.hints += 1
        return self.code[place] if form == "digit" else str(int(self.code[place]) % 2)

    def open(self, code: str) -> str:
        """Try to open the vault.

        Args:
            code: Three digits.
        """
        if len(code) != 3:
            raise ValueError("three digits, please")
        self.reward = float(code == self.code)
        return "open" if self.reward else "closed"

    def get_reward(self):
        return self.reward / 2

def opened(environments, prompts, **kwargs) -> list[float]:
    print("rewards are silent")
    assert [message["role"] for message in prompts[0]] == ["user"]
    return [one.reward for one in environments]

def sparing(completions, environments, level, log_metric=None, **kwargs):
    assert level == ["easy"] and completions[0][0]["role"] == "assistant"
    assert "<tool_call>" not in "".join(message["content"] for message in completions[0])
    return [1.0 if len(completions[0]) < 4 else 0.0]

class Mute:
    def reset(self, **row):
        return None

    def shout(self, loud):
        """Shout."""
'''
VAULT = {"environment_factory": "./mine.py:Vault", "train": "rows.jsonl", "reward": "./mine.py:opened"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    rows = [
        {"prompt": [{"role": "user", "content": f"Open vault {n}."}], "code": f"{n:03}", "level": "easy"}
        for n in range(120)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def made(folder):
    return lambda **options: EnvironmentSource("vault", "trl", {**VAULT, **options}, str(folder)).create()


def call(name, **arguments):
    return f"<think>hm</think>\n<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def played(environment, completions, index=7):
    task = environment.task("all", index)
    return [play(environment, ScoringJob(task, tuple(completions[: n + 1]))) for n in range(len(completions))]


def test_the_checker_finds_nothing(folder):
    source = EnvironmentSource("vault", "trl", VAULT, str(folder))
    assert {found.rule for found in findings_here(source)} == {"no-answer"}


def test_a_vault_that_all_episodes_share_is_found(folder):
    (folder / "shared.py").write_text(MINE.replace("self.code, self.reward", "Vault.code, self.reward"))
    options = {**VAULT, "environment_factory": "./shared.py:Vault", "reward": "./shared.py:opened"}
    found = findings_here(EnvironmentSource("vault", "trl", options, str(folder)))
    assert {"no-answer", "episode-replay"} == {one.rule for one in found}


def test_legal_answers_are_calls_of_the_tools_with_arguments_of_their_types(made):
    environment, rng = made(), np.random.default_rng(0)
    task = environment.task("all", 0)
    drawn = [environment.legal_answer(task, rng) for _ in range(200)]
    calls = [one for answer in drawn for one in read_calls(answer)]
    assert len(drawn) > len(calls) > 150
    assert {one.name for one in calls} == {"hint", "open"}
    for one in calls:
        assert one.fault is None
        if one.name == "open":
            assert isinstance(one.arguments["code"], str)
        else:
            assert isinstance(one.arguments["place"], int)
            assert one.arguments.get("form", "digit") in ("digit", "parity")


@pytest.mark.slow
def test_the_checker_finds_nothing_in_processes_of_their_own(folder):
    assert {found.rule for found in check(EnvironmentSource("vault", "trl", VAULT, str(folder)))} == {"no-answer"}


def test_tools_are_schemas_before_the_conversation(made):
    tools, user = made().task("all", 7).messages
    assert user["content"].startswith("Open vault 7. There are ")
    assert tools["role"] == "tools"
    hint, opening = (one["function"] for one in json.loads(tools["content"]))
    assert opening["parameters"] == {
        "type": "object",
        "properties": {"code": {"type": "string", "description": "Three digits."}},
        "required": ["code"],
    }
    assert hint["description"] == "Tell a digit of the code."
    assert hint["parameters"]["required"] == ["place"]
    assert hint["parameters"]["properties"]["place"] == {"type": "integer", "description": "Which digit, from 0 to 2."}
    assert hint["parameters"]["properties"]["form"]["enum"] == ["digit", "parity"]
    own = made(system="Be brief.").task("all", 7).messages
    assert [message["role"] for message in own] == ["tools", "system", "user"]


@pytest.mark.parametrize(
    "reply",
    [
        '{"name": "hint", "parameters": {"place": 2}}',
        '<|python_tag|>{"name": "hint", "parameters": {"place": 2}}',
        '[TOOL_CALLS] [{"name": "hint", "arguments": {"place": 2}, "id": "a1b2c3d4e"}]',
        '<think>Which?</think>\n[{"name": "hint", "arguments": {"place": 2}}]',
    ],
)
def test_calls_are_read_in_the_forms_of_other_models_too(made, reply):
    (turn,) = played(made(), [reply])
    assert [dict(message) for message in turn.messages] == [{"role": "tool", "content": "7"}]


@pytest.mark.parametrize(
    "reply", ['{"name": "hint"}', '{"name": "hint", "parameters": {}, "sum": 4}', "[]", "[7]", "{", "[" * 10_000]
)
def test_other_json_is_an_answer(made, reply):
    assert played(made(), [reply])[0].done


def test_several_calls_in_a_list_are_made_in_order_and_faults_are_told(made):
    calls = [{"name": "hint", "arguments": {"place": 2}}, {"name": "shut", "arguments": {}}]
    (turn,) = played(made(), [json.dumps(calls)])
    assert turn.messages[0]["content"] == "7"
    assert "there is no tool 'shut'" in turn.messages[1]["content"]
    (turn,) = played(made(), ['{"name": "hint", "parameters": [2]}'])
    assert "`parameters` is no JSON object" in turn.messages[0]["content"]


def test_calls_are_answered_until_a_reply_has_none(made):
    vault = made()
    two = call("hint", place=2) + call("hint", place=1, form="parity").removeprefix("<think>hm</think>")
    turns = played(vault, [two, call("open", code="007"), "Done."])
    assert [dict(message) for message in turns[0].messages] == [
        {"role": "tool", "content": "7"},
        {"role": "tool", "content": "0"},
    ]
    assert [turn.done for turn in turns] == [False, False, True]
    assert [turn.score.value for turn in turns] == [0.0, 1.0, 1.0]
    assert turns[-1].score.correct
    assert turns[-1].score.components["calls"] == 3


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (call("open", code="7"), "three digits, please"),
        (call("open"), "missing 1 required positional argument"),
        (call("reset", code="000"), "there is no tool 'reset', only hint, open"),
        ("<tool_call>{]</tool_call>", "the call is no JSON"),
        ('<tool_call>{"name": "open", "arguments": [1]}</tool_call>', "no JSON object"),
        ("<tool_call>[]</tool_call>", "a call is"),
    ],
)
def test_what_is_wrong_with_a_call_is_told_to_the_policy(made, reply, told):
    (turn,) = played(made(), [reply])
    assert not turn.done
    assert told in turn.messages[0]["content"]


def test_an_open_call_is_none(made):
    assert played(made(), ['<tool_call>{"name": "open"'])[0].done


def test_turns_end_and_templates_without_tools_get_users(made):
    first, last = played(made(turns=2, tool_role="user"), [call("hint", place=2)] * 2)
    assert dict(first.messages[0]) == {"role": "user", "content": "<tool_response>\n7\n</tool_response>"}
    assert (first.done, last.done) == (False, True)


def test_rewards_get_environments_completions_and_columns(made):
    both = made(reward=["./mine.py:opened", "./mine.py:sparing"])
    score = played(both, [call("open", code="007"), "Done."])[-1].score
    assert (score.value, score.components["opened"], score.components["sparing"]) == (1.0, 1.0, 1.0)
    long = played(both, [call("hint", place=0)] * 3 + ["Done."])[-1].score
    assert (long.value, long.components["sparing"]) == (0.0, 0.0)
    assert played(made(reward=None), [call("open", code="007")])[-1].score.value == 0.5


HINT = '<tool_call>\n{"name": "hint", "arguments": {"place": 2}}\n</tool_call>'


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (HINT, {"content": ""}),
        (f"I ask. \n\n{HINT}\n", {"content": "I ask."}),
        (f"First {HINT} last {HINT}", {"content": "last"}),
        (f"<think>\nWhich?\n</think>\n\nThis.\n{HINT}", {"reasoning_content": "Which?", "content": "This."}),
        (f"Which?</think>{HINT}", {"reasoning_content": "Which?", "content": ""}),
        ('{"name": "hint", "parameters": {"place": 2}}', {"content": ""}),
        ("<think>So</think>\nIt is open.", {"reasoning_content": "So", "content": "It is open."}),
        (f"<think>So {HINT}", {"reasoning_content": f"So {HINT}", "content": ""}),
        (f"{HINT} <tool_call>[]</tool_call>", {"content": f"{HINT} <tool_call>[]</tool_call>"}),
        (f"{HINT} <tool_call>[", {"content": f"{HINT} <tool_call>["}),
    ],
)
def test_rewards_get_replies_with_text_reasoning_and_calls_apart(reply, said):
    message = message_of(reply, list(read_calls(reply)))
    made = [call["function"] for call in message.pop("tool_calls", [])]
    assert message == {"role": "assistant", **said}
    hint = {"name": "hint", "arguments": {"place": 2}}
    assert all(one == hint for one in made if one["name"])


def test_rows_alone_do_not_fill_environments(folder):
    options = {"train": "rows.jsonl", "reward": "./mine.py:opened"}
    with pytest.raises(EnvironmentFault, match="nothing here fills its parameter 'environments'"):
        EnvironmentSource("rows", "rows", options, str(folder)).create()


def test_held_out_files_are_kept(folder, made):
    held_out = {"prompt": [{"role": "user", "content": "Open the last one."}], "code": "999", "level": "easy"}
    (folder / "held.jsonl").write_text(json.dumps(held_out) + "\n")
    vault = made(holdout="held.jsonl")
    assert vault.pool(vault.task("all", 120)) in ("anchor", "select")
    assert vault.pool(vault.task("all", 3)) == "train"


def test_what_is_no_environment_class_is_refused(made):
    with pytest.raises(EnvironmentFault, match="the tool shout has no type hint for its argument 'loud'"):
        made(environment_factory="./mine.py:Mute")
    with pytest.raises(EnvironmentFault, match="no method `get_reward`"):
        made(environment_factory="./mine.py:Mute", reward=None)
    with pytest.raises(ValidationError, match=r"expected ./file.py:Class"):
        made(environment_factory="Vault")


PECULIAR = """
class Peculiar:
    def reset(self, **row):
        self.asked = 0

    @property
    def secret(self):
        raise RuntimeError("it was looked at")

    @classmethod
    def build(cls, size: int):
        \"\"\"Build one.\"\"\"

    def ask(self, what: str) -> str:
        \"\"\"Ask.\"\"\"
        return what

    def get_reward(self):
        return 1.0

def make():
    return Peculiar()

class Slow(Peculiar):
    async def reset(self, **row):
        pass

class Judged(Peculiar):
    async def get_reward(self):
        return 1.0

def nothing(environments, **row):
    return [0.0]
"""


@pytest.mark.parametrize("factory", ["Peculiar", "make"])
def test_tools_are_the_methods_that_trl_takes_and_nothing_else_is_looked_at(folder, made, factory):
    """Functions of the class: no property, which would be evaluated, and no class method."""
    (folder / "peculiar.py").write_text(PECULIAR)
    environment = made(environment_factory=f"./peculiar.py:{factory}", reward=None)
    assert (environment.tools, environment.warnings) == (["ask"], ())
    assert played(environment, ["done"])[-1].score.value == 1.0


def test_a_reward_of_the_class_that_is_not_asked_is_told(folder, made):
    (folder / "peculiar.py").write_text(PECULIAR)
    environment = made(environment_factory="./peculiar.py:Peculiar", reward="./peculiar.py:nothing")
    assert played(environment, ["done"])[-1].score.value == 0.0
    (said,) = environment.warnings
    assert said.startswith("`get_reward()` of the class is not asked, as `reward` is given; TRL would add it")


@pytest.mark.parametrize(("factory", "method"), [("Slow", "reset"), ("Judged", "get_reward")])
def test_methods_that_are_async_are_refused(folder, made, factory, method):
    (folder / "peculiar.py").write_text(PECULIAR)
    with pytest.raises(EnvironmentFault, match=f"`{method}` is async; make it a plain method"):
        made(environment_factory=f"./peculiar.py:{factory}", reward=None)
    if method == "get_reward":
        made(environment_factory=f"./peculiar.py:{factory}", reward="./peculiar.py:nothing")
