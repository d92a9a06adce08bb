"""An environment in servers: what it says, how it is played, and every way in which servers misbehave."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

import pytest
from aiohttp import web
from pydantic import ValidationError

from environments import EnvironmentFault, EnvironmentSource, NoTasks, Scorer, ScoringJob, ScoringOptions
from environments.checker import check
from environments.checker.findings import CheckLimits
from environments.contracts import RemoteEnvironment, RemoteFault
from environments.remote import client as clients
from environments.remote import servers as listing
from environments.remote.servers import Servers
from environments.scoring.remote import RemotePlays
from tests.environments.checker.here import findings_here
from tests.environments.remote.server import Server, hangs_up, says, sleeps, wait_until, writes
from tests.source_lines import place

HELD = "bad reply: it holds the token of `token_env`"
UNHURRIED = {"timeout_s": 20.0, "retry_s": 20.0, "patience_s": 0}  # a slow machine changes no answer


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(clients, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(listing, "PAUSE_S", 0.3)
    monkeypatch.setattr(listing, "READ_EVERY_S", 0.0)


@pytest.fixture
def server():
    with Server() as made:
        yield made


def source_of(*servers, **options):
    where = {} if "urls_file" in options else {"urls": [server.url for server in servers]}
    return EnvironmentSource("game", "http", {**where, **UNHURRIED, **options})


def scorer_of(source):
    return Scorer([source], {source.name: source.create()}, ScoringOptions(workers=1))


def play(scorer, *completions, index=0, name="an episode", between=lambda: None):
    """Play an episode turn by turn; the last turn."""
    task = scorer._environments["game"].task("short", index)
    for n in range(1, len(completions) + 1):
        (turn,) = scorer.turns([ScoringJob(task, completions[:n], name)])
        if n < len(completions):
            between()
    return turn


def reason(scorer, **how):
    turn = play(scorer, "a", **how)
    assert turn.done
    assert turn.score is not None
    assert turn.score.value is None
    return turn.score.reason


# --- what it says -----------------------------------------------------------------------------------------


def test_servers_say_what_they_are(server):
    game = source_of(server).create(lambda text: None)
    assert [(c.name, c.trainable, game.size(c.name)) for c in game.categories] == [
        ("short", True, 30), ("long", False, None),
    ]  # fmt: skip
    assert (game.version, game.max_tokens, game.symbols, game.lease_s) == ("7", 64, ("ok",), 60.0)
    assert not ScoringOptions(isolation="process").model_fields_set - {"isolation"}
    assert source_of(server, max_tokens=9).create().max_tokens == 9


def test_tasks_come_in_pages_and_are_kept(server):
    game = source_of(server).create()
    assert [game.task("short", i).messages[0]["content"] for i in range(30)] == [f"short {i}" for i in range(30)]
    assert game.task("long", 10**9).answer == f"long {10**9}"
    assert server.count("tasks") == 2
    with pytest.raises(EnvironmentFault, match="category 'short' has no task 30, only 30"):
        game.task("short", 30)
    with pytest.raises(EnvironmentFault, match="no category 'none'; it has: short, long"):
        game.size("none")


def test_of_long_tasks_fewer_are_kept(server, monkeypatch):
    async def long_ones(request):
        start, num = (int(request.query[key]) for key in ("start", "count"))
        texts = [f"{index} {'x' * 1000}" for index in range(start, start + num)]
        return web.json_response({"tasks": [{"messages": [{"role": "user", "content": text}]} for text in texts]})

    server.always("tasks", long_ones)
    game, most = source_of(server).create(), 100_000  # a page of 64 has more than half
    monkeypatch.setattr("environments.http.MOST_KEPT_BYTES", most)
    for index in (0, 64, 0, 128, 0):
        assert game.task("long", index).messages[0]["content"].startswith(f"{index} x")
        kept = sum(len(text.messages[0]["content"]) for text in game._kept.values())
        assert 64_000 < kept < most, "the last ones that were asked for"
    assert server.count("tasks") == 3
    monkeypatch.setattr("environments.http.MOST_KEPT_BYTES", 1000)
    assert game.task("long", 640).index == 640, "a page that is too long by itself is given all the same"


def test_a_server_may_give_shorter_pages(server):
    server.page = 4
    game = source_of(server).create()
    assert game.task("short", 29).answer == "short 29"
    assert game.task("long", 7).answer == "long 7"


def test_tasks_that_cannot_be_had_are_a_fault(server):
    game = source_of(server, retry_s=0.5).create()
    server.always("tasks", says(503))
    with pytest.raises(NoTasks, match=r"task 0 of category 'short' cannot be had .* \(no server: unavailable") as none:
        game.task("short", 0)
    assert (none.value.environment, none.value.category, none.value.reason) == (
        "game", None, "no server: unavailable (503)",
    )  # fmt: skip
    server.troubles.clear()
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:  # until it is tried again
        with suppress(NoTasks):
            assert game.task("short", 0).answer == "short 0"
            break
    server.always("tasks", writes(b"<html>"))
    with pytest.raises(NoTasks, match="bad reply: not JSON") as none:
        game.task("long", 0)
    assert none.value.category == "long", "the server answers: others of its categories may have tasks"


def test_tasks_that_a_slice_cannot_have_are_told_by_its_name(server, monkeypatch):
    monkeypatch.setattr("environments.http.MOST_KEPT", 1)
    server.page = 1
    game = source_of(server, retry_s=0, slices={"by": "length"}).create()
    category = game.categories[0].name
    server.next("tasks", says(503), writes(b"<html>"), writes(b"<html>"))
    for told in (None, category):
        with pytest.raises(NoTasks) as none:
            game.task(category, 0)
        assert (none.value.environment, none.value.category) == ("game", told)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either `urls`, a list, or `urls_file`"),
        ({"urls": ["ftp://somewhere"]}, "named like http://127.0.0.1:8400"),
        ({"urls": ["http://games..cluster"]}, "named like http://127.0.0.1:8400"),
        ({"urls": ["http://me:secret@host"]}, "token_env: NAME"),
        ({"urls": ["http://me:secret@host:99999"]}, "token_env: NAME"),
        ({"urls": ["http://me:se/secret@host"]}, "token_env: NAME"),
        ({"urls": ["me:secret@host:80"]}, "token_env: NAME"),
        ({"urls": ["http://host?key=secret"]}, "not 'http://host' and more"),
        ({"urls": ["ftp://host#secret"]}, "not 'ftp://host' and more"),
        ({"urls": ["http://a", "http://a/"]}, "listed twice"),
        ({"urls": ["http://a", "http://A:80"]}, "listed twice"),
        ({"urls": ["http://127.0.0.1:8400/game", "http://Localhost:8400/game/"]}, "listed twice"),
        ({"urls": ["http://a"], "token_env": "NOT A NAME"}, "token_env"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, said):
    with pytest.raises(ValidationError) as refused:
        EnvironmentSource("game", "http", options).build()
    assert said in str(refused.value)
    assert "secret" not in str(refused.value).partition("[type=")[0]


@pytest.mark.parametrize("url", ["http://me:secret@host:99999", "http://host?key=secret", "me:secret@host"])
def test_a_password_in_a_url_of_a_file_is_not_told(tmp_path, url):
    (tmp_path / "servers.txt").write_text(url)
    with pytest.raises(EnvironmentFault, match=r"servers.txt cannot be used") as refused:
        source_of(urls_file=str(tmp_path / "servers.txt")).build()
    assert "secret" not in str(refused.value)
    (tmp_path / "servers.txt").write_text("http://host/@scope/game")
    source_of(urls_file=str(tmp_path / "servers.txt")).build()


def test_nobody_answers():
    game = EnvironmentSource("game", "http", {"urls": ["http://127.0.0.1:9"], **UNHURRIED})
    said = r"game: no server answers as one of environments at http://127.0.0.1:9 \(connection refused\): start it"
    with pytest.raises(EnvironmentFault, match=said):
        game.create()
    game.build()  # to score with it asks for nothing


@pytest.mark.parametrize(
    ("categories", "said"),
    [
        ([], "categories: list should have at least 1 item"),
        ([{"name": "a", "size": 0}], r"categories.\*.size: input should be greater than or equal to 1"),
        ([{"name": "a", "size": 2**70}], r"categories.\*.size: input should be less than or equal to 9007199254740992"),
        (
            [{"name": "a", "size": 1, "parameters": {"x": [float("nan")]}}],
            r"categories.\*.parameters: numbers should be finite",
        ),
        ([{"name": "a", "size": "x"}], r"categories.\*.size: input should be a valid integer"),
    ],
)
def test_what_a_server_should_have_said_is_told_in_words(server, categories, said):
    server.next("environment", says(200, {"protocol": 1, "version": "1", "categories": categories}))
    with pytest.raises(EnvironmentFault, match=f"bad reply: {said}(?!,| after)"):
        source_of(server).create()


def test_servers_of_something_else_are_refused(server, monkeypatch):
    server.next("environment", says(404), says(200, {"protocol": 2}), writes(b"<html>"), says(200, {"protocol": 1}))
    for said in (
        "is it the URL of a server of this protocol",
        "speaks version 2 of the protocol, this is version 1",
        "bad reply: not JSON",
        "bad reply: version: is required",
    ):
        with pytest.raises(EnvironmentFault, match=said):
            source_of(server).create()
    server.token = "the right one"
    with pytest.raises(EnvironmentFault, match=r"refuses the token \(HTTP 401\)"):
        source_of(server).create()
    with pytest.raises(EnvironmentFault, match="`token_env` names GAME_TOKEN, which is not set"):
        source_of(server, token_env="GAME_TOKEN").create()
    monkeypatch.setenv("GAME_TOKEN", "the right one")
    assert source_of(server, token_env="GAME_TOKEN").create().version == "7"


def test_servers_that_differ_are_refused_and_one_that_is_away_is_told(server):
    with Server() as other:
        other.version = "8"
        with pytest.raises(EnvironmentFault, match=r"serve different environments \(version 7 and 8"):
            source_of(server, other).create()
    (remark,) = source_of(server, other).create().remarks
    assert remark == f"does not answer and is tried again later: {other.url} (connection refused)"


# --- played in lockstep -----------------------------------------------------------------------------------


def test_episodes_go_on_where_they_began(server):
    with scorer_of(source_of(server)) as scorer:
        assert not scorer.isolates("game")
        tasks = [scorer._environments["game"].task("short", i) for i in range(20)]
        said = [(), (), ()]
        for n, words in enumerate((["a"] * 20, ["b"] * 20, [task.answer for task in tasks])):
            said = [(*one, word) for one, word in zip(said or [()] * 20, words, strict=True)] if n else [
                (word,) for word in words
            ]  # fmt: skip
            turns = scorer.turns(
                [ScoringJob(t, s, f"row {i}") for i, (t, s) in enumerate(zip(tasks, said, strict=True))]
            )
        assert [turn.score.value for turn in turns] == [1.0] * 20
        assert turns[0].score.components == {"turns": 3.0}
        assert (server.count("episodes"), server.count("turns"), server.count("close")) == (20, 60, 0)


def test_replayed_or_live_in_the_trainer_or_a_script_the_turns_are_the_same(server):
    game, said = source_of(server).create(), ("a", "b \x00\u202e", "short 3")
    with scorer_of(source_of(server)) as scorer:
        for n in (1, 2, 3):
            task = game.task("short", 3)
            live, replayed = scorer.turns([ScoringJob(task, said[:n], "one"), ScoringJob(task, said[:n])])
            episode = game.start(task)
            blocking = [episode.step(completion) for completion in said[:n]][-1]
            assert live == replayed == blocking
        assert live.score.correct


def test_what_is_cut_off_is_closed_when_its_player_says_so_and_holds_nobody(server, monkeypatch):
    monkeypatch.setattr(clients, "CLOSE_S", 1.0)
    server.next("close", sleeps, says(500), hangs_up)
    with scorer_of(source_of(server)) as scorer:
        task = scorer._environments["game"].task("short", 0)
        jobs = [ScoringJob(task, ("a",), f"row {n}") for n in range(5)]
        assert all(turn.messages for turn in scorer.turns(jobs))
        scorer.end([*jobs[:4], ScoringJob(task, ("a",), "another")])
        (last,) = scorer.turns([ScoringJob(task, ("a", "b"), "row 4")])
        assert last.messages, "the fifth goes on where it was"
        wait_until(lambda: server.count("close") >= 4)  # a farewell that was hung up on may be said twice
        assert server.count("episodes") == 5
        environment = scorer._environments["game"]
        assert environment._client.servers._of(server.url).load == 1, "what is cut off is no load"
        assert play(scorer, "a", "b", "short 0", name="row 0").score.value == 1.0, "begun anew, if it is asked for"


def gated(server, monkeypatch):
    """Have a server answer farewells when it is told to; here they are waited for as long."""
    monkeypatch.setattr(clients, "CLOSE_S", 60.0)
    gate = threading.Event()

    async def waits(request):
        while not gate.is_set():
            await asyncio.sleep(0.01)
        return await server._close(request)

    server.always("close", waits)
    return gate


def cut_off(scorer, num):
    """Begin so many episodes and end them after a turn."""
    task = scorer._environments["game"].task("short", 0)
    jobs = [ScoringJob(task, ("a",), f"row {n}") for n in range(num)]
    assert all(turn.messages for turn in scorer.turns(jobs))
    scorer.end(jobs)


def all_said(scorer):
    return lambda: not scorer._remote._farewells


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (says(503), ["503"]),
        (says(500), ["500"]),
        (hangs_up, ["connection reset"]),
        (says(401), []),
        (says(405), []),
        (says(429), []),
    ],
)
def test_farewells_that_fail_set_no_server_aside_and_are_told_once(server, trouble, said):
    with scorer_of(source_of(server)) as scorer:
        server.always("close", trouble)
        cut_off(scorer, 5)
        wait_until(lambda: server.count("close") >= 5)  # one that was hung up on may be said twice
        wait_until(all_said(scorer))
        what = "episodes that are cut off go on there until their lease ends"
        assert scorer.take_news() == [
            f"game: {server.url} fails to take goodbyes (DELETE: {cause}): {what}" for cause in said
        ]
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
        cut_off(scorer, 3)
        wait_until(all_said(scorer))
        assert scorer.take_news() == []


def test_farewells_that_are_answered_do_not_speak_for_a_server(server, monkeypatch):
    monkeypatch.setattr(listing, "PAUSE_S", 60.0)
    with scorer_of(source_of(server)) as scorer:
        play(scorer, "a")
        servers = scorer._environments["game"]._client.servers
        for _ in range(3):
            servers.unanswered(server.url, "timed out")
        scorer.end([ScoringJob(scorer._environments["game"].task("short", 0), ("a",), "an episode")])
        wait_until(lambda: server.count("close") == 1)
        wait_until(all_said(scorer))
        assert servers.next_s() > 0, "it is set aside still"


def test_farewells_take_no_room_from_turns_and_wait_for_room_of_their_own(server, monkeypatch):
    gate = gated(server, monkeypatch)
    with scorer_of(source_of(server, concurrency=2)) as scorer:
        cut_off(scorer, 7)
        wait_until(lambda: server.count("close") == 2)
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
        assert not gate.is_set()
        assert server.count("close") == 2
        gate.set()
        wait_until(lambda: server.count("close") == 7)
        wait_until(all_said(scorer))
        assert len(server.episodes) == 1, "the one that is over"


def test_a_farewell_that_finds_no_room_during_its_lease_is_left_out(server, monkeypatch):
    server.lease_s = 0.3
    gate = gated(server, monkeypatch)
    with scorer_of(source_of(server, concurrency=1)) as scorer:
        cut_off(scorer, 5)
        wait_until(all_said(scorer))
        assert not gate.is_set()
        assert server.count("close") < 5
        gate.set()


def test_farewells_hold_up_no_end(server, monkeypatch):
    monkeypatch.setattr("environments.scoring.remote.CLOSE_S", 0.1)
    gate = gated(server, monkeypatch)
    with scorer_of(source_of(server, concurrency=2)) as scorer:
        cut_off(scorer, 5)
        wait_until(lambda: server.count("close") == 2)
    assert not gate.is_set()
    assert server.count("close") == 2
    gate.set()


def test_a_server_of_another_version_holds_up_no_beginning(server, monkeypatch):
    with Server() as other, scorer_of(source_of(other, server)) as scorer:
        other.version = "8"
        gate = gated(other, monkeypatch)
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
        wait_until(lambda: other.count("close") == 1)
        assert scorer._environments["game"]._client._farewells, "not answered yet"
        gate.set()
        wait_until(lambda: not other.episodes)


def test_what_nobody_ends_is_closed_by_its_lease_or_at_the_end(server, monkeypatch):
    monkeypatch.setattr("environments.scoring.remote.SWEEP_S", 0.05)
    server.lease_s = 0.1
    with scorer_of(source_of(server)) as scorer:
        play(scorer, "a")
        wait_until(lambda: not server.episodes)
        assert play(scorer, "a", "b", "short 0").score.value == 1.0, "begun anew and replayed"
    server.lease_s = 60.0
    with scorer_of(source_of(server)) as scorer:
        play(scorer, "a")
        play(scorer, "a", name="")
        wait_until(lambda: server.count("close") == 2)
        assert [name for name, one in server.episodes.items() if len(one["heard"]) == 1], "the other lives"
    assert not [one for one in server.episodes.values() if len(one["heard"]) == 1]


def test_at_the_end_episodes_whose_turns_are_under_way_are_closed_too_and_no_server_is_to_blame(server):
    with scorer_of(source_of(server)) as scorer:
        play(scorer, "a")
        server.always("turns", sleeps)
        task = scorer._environments["game"].task("short", 0)
        others = [ScoringJob(task, ("a",), name) for name in ("second", "", "")]
        turns = [scorer._remote.submit(job) for job in (ScoringJob(task, ("a", "b"), "an episode"), *others)]
        wait_until(lambda: server.count("turns") == 5)
        servers = scorer._environments["game"]._client.servers
    assert all(turn.cancelled() for turn in turns)
    assert server.count("close") == 4
    assert servers.pick() == server.url, "it is not set aside"


def test_what_is_begun_anew_after_its_lease_goes_as_it_did_or_is_unscorable(server, monkeypatch):
    monkeypatch.setattr("environments.scoring.remote.SWEEP_S", 0.05)
    server.lease_s = 0.1
    with scorer_of(source_of(server)) as scorer:
        play(scorer, "a")
        wait_until(lambda: not server.episodes)
        server.next("turns", says(200, {"done": False, "messages": [{"role": "user", "content": "another reply"}]}))
        turn = scorer.turns([ScoringJob(scorer._environments["game"].task("short", 0), ("a", "b"), "an episode")])[0]
        assert turn.score.reason == "replayed, the episode goes otherwise", "the policy has read something else"


def test_others_do_not_wait_for_a_slow_episode(server):
    server.next("turns", sleeps)
    with scorer_of(source_of(server, timeout_s=2.0)) as scorer:
        task = scorer._environments["game"].task("short", 0)
        slow = scorer._remote.submit(ScoringJob(task, ("a",), "slow"))
        wait_until(lambda: server.count("turns") == 1)
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
        assert not slow.done()
        assert slow.result().score.reason == "timed out after 2 s (`timeout_s`)"
        assert play(scorer, "a", "b", "short 0", name="slow").score.value == 1.0


def test_who_waits_long_for_a_server_hears_which_and_why(server, monkeypatch):
    monkeypatch.setattr("environments.futures.LONG_S", 0.05)
    monkeypatch.setattr(listing, "LONG_S", 0.1)
    heard = list[str]()
    source = source_of(server, timeout_s=1.0, patience_s=0.3)
    environments = {"game": source.create()}
    with Scorer([source], environments, ScoringOptions(workers=1), heard.append) as scorer:
        server.always("turns", sleeps)
        assert reason(scorer) == "timed out after 1 s (`timeout_s`)"
        assert heard == [f"game waits: {server.url} has not answered for 0 s"], "once in a while"
        heard.clear()
        scorer.tell_waiting._told_at.clear()
        server.stop()
        monkeypatch.setattr(environments["game"]._client, "limits", clients.Limits(1.0, 0.5, 8))
        assert reason(scorer, name="another").startswith("no server: ")
        assert heard[0].startswith(f"game waits: {server.url} does not answer (")
        heard.clear()
        scorer.tell_waiting._told_at.clear()
        with pytest.raises(NoTasks):
            environments["game"].task("long", 0)
        assert heard[0].startswith(f"game waits: {server.url} does not answer (")
        heard.clear()
        scorer.tell_waiting._told_at.clear()
        beside = threading.Thread(target=scorer.tell_waiting)
        beside.start()
        beside.join()
        assert heard == [], "watchers are called in one thread"


@pytest.mark.parametrize("slices", [None, {"by": "length"}])
def test_who_asks_for_tasks_before_there_is_a_run_hears_what_they_wait_for(server, monkeypatch, slices):
    monkeypatch.setattr("environments.futures.LONG_S", 0.05)
    heard, server.page = list[str](), 1
    options = {"retry_s": 0.5} | ({} if slices is None else {"slices": slices})
    server.next("tasks", says(503))
    game = source_of(server, **options).create(heard.append)
    server.always("tasks", says(503))
    with pytest.raises(NoTasks, match=rf"\(no server: .*\): {server.url} does not answer \(unavailable \(503\)\)$"):
        game.task("long", 9)
    assert heard[0].startswith(f"game waits: {server.url} does not answer (")


def test_of_many_servers_that_are_waited_for_some_are_named(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(listing.time, "monotonic", lambda: now[0])
    servers = Servers([f"http://{name}" for name in "abcdef"], None)
    assert servers.waits_for() is None
    servers.unanswered("http://a", "connection refused")
    with servers.asked("http://b"), servers.asked("http://b"):
        now[0] += 3
        assert servers.waits_for() == "http://a does not answer (connection refused)"
        now[0] += 3
        assert servers.waits_for() == (
            "http://a does not answer (connection refused), http://b has not answered for 6 s"
        )
    servers.answered("http://a")
    assert servers.waits_for() is None
    for name in "bcdef":
        servers.unanswered(f"http://{name}", "host not found")
    assert servers.waits_for().endswith("http://d does not answer (host not found) and 2 more servers")


# --- servers that misbehave -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (says(500, {"error": "boom\x1b[2J"}), r"failed: 500 boom\x1b[2J"),
        (says(400, {"error": "say more"}), "refused: 400 say more"),
        (says(422), "refused: 422"),
        (says(307, Location="http://elsewhere"), "refused: 307"),
        (writes(b"<html>"), "bad reply: not JSON"),
        (writes(b"[]"), "bad reply: it: input should be an object"),
        (writes(b'{"done": "yes"}'), "bad reply: done: input should be a valid boolean"),
        (writes(b'{"done": true, "score": {"value": NaN}}'), "bad reply: score.value: input should be a finite number"),
        (writes(b'{"done": true, "score": {"value": 1e999}}'),
         "bad reply: score.value: input should be a finite number"),
        (writes(b'{"done": true, "score": {"value": 1, "components": {"x": []}}}'),
         "bad reply: score.components: input should be a valid number"),
        (writes(b'{"done": false, "messages": [{"role": "user", "content": "\\ud83d"}]}'), "bad reply: not JSON"),
        (writes(b'{"done": false, "messages": [{"role": "god", "content": ""}]}'),
         "bad reply: messages.*.role: input should be 'system', 'user', 'assistant' or 'tool'"),
        (writes(b" " * (clients.MOST_BYTES + 1)), "bad reply: longer than 16 MiB"),
        (writes(b"[" * 100_000), "bad reply: not JSON"),
        (writes(b'{"done": true, "score": {"value": 2}}'), "bad value: float above 1; a value lies in 0..1"),
        (writes(b'{"done": true, "score": {"value": null, "reason": "judge away"}}'), "judge away"),
        (writes(b'{"done": true}'), "no score"),
        (writes(b'{"done": false}'), "no reply"),
    ],
)  # fmt: skip
def test_a_bad_turn_is_unscorable_by_a_fixed_text_and_the_next_is_sound(server, trouble, said):
    server.next("turns", trouble)
    with scorer_of(source_of(server)) as scorer:
        assert reason(scorer) == said
        assert play(scorer, "a", "b", "short 0").score.value == 1.0


def test_what_passes_is_asked_for_again_and_answered_once(server):
    server.next("episodes", says(503), hangs_up, says(429, Retry_After="0"))
    with scorer_of(source_of(server)) as scorer:
        hiccups = iter([says(502), hangs_up, says(429)])
        last = play(scorer, "a", "b", "short 0", between=lambda: server.next("turns", next(hiccups)))
        assert last.score.value == 1.0
        assert server.count("episodes") == 4
        assert [len(one["heard"]) for one in server.episodes.values()] == [3]


def test_a_reply_that_was_lost_on_its_way_is_given_again(server):
    async def hears_and_hangs_up(request):
        await server._turn(request)
        return await hangs_up(request)

    server.next("turns", hears_and_hangs_up)
    with scorer_of(source_of(server)) as scorer:
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
    assert [one["heard"] for one in server.episodes.values()] == [["a", "b", "short 0"]]


def test_a_server_that_restarts_in_mid_episode_costs_nothing(server):
    def restart():
        server.stop()
        server.episodes.clear()
        server.start()

    with scorer_of(source_of(server)) as scorer:
        assert play(scorer, "a", "b", "short 0", between=restart).score.value == 1.0
        assert server.count("episodes") == 3


def test_an_episode_that_goes_otherwise_when_replayed_is_unscorable(server):
    def changes():
        server.episodes.clear()
        server._say = lambda episode: {"done": False, "messages": [{"role": "user", "content": "something else"}]}

    with scorer_of(source_of(server)) as scorer:
        assert play(scorer, "a", "b", between=changes).score.reason == "replayed, the episode goes otherwise"
        server._say = lambda episode: {"done": True, "score": {"value": 1}}
        task = scorer._environments["game"].task("short", 0)
        (turn,) = scorer.turns([ScoringJob(task, ("a", "b"))])
        assert turn.score.reason == "replayed, the episode ends earlier"


def test_an_episode_that_is_lost_again_and_again_is_given_up(server):
    server.always("turns", says(410))
    with scorer_of(source_of(server)) as scorer:
        assert reason(scorer) == "episode lost: gone (410)"
        assert server.count("episodes") == 3


@pytest.mark.parametrize("troubles", [[says(429)] * 3, [says(503)] * 3, [hangs_up] * 3, [says(409)]])
def test_an_episode_that_is_given_up_leaves_its_place_to_the_one_begun_anew(server, troubles):
    server.room = 1
    server.next("turns", *troubles)
    with scorer_of(source_of(server, retry_s=2.0)) as scorer:
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
        assert server.most == 1
        assert server.count("close") >= 1


def test_the_name_of_an_episode_that_is_given_up_is_not_given_again_before_its_farewell_is_answered(
    server, monkeypatch
):
    gate = gated(server, monkeypatch)
    server.next("turns", *[says(429)] * 3)

    async def begins_under_one_name(request):
        server.episodes["e1"] = {"answer": "short 0", "heard": [], "said": []}
        return web.json_response({"episode": "e1", "version": "7"})

    server.always("episodes", begins_under_one_name)
    with scorer_of(source_of(server)) as scorer:
        assert reason(scorer) == "bad reply: it begins an episode by the name of one that lives"
        gate.set()


def test_who_has_lost_an_episode_hears_no_farewell(server):
    server.next("turns", says(404), says(410))
    with scorer_of(source_of(server)) as scorer:
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
    assert (server.count("episodes"), server.count("close")) == (3, 0)


def test_a_token_that_is_refused_later_is_told_and_masked(server, monkeypatch):
    monkeypatch.setenv("GAME_TOKEN", "hush-hush")
    server.token = "hush-hush"
    with scorer_of(source_of(server, token_env="GAME_TOKEN")) as scorer:
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
        server.next("turns", says(400, {"error": "you said hush-hush"}))
        assert reason(scorer) == "refused: 400 you said ***"
        server.token = "another"
        assert reason(scorer) == "token refused"


@pytest.mark.parametrize("written", ["hush/hush+1", "hush\\/hush+1", "hush/hush\\u002B1"])
@pytest.mark.parametrize(
    ("kind", "status", "body", "said"),
    [
        ("turns", 500, f'{{"error": "{"x" * 195}TOKEN"}}', f"failed: 500 {'x' * 195}***"),
        ("turns", 200, '{"done": true, "score": {"value": null, "reason": "TOKEN ends"}}', "*** ends"),
        ("turns", 200, '{"done": false, "messages": [{"role": "user", "content": "TOKEN"}]}', HELD),
        ("turns", 200, '{"done": true, "score": {"value": 1, "components": {"TOKEN": 1}}}', HELD),
        ("tasks", 200, '{"tasks": [{"messages": [{"role": "user", "content": "TOKEN"}]}]}', HELD),
    ],
)  # fmt: skip
def test_a_token_is_masked_for_people_however_it_is_written_and_refused_elsewhere(
    server, monkeypatch, written, kind, status, body, said
):
    async def trouble(request):
        return web.Response(status=status, text=body.replace("TOKEN", written))

    monkeypatch.setenv("GAME_TOKEN", "hush/hush+1")
    server.next(kind, trouble)
    with scorer_of(source_of(server, token_env="GAME_TOKEN")) as scorer:
        if kind == "turns":
            assert reason(scorer) == said
        else:
            with pytest.raises(NoTasks) as none:
                scorer._environments["game"].task("short", 0)
            assert none.value.reason == said


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("1234567", r"GAME_TOKEN \(`token_env`\) holds a token of fewer than 8 characters"),
        ("hush\nhush", r"GAME_TOKEN \(`token_env`\) holds what is no token"),
        ("hush-hüsh", r"GAME_TOKEN \(`token_env`\) holds what is no token"),
        ("\n", "names GAME_TOKEN, which is not set"),
    ],
)
def test_what_is_no_token_is_refused_by_its_variable(server, monkeypatch, token, said):
    monkeypatch.setenv("GAME_TOKEN", token)
    with pytest.raises(EnvironmentFault, match=said) as refused:
        source_of(server, token_env="GAME_TOKEN").create()
    assert token.strip() == "" or token not in str(refused.value)


def test_the_end_of_the_line_is_no_part_of_a_token(server, monkeypatch):
    server.token = "hush-hush"
    monkeypatch.setenv("GAME_TOKEN", "hush-hush\r\n")
    assert source_of(server, token_env="GAME_TOKEN").create().version == "7"


def test_another_version_is_another_environment(server):
    with scorer_of(source_of(server)) as scorer:
        play(scorer, "a")
        server.version = "8"
        assert reason(scorer, name="another") == "a server has another version now"
        with pytest.raises(NoTasks, match="a server has another version now"):
            scorer._environments["game"].task("long", 0)


@pytest.mark.parametrize("version_of_tasks", [True, False])
@pytest.mark.parametrize("how", ["newly listed", "replaced", "silent at first"])
def test_tasks_of_another_version_are_none_of_ours(server, tmp_path, how, version_of_tasks):
    urls = tmp_path / "servers.txt"
    with Server() as other:
        other.version_of_tasks = version_of_tasks
        if how == "silent at first":
            other.stop()
        urls.write_text(server.url if how == "newly listed" else f"{other.url}\n{server.url}")
        game = source_of(urls_file=str(urls)).create()
        if how == "replaced":  # which shows by a call that fails
            other.next("tasks", says(503))
            assert game.task("long", 0).answer == "long 0"
        if how == "silent at first":
            other.start()
        other.version = "8"
        urls.write_text(f"{other.url}\n{server.url}")
        server.log.clear()
        assert [game.task("long", 1000 * i).answer for i in (1, 2, 3)] == ["long 1000", "long 2000", "long 3000"]
        assert server.count("tasks") == 3
        assert other.count("tasks") >= 3, "each was asked for first"
        other.version = "7"
        server.stop()
        assert game.task("long", 9000).answer == "long 9000", "it is one of ours again"
        server.start()


def test_a_server_that_gives_tasks_without_their_version_is_asked_what_it_is_once(server, tmp_path):
    server.version_of_tasks = False
    urls = tmp_path / "servers.txt"
    urls.write_text(server.url)
    game = source_of(urls_file=str(urls)).create()
    with Server() as other:
        other.version_of_tasks = False
        urls.write_text(f"{other.url}\n{server.url}")
        for i in range(4):
            game.task("long", 1000 * i)
        assert (server.count("environment"), other.count("environment")) == (1, 1)
        urls.write_text(server.url)
        game.task("long", 5000)
        urls.write_text(f"{other.url}\n{server.url}")
        game.task("long", 6000)
        assert (server.count("environment"), other.count("environment")) == (1, 2), "it may be another since"


# --- servers with little room -----------------------------------------------------------------------------


def test_a_server_that_stays_full_is_told_once_with_what_helps(server):
    server.room = 2
    with scorer_of(source_of(server, retry_s=0.1)) as scorer:
        task = scorer._environments["game"].task("short", 0)
        for _ in range(2):
            turns = scorer.turns([ScoringJob(task, ("a",), f"row {n}") for n in range(4)])
            assert [turn.score and turn.score.reason for turn in turns].count("no server: busy (429)") == 2
        (news,) = scorer.take_news()
        assert news.startswith("game: an episode found all servers busy for 0.1 s (`retry_s`): ")
        assert "`episodes_per_server: N`" in news
        server.always("tasks", says(429))
        with pytest.raises(NoTasks, match=r"no server: busy \(429\)"):
            scorer._environments["game"].task("long", 0)
        assert scorer.take_news() == []


def test_so_many_episodes_are_played_at_once_as_the_servers_that_are_there_have_room_for(server, tmp_path):
    urls = tmp_path / "servers.txt"
    urls.write_text(server.url)
    sources = [source_of(server), source_of(urls_file=str(urls), episodes_per_server=3)]
    without, game = [source.create() for source in sources]
    assert (without.episodes_at_once, game.episodes_at_once) == (None, 3)
    sliced = source_of(server, episodes_per_server=5, slices={"by": "length"}).create()
    assert sliced.episodes_at_once == 5
    urls.write_text(f"{server.url}\nhttp://127.0.0.1:9")
    assert game.episodes_at_once == 6
    for url in ("http://127.0.0.1:9", server.url):
        for _ in range(3):
            game._client.servers.unanswered(url, "connection refused")
        assert game.episodes_at_once == 3, "where none is there one may come back"


def test_an_episode_that_begins_lets_those_that_are_cut_off_leave(server, monkeypatch):
    monkeypatch.setattr("environments.scoring.remote.LEAVE_S", 20.0)
    server.room = 1
    with scorer_of(source_of(server, episodes_per_server=1)) as scorer:
        task = scorer._environments["game"].task("short", 0)
        for n in range(20):
            job = ScoringJob(task, ("a",), f"row {n}")
            assert scorer.turns([job])[0].messages
            scorer.end([job])
        assert server.count("episodes") == 20, "none was refused"


def test_where_places_are_few_a_farewell_without_a_reply_holds_a_beginning_up_for_a_moment_only(server, monkeypatch):
    gate = gated(server, monkeypatch)
    with scorer_of(source_of(server, episodes_per_server=9)) as scorer:
        cut_off(scorer, 2)
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
        assert len(scorer._remote._farewells) >= 2, "not answered yet"
        gate.set()


# --- many servers -----------------------------------------------------------------------------------------


def test_episodes_are_spread_over_servers_and_go_on_elsewhere_when_one_dies(server):
    with Server() as other, scorer_of(source_of(server, other)) as scorer:
        task = scorer._environments["game"].task("short", 0)
        jobs = [ScoringJob(task, ("a",), f"row {i}") for i in range(8)]
        assert all(turn.messages for turn in scorer.turns(jobs))
        assert (len(server.episodes), len(other.episodes)) == (4, 4)
        other.stop()
        jobs = [ScoringJob(task, ("a", "b"), f"row {i}") for i in range(8)]
        assert all(turn.messages for turn in scorer.turns(jobs))
        assert len(server.episodes) == 8
        other.start()


def test_a_list_in_a_file_is_read_again(server, tmp_path):
    urls = tmp_path / "servers.txt"
    with pytest.raises(EnvironmentFault, match=r"game: urls_file: .*servers.txt cannot be used"):
        source_of(urls_file=str(urls)).build()
    urls.write_text(f"{server.url}  # the first\n")
    with Server() as other, scorer_of(source_of(urls_file=str(urls))) as scorer:
        play(scorer, "a")
        urls.write_text(f"\n{other.url}/\n")
        play(scorer, "a", name="a second episode")
        assert (server.count("episodes"), other.count("episodes")) == (1, 1)
        urls.write_text("what?")
        assert play(scorer, "a", "b", "short 0", name="a third").score.value == 1.0, "the list of before holds"


def test_that_a_list_in_a_file_cannot_be_used_any_more_is_told_once_for_each_cause(tmp_path):
    urls = tmp_path / "servers.txt"
    urls.write_text("http://a")
    servers, told = Servers([], urls), list[list[str]]()
    for text in ("http://a", "", "", "ftp://b", "ftp://b", "http://b", "ftp://b"):
        urls.write_text(text)
        assert servers.urls() == ["http://b" if len(told) > 4 else "http://a"]
        told.append(servers.take_news())
    assert [len(news) for news in told] == [0, 1, 0, 1, 0, 0, 1]
    assert told[1] == [
        f"urls_file: {urls} lists no server: write a URL like http://127.0.0.1:8400 into each line: the list of before"
        " holds"
    ]


def test_a_server_that_goes_on_failing_is_set_aside_and_tried_again(server):
    with Server() as other, scorer_of(source_of(server, other)) as scorer:
        other.always("episodes", says(503))
        assert all(play(scorer, "a", name=f"row {i}").messages for i in range(12))
        assert other.count("episodes") == 3
        other.troubles.clear()
        time.sleep(0.4)
        for i in range(12, 16):
            play(scorer, "a", name=f"row {i}")
        assert other.count("episodes") > 3
        assert other.episodes


def test_without_a_server_jobs_end_quickly_and_one_that_comes_back_is_found(server, monkeypatch):
    monkeypatch.setattr(listing, "MOST_PAUSE_S", 0.3)
    with scorer_of(source_of(server, retry_s=0.5)) as scorer:
        play(scorer, "a", "b", "short 0")
        server.stop()
        assert reason(scorer).startswith("no server: ")
        begun_at = time.monotonic()
        reasons = [reason(scorer, name=f"row {i}") for i in range(20)]
        assert reasons.count("no server: all are set aside") > 10
        assert time.monotonic() - begun_at < 3
        server.start()
        time.sleep(0.35)
        assert play(scorer, "a", "b", "short 0").score.value == 1.0


def test_a_server_that_is_busy_is_there(server, monkeypatch):
    monkeypatch.setattr(listing, "PAUSE_S", 0.8)
    with scorer_of(source_of(server, retry_s=1.5)) as scorer:
        server.next("episodes", *[says(503)] * 3)
        server.always("episodes", says(429))
        assert reason(scorer) == "no server: busy (429)"
        assert reason(scorer, name="another") == "no server: busy (429)", "not set aside for want of an answer"


def test_a_server_that_is_busy_for_long_is_named_until_it_has_room(server, monkeypatch):
    """It says only that, and not for how long: who waits for it waited without a word."""
    monkeypatch.setattr(listing, "LONG_S", 0.3)
    with scorer_of(source_of(server, retry_s=10.0)) as scorer:
        game = scorer._environments["game"]
        task = game.task("short", 0)
        server.always("episodes", says(429))
        waiting = scorer._remote.submit(ScoringJob(task, ("a",), "one"))
        said = []
        wait_until(lambda: said.append(game.waits_for()) or said[-1] is not None)
        assert said[0] is None, "not at once"
        assert said[-1].startswith(f"{server.url} has been busy for ")
        server.troubles.clear()
        assert waiting.result(20).score is None
        assert game.waits_for() is None


def test_a_server_that_nobody_has_asked_since_is_not_told_as_busy(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(listing.time, "monotonic", lambda: now[0])
    servers = Servers(["http://a:1", "http://b:1"], None)
    for at, said in ((1000.0, None), (1100.0, "http://a:1 has been busy for 100 s"), (4700.0, None)):
        now[0] = at
        if at < 4000:
            servers.busy("http://a:1", True)
        assert servers.waits_for() == said
    servers.busy("http://a:1", True)
    assert servers.waits_for() is None, "busy again, since just now"


def test_tasks_are_waited_for_while_a_run_goes_on(server, monkeypatch):
    monkeypatch.setattr("environments.http.WAIT_S", 0.05)
    game = source_of(server, retry_s=0.0, patience_s=20).create()
    server.next("tasks", says(503), says(503))
    assert game.task("short", 0).answer == "short 0"


def test_tasks_are_not_waited_for_long_where_a_run_has_others_to_go_on_with(server):
    game = source_of(server, retry_s=0.1, patience_s=60).create()
    game.is_needed = False
    server.always("tasks", says(503))
    begun_at = time.monotonic()
    with pytest.raises(NoTasks):
        game.task("short", 0)
    assert time.monotonic() - begun_at < 5


def test_who_waits_for_a_server_is_served_when_it_is_back(server):
    with scorer_of(source_of(server)) as scorer:
        task = scorer._environments["game"].task("short", 0)
        server.next("episodes", *[sleeps] * 8)
        waiting = [scorer._remote.submit(ScoringJob(task, ("a",), f"row {i}")) for i in range(8)]
        wait_until(lambda: server.count("episodes") == 8)  # one that begins later would find the server set aside
        server.stop()
        time.sleep(0.5)
        server.start()
        turns = [future.result(10) for future in waiting]
        assert [turn.score for turn in turns if not turn.messages] == []


@pytest.mark.slow
def test_episodes_under_way_are_begun_anew_by_a_server_that_was_away_for_seconds(server):
    with scorer_of(source_of(server)) as scorer:
        task = scorer._environments["game"].task("short", 0)
        names = [f"row {i}" for i in range(20)]
        first = [scorer._remote.submit(ScoringJob(task, ("a",), name)) for name in names]
        assert all(future.result(10).messages for future in first)
        server.stop()
        server.episodes.clear()
        second = [scorer._remote.submit(ScoringJob(task, ("a", "b"), name)) for name in names]
        time.sleep(2.5)  # the first three failures set it aside
        fresh = scorer._remote.submit(ScoringJob(task, ("a",), "a new one")).result(10)
        assert fresh.score.reason == "no server: all are set aside"
        server.start()
        assert all(future.result(20).messages for future in second)


def test_servers_are_set_aside_for_longer_each_time_and_tried_by_one(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(listing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(listing, "PAUSE_S", 2.0)
    servers = Servers(["http://a"], None)
    for _ in range(5):  # of five calls under way three set it aside, and the others add nothing
        servers.unanswered("http://a", "timed out")
    assert servers.next_s() == 2.0
    assert servers.take_news() == ["http://a is set aside: 3 failures in a row, the last: timed out"]
    with pytest.raises(RemoteFault, match="no server: all are set aside"):
        servers.pick()
    for pause in (4.0, 8.0, 16.0):
        now[0] += servers.next_s()
        assert servers.pick() == "http://a"
        with pytest.raises(RemoteFault):
            servers.pick()
        now[0] += 0.1
        servers.unanswered("http://a", "timed out")
        assert servers.next_s() == pytest.approx(pause)
    assert servers.take_news() == []
    servers.answered("http://a")
    assert servers.pick() == "http://a"


def test_a_server_whose_episodes_fail_is_asked_where_no_other_is_left(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(listing.time, "monotonic", lambda: now[0])
    servers = Servers(["http://a", "http://b"], None)
    servers.load("http://b", 5)
    for _ in range(3):
        servers.failed("http://a", "failed: 500")
        servers.answered("http://a")
    assert [servers.pick(), servers.pick(["http://b"])] == ["http://b", "http://a"]
    now[0] += 0.4
    assert [servers.pick(), servers.pick()] == ["http://a", "http://b"], "when its time is over one tries it"
    servers.succeeded("http://a")
    assert servers.pick() == "http://a"


@pytest.mark.parametrize("kind", ["episodes", "tasks"])
@pytest.mark.parametrize("status", [429, 503])
def test_where_a_server_asks_not_to_be_asked_for_a_while_another_is_asked_at_once(server, kind, status):
    with Server() as other, scorer_of(source_of(server, other, retry_s=5.0)) as scorer:
        game = scorer._environments["game"]
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
        server.always(kind, says(status, Retry_After="60"))
        server.log.clear()
        played = [play(scorer, "a", "b", "short 0", name=f"row {i}") for i in range(4)]
        assert [turn.score.value for turn in played] == [1.0] * 4
        assert [game.task("long", 1000 * i).answer for i in range(4)] == [f"long {1000 * i}" for i in range(4)]
        assert server.count(kind) == 1


def test_where_all_ask_not_to_be_asked_for_longer_than_there_is_time_it_is_given_up(server):
    with scorer_of(source_of(server)) as scorer:
        server.next("episodes", says(429, Retry_After="Fri, 31 Dec 9999 23:59:59 GMT"))
        assert [reason(scorer, name=f"row {i}") for i in range(3)] == ["no server: busy (429)"] * 3
        assert server.count("episodes") == 1
        waits = scorer._environments["game"].waits_for()
        assert waits.startswith(f"{server.url} asks not to be asked for 1"), "two minutes at most"
        assert waits.endswith(" s (busy (429))")
        assert len(scorer.take_news()) == 1, "that there is no room"


@pytest.mark.parametrize("status", [429, 503])
def test_a_turn_that_is_to_wait_for_longer_than_there_is_time_is_taken_elsewhere(server, status):
    with Server() as other, scorer_of(source_of(server, other, retry_s=2.0)) as scorer:
        server.next("turns", says(status, Retry_After="5"))
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
        assert (server.count("turns"), other.count("turns")) == (1, 3)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0.0), ("7", 7.0), ("100000", 100_000.0), ("soon", 0.0), ("-1", 0.0),
        ("Wed, 21 Oct 2015 07:28:20 GMT", 20.0), ("Wed Oct 21 07:28:20 2015", 20.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0), ("Wed, 99 Oct 2015 07:28:20 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(monkeypatch, header, seconds):
    monkeypatch.setattr(clients.time, "time", lambda: 1_445_412_480.0)
    assert clients._seconds(header) == seconds


def refuses(status):
    """Refuse an episode's beginning by a status."""
    return lambda bad: bad.always("episodes", says(status))


def has_another_version(bad):
    bad.version = "8"


def has_another_token(bad):
    bad.token = "another"


def breaks_at_each_turn(bad):
    bad.always("turns", says(500))


def breaks_at_each_last_turn(bad):
    honest = bad._turn

    async def turn(request):
        return await says(500)(request) if (await request.json())["turn"] == 2 else await honest(request)

    bad.always("turns", turn)


def forgets_each_episode(bad):
    bad.always("turns", says(404))


def scores_nothing(bad):
    bad._say = lambda episode: {"done": True, "score": {"value": None, "reason": "judge away"}}


@pytest.mark.parametrize(
    ("turns_bad", "most_lost", "why"),
    [
        (has_another_version, 0, "a server has another version now"),
        (has_another_token, 0, "token refused"),
        (refuses(400), 0, "refused: 400"),
        (refuses(405), 0, "refused: 405"),
        (refuses(500), 0, "failed: 500"),
        (lambda bad: bad.always("episodes", writes(b"<html>")), 0, "bad reply: not JSON"),
        (breaks_at_each_turn, 4, "failed: 500"),
        (breaks_at_each_last_turn, 4, "failed: 500"),
        (forgets_each_episode, 1, "gone (404)"),
        (scores_nothing, 4, "judge away"),
    ],
)
@pytest.mark.parametrize("asks_for_tasks", [False, True])
def test_of_two_servers_the_one_that_turns_bad_costs_a_few_episodes(
    server, monkeypatch, turns_bad, most_lost, why, asks_for_tasks
):
    monkeypatch.setattr(listing, "PAUSE_S", 2.0)
    with (
        Server() as bad,
        scorer_of(source_of(bad, server)) as scorer,
    ):  # of two without episodes the first is picked
        game = scorer._environments["game"]
        assert play(scorer, "a", "b", "short 0").score.value == 1.0
        assert bad.episodes
        bad.log.clear()
        turns_bad(bad)
        scored = 0
        for i in range(30):
            turn = play(scorer, "a", "b", "short 0", name=f"row {i}")
            scored += turn.score.value == 1.0
            if asks_for_tasks:
                game.task("long", 1000 * i)
        assert scored >= 30 - most_lost
        assert bad.count("episodes") <= 4, "asked for tasks it fails too"
        assert scorer.take_news() == [f"game: {bad.url} is set aside: 3 failures in a row, the last: {why}"]
        assert scorer.take_news() == []


def test_what_all_servers_refuse_is_refused_at_once_and_sets_nothing_aside_for_others(server):
    with Server() as other, scorer_of(source_of(server, other)) as scorer:
        for one in (server, other):
            one.next("episodes", *[says(400, {"error": "no such task"})] * 5)
        assert [reason(scorer, name=f"row {i}") for i in range(5)] == ["refused: 400 no such task"] * 5
        assert (server.count("episodes"), other.count("episodes")) == (5, 5), "each was asked once"
        assert play(scorer, "a", "b", "short 0").score.value == 1.0


# --- the contract -----------------------------------------------------------------------------------------


class Raising(RemoteEnvironment):
    name, version, categories = "raising", "1", ()

    def size(self, category):
        return None

    def task(self, category, index):
        raise NotImplementedError

    async def begin(self, task):
        raise {"fault": EnvironmentFault("broken"), "bug": KeyError("bug"), "end": SystemExit(0)}[task]


def test_a_remote_environment_of_ones_own_may_raise_anything():
    class Job:
        episode, completions = "", ("a",)

        def __init__(self, what):
            self.task = type("Named", (str,), {"environment": "raising"})(what)

    plays = RemotePlays({"raising": Raising()})
    try:
        assert plays.submit(Job("end")).result(20).score.reason == f"raised SystemExit: 0{place(Raising.begin)}"
        assert plays.submit(Job("bug")).result(20).score.reason == f"raised KeyError: 'bug'{place(Raising.begin)}"
        with pytest.raises(EnvironmentFault, match="broken"):
            plays.submit(Job("fault")).result()
    finally:
        plays.close()


@pytest.mark.slow
def test_the_checker_finds_nothing_but_what_there_is(server, monkeypatch):
    monkeypatch.setenv("GAME_TOKEN", "hush-hush")
    server.token = "hush-hush"
    source = source_of(server, token_env="GAME_TOKEN", timeout_s=10.0)
    few = CheckLimits(tasks=8, scan=120, budget_s=0.2)
    assert {(f.severity, f.rule) for f in findings_here(source, few)} <= {
        ("warning", "pool-thin"),
        ("note", "few-tasks"),
    }
    assert {f.rule for f in check(source, tasks=4) if f.severity == "error"} == set()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("forgets", "turn 1 is another when it is asked for a second time"),
        ("fails", "turn 1 is not to be had a second time: failed: 500"),
        ("declines", None),
    ],
)
def test_the_checker_asks_for_a_turn_twice(server, how, said):
    few, say = CheckLimits(tasks=2, scan=20, budget_s=0.1), server._say

    async def turn(request):
        episode, asked = server.episodes[request.match_info["episode"]], await request.json()
        if asked["turn"] < len(episode["heard"]):
            if how != "forgets":
                return web.json_response({}, status=500 if how == "fails" else 409)
            episode["heard"].append(asked["completion"])  # as one does that counts turns by itself
            return web.json_response(say(episode))
        episode["heard"].append(asked["completion"])
        return web.json_response(say(episode))

    server.always("turns", turn)
    found = [f for f in findings_here(source_of(server), few) if f.rule == "turn-repeated"]
    assert [f.sentence for f in found][:1] == ([] if said is None else [said])


def names_by_task(server):
    """Have a server name its episodes by their tasks, and begin one anew where it has it already."""

    async def begin(request):
        asked = await request.json()
        answer = f"{asked['category']} {asked['index']}"
        name = answer.replace(" ", "-")
        server.episodes[name] = {"answer": answer, "heard": [], "said": []}
        return web.json_response({"episode": name, "version": server.version})

    server.always("episodes", begin)


def shares_a_game(server):
    """Have a server keep one game of each task, which the next episode of it begins anew."""
    heard = dict[str, int]()

    async def begin(request):
        asked = await request.json()
        heard[f"{asked['category']} {asked['index']}"] = 0
        return await server._begin(request)

    def say(episode):
        heard[episode["answer"]] += 1
        return {"done": True, "score": {"value": float(heard[episode["answer"]] == 1)}}

    server.always("episodes", begin)
    server._say = say


def test_an_episode_by_the_name_of_one_that_lives_is_refused(server):
    names_by_task(server)
    with scorer_of(source_of(server)) as scorer:
        task = scorer._environments["game"].task("short", 0)
        turns = scorer.turns([ScoringJob(task, (word,), word) for word in "abc"])
        assert [turn.score and turn.score.reason for turn in turns].count(None) == 1
        assert [turn.score.reason for turn in turns if turn.score] == [
            "bad reply: it begins an episode by the name of one that lives"
        ] * 2
        for name in ("one", "another"):  # after each other they may have the same
            assert play(scorer, "a", "b", "short 1", index=1, name=name).score.value == 1.0


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (names_by_task, "two episodes of one task cannot be played at the same time: bad reply: it begins an episode"),
        (shares_a_game, "a turn is another when a second episode of the task is under way"),
    ],
)
def test_the_checker_begins_two_episodes_of_a_task_before_it_steps_one(server, how, said):
    how(server)
    found = findings_here(source_of(server), CheckLimits(tasks=2, scan=20, budget_s=0.1))
    (used,) = [f for f in found if f.rule == "episode-used"][:1]
    assert used.sentence.startswith(said)
    assert used.remedy == "have the server keep each episode's state by its own name"


def test_the_checker_sees_an_episode_that_is_another_when_replayed(server):
    few, numbers = CheckLimits(tasks=2, scan=20, budget_s=0.1), iter(range(10**6))
    honest = server._say
    server._say = lambda episode: honest(episode) | {"messages": [{"role": "user", "content": str(next(numbers))}]}
    found = [f for f in findings_here(source_of(server), few) if f.rule in ("score-same", "episode-replay")]
    assert found
    assert all("let a turn depend on the task" in finding.remedy for finding in found), "said for a server"
