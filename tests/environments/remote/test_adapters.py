"""NeMo Gym's and OpenEnv's protocols, against replies in the form that their sources give them.

NVIDIA-NeMo/Gym: nemo_gym/base_resources_server.py, responses_api_agents/simple_agent/app.py,
resources_servers/example_session_state_mgmt/app.py. meta-pytorch/OpenEnv: src/openenv/core/env_server/http_server.py,
types.py, serialization.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import pytest
from aiohttp import WSMsgType, web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from environments import EnvironmentFault, EnvironmentSource, Scorer, ScoringJob
from environments.checker.findings import CheckLimits
from environments.remote import client as clients
from environments.remote.nemo_gym import split_calls
from environments.remote.openenv import OpenEnvOptions
from orchestrator.runs.api import run
from orchestrator.runs.catalog import opened
from tests.environments.checker.here import findings_here
from tests.environments.remote.server import Server, wait_until

UNHURRIED = {"timeout_s": 20.0, "retry_s": 20.0, "patience_s": 0}  # a slow machine changes no answer


def scorer_of(source):
    return Scorer([source], {source.name: source.create()})


def turns_of(scorer, task, *completions, name="one"):
    return [scorer.turns([ScoringJob(task, completions[:n], name)])[0] for n in range(1, len(completions) + 1)]


# --- NeMo Gym ---------------------------------------------------------------------------------------------

COUNT_TOOL = {
    "type": "function", "name": "increment_counter", "description": "Add to the counter", "strict": True,
    "parameters": {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]},
}  # fmt: skip
ROWS = [
    {
        "responses_create_params": {
            "input": [
                {"role": "developer", "content": "You count."},
                {"role": "user", "content": [{"type": "input_text", "text": f"Add {n}, then say done."}]},
            ],
            "tools": [COUNT_TOOL],
        },
        "initial_count": 3, "expected_count": 3 + n, "level": "easy" if n < 20 else "hard",
    }
    for n in range(1, 41)
]  # fmt: skip


def call(name="increment_counter", **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def counting(server):
    """A stateful counter as NeMo Gym's example has it: sessions by cookie."""
    counters, server.asked, server.verified, server.statuses = {}, [], {}, []
    server.proxy_text = "by a proxy"

    async def openapi(request):
        routes = ("/seed_session", "/verify", "/increment_counter", "/aggregate_metrics")
        return web.json_response({"openapi": "3.1.0", "paths": {route: {"post": {}} for route in routes}})

    async def seed_session(request):
        name = f"s{len(counters)}"
        counters[name] = (await request.json())["initial_count"]
        response = web.json_response({})
        if (cookie := server.cookie(name)) is not None:
            response.set_cookie("session", cookie, httponly=True, samesite="lax")
        return response

    async def increment_counter(request):
        server.asked.append(request.cookies.get("session"))
        if server.statuses:
            return web.Response(status=server.statuses.pop(0), text=server.proxy_text)
        asked = await request.json()
        if not isinstance(asked.get("count"), int):
            return web.json_response({"detail": [{"loc": ["body", "count"], "type": "int_parsing"}]}, status=422)
        counters[request.cookies["session"]] += asked["count"]
        return web.json_response({"success": True})

    async def verify(request):
        body = await request.json()
        server.verified = body
        reward = float(counters[request.cookies["session"]] == body["expected_count"])
        return web.json_response({**body, "reward": reward, "mask_sample": False, "failure_kind": None, **server.more})

    server.more, server.cookie = {}, lambda name: name
    app = web.Application()
    app.router.add_get("/openapi.json", openapi)
    for handler in (seed_session, increment_counter, verify):
        app.router.add_post(f"/{handler.__name__}", handler)
    return app


@pytest.fixture
def gym():
    with Server(counting) as made:
        yield made


def gym_source(server, folder, rows=ROWS, **options):
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = {"tasks": "rows.jsonl", "category": "level", **options}
    return EnvironmentSource(
        "count", "http", {"protocol": "nemo_gym", "urls": [server.url], "nemo_gym": given, **UNHURRIED}, str(folder)
    )


def test_rows_of_nemo_gym_are_tasks_that_tell_their_tools(gym, tmp_path):
    count = gym_source(gym, tmp_path).create()
    assert [(c.name, count.size(c.name)) for c in count.categories] == [("easy", 19), ("hard", 21)]
    system, user = count.task("hard", 0).messages
    assert user == {"role": "user", "content": "Add 20, then say done."}
    assert system["content"].startswith("You count.\n\nYou may call functions")
    assert json.dumps(COUNT_TOOL, sort_keys=True) in system["content"]
    other = gym_source(gym, tmp_path, ROWS[:-1]).create()
    assert count.version.startswith("nemo_gym+")
    assert other.version != count.version


def test_calls_go_to_the_tools_of_a_session_and_the_whole_is_verified(gym, tmp_path):
    with scorer_of(gym_source(gym, tmp_path)) as scorer:
        task = scorer._environments["count"].task("easy", 4)
        first, second, last = turns_of(
            scorer, task, f"Let me. {call(count=2)}{call(count='no')}", call(count=3), "done"
        )
        assert [message["role"] for message in first.messages] == ["tool", "tool"]
        assert json.loads(first.messages[0]["content"]) == {"success": True}
        assert "int_parsing" in first.messages[1]["content"], "what a tool says of a mistake is read"
        assert (second.done, last.done, last.score.value, last.score.correct) == (False, True, 1.0, True)
        assert len(set(gym.asked)) == 1
        items = gym.verified["response"]["output"]
        assert [item["type"] for item in items] == [
            "message", "function_call", "function_call_output", "function_call", "function_call_output",
            "function_call", "function_call_output", "message",
        ]  # fmt: skip
        assert items[1]["call_id"] == items[2]["call_id"] != items[3]["call_id"]
        assert items[-1]["content"][0]["text"] == "done"
        (replayed,) = scorer.turns([ScoringJob(task, (call(count=2), call(count=3), "done"))])
        assert replayed == last


@pytest.mark.parametrize(
    "said", [call("verify"), call("aggregate_metrics"), "<tool_call>{</tool_call>", "<tool_call>[]</tool_call>"]
)
def test_a_policy_reaches_no_route_but_the_rows_tools(gym, tmp_path, said):
    with scorer_of(gym_source(gym, tmp_path)) as scorer:
        (turn,) = turns_of(scorer, scorer._environments["count"].task("easy", 0), said)
    assert json.loads(turn.messages[0]["content"])["error"].startswith("a call is a JSON object")
    assert not gym.verified


@pytest.mark.parametrize(
    ("cookie", "reasons"),
    [
        (None, ["bad reply: no cookie, which would be the session"] * 2),
        ("one for all", [None, "bad reply: it begins an episode by the name of one that lives"]),
    ],
)
def test_a_session_that_cannot_be_told_from_others_is_refused(gym, tmp_path, cookie, reasons):
    gym.cookie = lambda name: cookie
    with scorer_of(gym_source(gym, tmp_path)) as scorer:
        task = scorer._environments["count"].task("easy", 4)
        turns = [turns_of(scorer, task, call(count=5), name=name)[0] for name in ("one", "another")]
    assert [turn.score and turn.score.reason for turn in turns] == reasons


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_a_proxy_says_is_no_word_of_a_tool(gym, tmp_path, status):
    gym.statuses = [status]
    with scorer_of(gym_source(gym, tmp_path)) as scorer:
        first, last = turns_of(scorer, scorer._environments["count"].task("easy", 4), call(count=5), "done")
    assert json.loads(first.messages[0]["content"]) == {"success": True}, "begun anew, and asked again"
    assert last.score.value == 1.0
    assert len(set(gym.asked)) == 2

    gym.statuses = [status] * 100
    with scorer_of(gym_source(gym, tmp_path)) as scorer:
        (turn,) = turns_of(scorer, scorer._environments["count"].task("easy", 4), call(count=5))
    assert turn.score.value is None
    assert f"({status})" in turn.score.reason


def test_a_tool_that_sends_elsewhere_says_nothing(gym, tmp_path):
    gym.statuses = [307]
    with scorer_of(gym_source(gym, tmp_path)) as scorer:
        (turn,) = turns_of(scorer, scorer._environments["count"].task("easy", 4), call(count=5))
    assert turn.score.reason == "refused: 307"


def test_a_tool_that_refuses_our_token_is_no_tool(gym, tmp_path, monkeypatch):
    monkeypatch.setenv("GYM_TOKEN", "hush-hush")
    gym.statuses = [401, 401]
    with scorer_of(gym_source(gym, tmp_path)) as scorer:
        (turn,) = turns_of(scorer, scorer._environments["count"].task("easy", 4), call(count=5))
    assert turn.messages[0]["content"] == "by a proxy", "without a token of ours it is the tool's to say"
    source = gym_source(gym, tmp_path)
    with_token = replace(source, options={**source.options, "token_env": "GYM_TOKEN"})
    with scorer_of(with_token) as scorer:
        (turn,) = turns_of(scorer, scorer._environments["count"].task("easy", 4), call(count=5))
    assert turn.score.reason == "token refused"


@pytest.mark.parametrize(
    ("more", "value", "reason"),
    [
        ({"mask_sample": True, "failure_kind": "judge_unavailable"}, None, "masked: judge_unavailable"),
        ({"reward": -1}, 0.0, None),
        ({"reward": 0.5, "reward_components": {"form": 1.0}}, 0.75, None),
        ({"reward": 3}, None, "bad value: float above 1; a value lies in 0..1"),
        ({"reward": "much"}, None, "bad reply: reward: input should be a valid number"),
    ],
)
def test_what_a_verifier_says_is_a_score(gym, tmp_path, more, value, reason):
    gym.more = more
    with scorer_of(gym_source(gym, tmp_path, worth=[-1, 1])) as scorer:
        (turn,) = turns_of(scorer, scorer._environments["count"].task("easy", 0), "done")
    assert (turn.score.value, turn.score.reason) == (value, reason)
    assert dict(turn.score.components) == more.get("reward_components", {})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "line 1, cannot be played: has no 'responses_create_params'"),
        ({"responses_create_params": {"input": "x"}}, "has no 'level'"),
        ({"responses_create_params": {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}}, "of text"),
        ({"responses_create_params": {"input": "x", "tools": [{"type": "web_search"}]}}, "no function that can be"),
        ({"responses_create_params": {"input": "x", "tools": [{**COUNT_TOOL, "name": "verify"}]}}, "'verify' is no"),
        ({"responses_create_params": {"input": "x", "tools": ["search"]}}, "line 1, .* its tool 'search' is no func"),
        ({"responses_create_params": {"input": "x", "tools": {"name": "search"}}}, "its tool 'name' is no function"),
        ({"responses_create_params": {"input": [{"role": "user", "content": ["hi"]}]}}, "line 1, .* of text"),
    ],
)
def test_rows_that_cannot_be_played_are_refused_by_line(gym, tmp_path, row, said):
    with pytest.raises(EnvironmentFault, match=said):
        gym_source(gym, tmp_path, [row]).create()


def test_rows_may_hold_what_other_files_end_lines_by(gym, tmp_path):
    source = gym_source(gym, tmp_path)
    rows = [{"responses_create_params": {"input": f"a\u2028b\x85c{n}"}, "level": "one"} for n in range(2)]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "rows.jsonl").write_text(text + "\r\n", "utf-8")
    count = source.create()
    assert [count.task("one", n).messages[0]["content"] for n in range(count.size("one"))] == [
        "a\u2028b\x85c0", "a\u2028b\x85c1",
    ]  # fmt: skip


PIECES = st.lists(st.sampled_from(["<tool_call>", "</tool_call>", " ", "\n", "\u3000", "a", "{}", "<", "tool_call>"]))


@given(said=PIECES.map("".join))
def test_calls_are_what_stands_between_an_opening_tag_and_the_next_closing_one(said):
    pattern = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
    assert split_calls(said) == (pattern.findall(said), pattern.sub("", said))


@pytest.mark.parametrize(
    ("piece", "num"), [("\n", 0), ("<tool_call>", 0), ("<tool_call>\n", 0), ("</tool_call>", 1), (call(), 100_000)]
)
def test_calls_are_read_at_once_whatever_a_policy_repeats(piece, num):
    calls, text = split_calls("<tool_call>" + piece * 100_000)
    assert (len(calls), text == "<tool_call>" + piece * 100_000) == (num, num == 0)


def test_what_is_no_resources_server_is_refused(tmp_path):
    with Server() as other, pytest.raises(EnvironmentFault, match=r"no resources server answers \(refused: 404"):
        gym_source(other, tmp_path).create()
    with pytest.raises(ValidationError, match=r"nemo_gym: \{tasks: FILE\}"):
        EnvironmentSource("count", "http", {"protocol": "nemo_gym", "urls": ["http://a"]}).build()


# --- OpenEnv ----------------------------------------------------------------------------------------------


def echoing(server):
    """A game over OpenEnv's routes: say the number that the seed hides, at most three times."""
    server.resets, server.live, server.most, server.trouble = [], 0, 64, "boom"
    server.sent_to, server.hangs_up = None, False

    def begun(data):
        server.resets.append(data)
        text = "endless" if server.protocol == 0 else f"seed {data['seed']} {data.get('level', '')}"
        if server.protocol == "silent":
            text = "I think of a number."
        if server.protocol == 0:
            text += str(len(server.resets))
        return {"observation": {"prompt": text, "messages": []}, "reward": None, "done": False}

    async def metadata(request):
        return web.json_response({"name": "guess", "description": "", "version": "1.2", "author": None})

    async def reset(request):
        return web.json_response(begun(await request.json()))

    async def socket(request):
        if server.sent_to is not None:
            raise web.HTTPTemporaryRedirect(server.sent_to)
        made = web.WebSocketResponse()
        await made.prepare(request)
        if server.live >= server.most:
            await made.send_json({"type": "error", "data": {"message": "full", "code": "CAPACITY_REACHED"}})
            await made.close()
            return made
        server.live += 1
        seed, said = 0, 0
        async for heard in made:
            asked = json.loads(heard.data) if heard.type is WSMsgType.TEXT else {"type": "close"}
            if asked["type"] == "close" or server.hangs_up:
                break
            if asked["type"] == "reset":
                seed = asked["data"]["seed"]
                await made.send_json({"type": "observation", "data": begun(asked["data"])})
                continue
            said, text = said + 1, asked["data"].get("text")
            if text == "bytes":
                await made.send_bytes(b"{}")
                continue
            if text == "hang up":
                server.most -= 1
                break
            if text in ("raise", "wrong"):
                code = {"raise": "EXECUTION_ERROR", "wrong": "VALIDATION_ERROR"}[text]
                await made.send_json({"type": "error", "data": {"message": server.trouble, "code": code}})
                continue
            is_right = text == str(seed)
            observation = {"prompt": f"not {text}" if asked["data"].get("polite") else "no"}
            reward = None if text == "no reward" else 1.0 if is_right else 0.25
            data = {"observation": observation, "reward": reward, "done": is_right or said == 3}
            await made.send_json({"type": "observation", "data": {**data, "metadata": {"step": said}}})
        server.live -= 1
        await made.close()
        return made

    app = web.Application()
    app.router.add_get("/metadata", metadata)
    app.router.add_post("/reset", reset)
    app.router.add_get("/ws", socket)
    return app


@pytest.fixture
def env():
    with Server(echoing) as made:
        yield made


def env_source(server, **options):
    given = {
        "action": "text", "action_with": {"polite": True}, "observation": "prompt", "system": "Find the number.",
        "categories": {"low": {"level": 1}, "high": {"level": 2}}, "tasks": 40, **options,
    }  # fmt: skip
    return EnvironmentSource(
        "guess", "http", {"protocol": "openenv", "urls": [server.url], "openenv": given, **UNHURRIED}
    )


def test_seeds_of_openenv_are_tasks(env):
    guess = env_source(env).create()
    assert [(c.name, guess.size(c.name)) for c in guess.categories] == [("low", 40), ("high", 40)]
    assert guess.version.startswith("openenv+1.2+")
    assert guess.version != env_source(env, numbered=True).create().version
    options = OpenEnvOptions(**env_source(env).options["openenv"]).model_dump(mode="json")
    del options["numbered"]  # a run that began before there was such an option is told of no change
    digest = hashlib.sha256(json.dumps(options, separators=(",", ":")).encode()).hexdigest()[:12]
    assert guess.version == f"openenv+1.2+{digest}"
    assert guess.task("high", 39).messages == (
        {"role": "system", "content": "Find the number."}, {"role": "user", "content": "seed 39 2"},
    )  # fmt: skip
    assert env.resets[-1] == {"seed": 39, "level": 2}
    whole = env_source(env, observation=None, system=None).create().task("low", 1)
    assert json.loads(whole.messages[0]["content"]) == {"prompt": "seed 1 1", "messages": []}


def test_games_of_openenv_that_begin_alike_are_tasks_where_they_have_a_number(env):
    env.protocol = "silent"
    with pytest.raises(EnvironmentFault, match=r"begins alike with the seeds 0 to 7, .* `openenv.numbered: true`"):
        env_source(env).create()
    guess = env_source(env, numbered=True).create()
    tasks = [guess.task("low", index) for index in range(3)]
    assert [task.messages[-1]["content"] for task in tasks] == [f"Game {n}.\n\nI think of a number." for n in range(3)]
    with scorer_of(env_source(env, numbered=True)) as scorer:
        (turn,) = scorer.turns([ScoringJob(tasks[2], ("2",), "an episode")])
    assert (turn.done, turn.score.value) == (True, 1.0)
    assert len(env_source(env, tasks=1).create().task("low", 0).messages) == len(tasks[0].messages)


def test_an_episode_of_openenv_is_a_connection(env):
    with scorer_of(env_source(env)) as scorer:
        task = scorer._environments["guess"].task("low", 7)
        first, last = turns_of(scorer, task, "5", "7")
        assert first.messages == ({"role": "user", "content": "not 5"},)
        assert (first.done, first.score.value) == (False, 0.25)
        assert (last.done, last.score.value, last.messages) == (True, 1.0, ())
        (replayed,) = scorer.turns([ScoringJob(task, ("5", "7"))])
        assert replayed == last
        turns_of(scorer, task, "5", name="cut off")
    assert env.live == 0


def test_a_server_of_one_session_has_room_when_an_episode_is_cut_off(env):
    env.most = 1
    with scorer_of(env_source(env)) as scorer:
        for index in range(3):
            task = scorer._environments["guess"].task("low", index)
            (turn,) = turns_of(scorer, task, "no number", name=f"row {index}")
            assert turn.score.value == 0.25
            scorer.end([ScoringJob(task, ("no number",), f"row {index}")])


def test_rewards_may_be_summed_and_have_another_range(env):
    with scorer_of(env_source(env, reward="sum", worth=[0, 2])) as scorer:
        task = scorer._environments["guess"].task("low", 7)
        assert [turn.score.value for turn in turns_of(scorer, task, "1", "2", "7")] == [0.125, 0.25, 0.75]


@pytest.mark.parametrize(
    ("kind", "said", "values"),
    [
        ("sum", ("no reward", "1", "no reward"), [None, 0.125, 0.125]),
        ("sum", ("1", "no reward", "7"), [0.125, 0.125, 0.625]),
        ("last", ("1", "no reward", "no reward"), [0.125, None, None]),
    ],
)
def test_a_turn_without_a_reward_leaves_the_sum_as_it_is(env, kind, said, values):
    with scorer_of(env_source(env, reward=kind, worth=[0, 2])) as scorer:
        task = scorer._environments["guess"].task("low", 7)
        turns = turns_of(scorer, task, *said)
    assert [turn.score and turn.score.value for turn in turns] == values


def test_a_token_that_openenv_says_back_is_masked_for_people_and_refused_for_the_policy(env, monkeypatch):
    monkeypatch.setenv("GAME_TOKEN", "hush-hush")
    source = env_source(env)
    source.options["token_env"] = "GAME_TOKEN"
    with scorer_of(source) as scorer:
        task = scorer._environments["guess"].task("low", 7)
        (turn,) = turns_of(scorer, task, "hush-hush")
        assert turn.score.reason == "bad reply: it holds the token of `token_env`"
        env.trouble = "who says hush-hush?"
        (turn,) = turns_of(scorer, task, "raise", name="another")
        assert turn.score.reason == "failed: EXECUTION_ERROR who says ***?"


@pytest.mark.parametrize("written", ["hush-hush", '{"seen": "hush\\u002dhush"}'])
def test_a_token_that_a_tool_says_back_is_refused(gym, tmp_path, monkeypatch, written):
    monkeypatch.setenv("GYM_TOKEN", "hush-hush")
    gym.statuses, gym.proxy_text = [404], written
    source = gym_source(gym, tmp_path)
    with scorer_of(replace(source, options={**source.options, "token_env": "GYM_TOKEN"})) as scorer:
        (turn,) = turns_of(scorer, scorer._environments["count"].task("easy", 4), call(count=5))
    assert turn.score.reason == "bad reply: it holds the token of `token_env`"


def test_a_connection_that_is_sent_to_another_host_is_refused(env):
    asked = list[str]()

    def elsewhere(server):
        async def note(request):
            asked.append(request.path)
            return web.Response()

        app = web.Application()
        app.router.add_get("/{path}", note)
        return app

    with Server(elsewhere) as other, scorer_of(env_source(env)) as scorer:
        env.sent_to = f"{other.url}/ws"
        (turn,) = turns_of(scorer, scorer._environments["guess"].task("low", 7), "7")
        assert turn.score.reason == "refused: 307 no WebSocket"
        assert asked == []


def test_trouble_of_openenv_is_told_apart(env):
    source = env_source(env)
    source.options["retry_s"] = 1.0
    with scorer_of(source) as scorer:
        task = scorer._environments["guess"].task("low", 7)
        assert turns_of(scorer, task, "raise", name="a")[0].score.reason == "failed: EXECUTION_ERROR boom"
        assert turns_of(scorer, task, "wrong", name="b")[0].score.reason == "refused: 422 VALIDATION_ERROR"
        assert turns_of(scorer, task, "hang up", name="c")[0].score.reason == "episode lost: connection closed"
        env.most = 0
        reason = turns_of(scorer, task, "1", name="d")[0].score.reason
        assert reason == "no server: busy (CAPACITY_REACHED)"


def test_a_connection_that_is_given_up_is_closed(env):
    env.most = 1
    with scorer_of(env_source(env)) as scorer:
        task = scorer._environments["guess"].task("low", 7)
        (turn,) = turns_of(scorer, task, "bytes", name="a")
        assert turn.score.reason == "episode lost: connection closed", "the others had a place each time"
        wait_until(lambda: env.live == 0)


def test_an_environment_without_seeds_is_refused(env):
    env.protocol = 0
    with pytest.raises(EnvironmentFault, match="begins otherwise each time it is reset with seed 0"):
        env_source(env).create()


def test_an_episode_that_begins_otherwise_than_its_task_is_unscorable(env):
    with scorer_of(env_source(env)) as scorer:
        task = scorer._environments["guess"].task("low", 7)
        env.protocol = 0
        assert turns_of(scorer, task, "1")[0].score.reason == "the episode begins otherwise than its task"


def test_episodes_are_begun_where_a_server_still_has_the_environment(env, gym, tmp_path):
    with Server(echoing) as other, Server() as stranger:
        games, counts = env_source(env), gym_source(gym, tmp_path)
        games.options["urls"], counts.options["urls"] = [env.url, other.url], [gym.url, stranger.url]
        with scorer_of(games) as scorer:
            task = scorer._environments["guess"].task("low", 7)
            env.protocol = 0  # begins otherwise
            played = [turns_of(scorer, task, "5", "7", name=f"row {i}")[-1].score.value for i in range(12)]
            assert played == [1.0] * 12
            why = "the episode begins otherwise than its task"
            assert scorer.take_news() == [f"guess: {env.url} is set aside: 3 failures in a row, the last: {why}"]
            assert env.live == 0
        with scorer_of(counts) as scorer:
            task = scorer._environments["count"].task("easy", 4)
            said = turns_of(scorer, task, call(count=5), "done", name="first")
            servers = scorer._environments["count"]._client.servers
            servers.load(gym.url, 1)  # the stranger is picked first
            played = [turns_of(scorer, task, call(count=5), "done", name=f"row {i}") for i in range(12)]
            assert played == [said] * 12
            (news,) = scorer.take_news()
            assert news.startswith(f"count: {stranger.url} is set aside: 3 failures in a row, the last: refused: 404")


def test_a_server_that_takes_connections_and_hangs_up_is_set_aside(env):
    """Its plain routes may do well: the tasks came from it."""
    with Server(echoing) as other:
        source = env_source(env)
        source.options["urls"] = [env.url, other.url]
        with scorer_of(source) as scorer:
            task = scorer._environments["guess"].task("low", 7)
            env.hangs_up = True
            played = [turns_of(scorer, task, "7", name=f"row {i}")[-1].score.value for i in range(6)]
            assert played == [1.0] * 6
            why = "3 failures in a row, the last: connection closed"
            assert scorer.take_news() == [f"guess: {env.url} is set aside: {why}"]
            wait_until(lambda: env.live == 0)


def test_the_checker_finds_no_error_in_either(env, gym, tmp_path, monkeypatch):
    monkeypatch.setattr(clients, "FIRST_PAUSE_S", 0.02)
    few = CheckLimits(tasks=3, scan=20, budget_s=0.2)
    for source in (env_source(env), gym_source(gym, tmp_path)):
        findings = findings_here(source, few)
        assert {f.rule for f in findings if f.severity == "error"} <= {"pool-train", "pool-held-out"}, findings
    with pytest.raises(ValidationError, match="is for `protocol: openenv`, not evergreen"):
        EnvironmentSource("a", "http", {"urls": ["http://a"], "openenv": {}}).build()


def test_both_are_trained_on(env, gym, tmp_path):
    sources = gym_source(gym, tmp_path), env_source(env)
    spec = {
        "name": "both", "policy": {"model": "tiny", "layers": 1, "hidden": 16, "mlp": 16},
        "environments": {one.name: {"type": one.type, **one.options} for one in sources},
        "curriculum": {"stages": 2, "scheduler": "round_robin", "stage": {"steps": 1, "replay": 0}},
        "step": {"groups": 2, "group_size": 2}, "sampler": {"type": "transformers", "max_tokens": 8, "turn_tokens": 2},
        "evaluate": {"items": 2, "samples": 4}, "resources": {"search_path": str(tmp_path)}, "tracker": "none",
    }  # fmt: skip
    assert run(spec, home=tmp_path / "home").status == "finished"
    assert gym.verified["response"]["output"], "a session came to its end"
    with opened(tmp_path / "home", "both") as (_, ledger):
        steps = list(ledger.reading.steps("both"))
        unscorable = [one.text for one in ledger.reading.events("both") if "unscorable" in one.text]
    assert [step.num_samples for step in steps] == [4, 4]
    assert unscorable == []


def test_a_server_of_one_session_is_trained_on_by_one_episode_after_the_other(env, tmp_path):
    env.most = 1
    source = env_source(env)
    spec = {
        "name": "one", "policy": {"model": "tiny", "layers": 1, "hidden": 16, "mlp": 16},
        "environments": {"guess": {"type": "http", **source.options, "episodes_per_server": 1, "retry_s": 20}},
        "curriculum": {"stages": 1, "stage": {"steps": 1}},
        "step": {"groups": 2, "group_size": 2}, "sampler": {"type": "transformers", "max_tokens": 6, "turn_tokens": 2},
        "evaluate": {"items": 2, "samples": 4}, "tracker": "none",
    }  # fmt: skip
    assert run(spec, home=tmp_path / "home").status == "finished"
    with opened(tmp_path / "home", "one") as (_, ledger):
        assert [one.text for one in ledger.reading.events("one") if one.kind in ("unscorable", "scorer")] == []
