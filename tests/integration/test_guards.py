"""Guards on a step's numbers: what they leave out, lower, take back and stop; the same when the run was killed."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import orchestrator
from orchestrator.callbacks import Callback, Watchers
from orchestrator.errors import STOPPED_BY_GUARD, SpecError, UserError
from orchestrator.progress import Progress
from orchestrator.recording.recorder import RunRecorder
from orchestrator.runs.api import find_run
from orchestrator.runs.catalog import opened
from orchestrator.runs.session import RunSession
from orchestrator.webhook import Webhook
from store.errors import LedgerAway
from store.home import Home
from store.ledger import Ledger, RunHandle
from store.ledger.access import Patience
from store.records import StepRecord
from tests.conftest import Evergreen
from tests.integration.runs import At, Killed, component, ending, newest_checkpoint, series, told
from tests.orchestrator.specs import alone, small, written
from tests.shares import share

ONE = ["learner.updates=1", "checkpoint.every_steps=1"]


def kill() -> None:
    raise Killed


def guarded(*guards: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {**alone(), "guards": list(guards), **sections}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "weights" / "model.safetensors")


def said(home: Path, name: str = "alone", kind: str = "guard") -> list[str]:
    return [event["text"] for event in told(home, name)["events"] if event["kind"] == kind]


def test_an_update_whose_gradient_is_too_large_moves_nothing(tmp_path: Path) -> None:
    orchestrator.run(guarded({"when": "grad_norm > 1e-9", "action": "skip"}), ONE, home=tmp_path)
    too_large = [norm is not None and norm > 1e-9 for norm in series(tmp_path, "alone", "grad_norm")]
    assert series(tmp_path, "alone", "skipped_updates") == [float(one) for one in too_large]
    start, now = (tmp_path / "alone" / "checkpoints" / "step-000000-boundary-001"), newest_checkpoint(tmp_path, "alone")
    assert all(torch.equal(one, weights(start)[name]) for name, one in weights(now).items())
    assert len(said(tmp_path)) == sum(too_large) > 1
    assert all("the update is left out" in text and "grad_norm is" in text for text in said(tmp_path))
    assert not said(tmp_path, kind="skipped update"), "each is told once"


def test_a_batch_against_a_guard_is_played_and_not_learnt_from(tmp_path: Path) -> None:
    orchestrator.run(guarded({"when": "response_len > 0", "action": "skip"}), ONE, home=tmp_path)
    assert component(tmp_path, "alone", "policy")["version"] == 0
    assert series(tmp_path, "alone", "grad_norm") == []
    assert len(series(tmp_path, "alone", "accuracy")) == 6, "the bandit and the record have their step"


def test_a_guard_that_is_never_met_changes_no_bit(tmp_path: Path) -> None:
    never = [{"when": "grad_norm > 1e9", "action": "skip"}, {"when": "entropy_token > 50 x start", "action": "stop"}]
    orchestrator.run(alone(), ONE, home=tmp_path / "plain")
    orchestrator.run(guarded(*never), ONE, home=tmp_path / "guarded")
    assert ending(tmp_path / "plain", "alone").weights == ending(tmp_path / "guarded", "alone").weights
    assert told(tmp_path / "plain", "alone")["digest"] == told(tmp_path / "guarded", "alone")["digest"]


def test_a_number_that_the_objective_does_not_make_is_told_once(tmp_path: Path) -> None:
    raw = {**alone(steps=12, stages=1), "guards": [{"when": "kl_ref > 2"}, {"when": "response_len on late > 5000"}]}
    raw["environments"]["late"] = dict(raw["environments"]["one"])
    orchestrator.run(raw, ONE, home=tmp_path)
    (text,) = said(tmp_path)
    assert "no step has measured kl_ref" in text, "and an environment that is not played yet is nothing to tell of"
    assert "`kl_ref > 2` cannot be met" in text


def test_the_learning_rate_is_lowered_from_the_next_step_on_and_then_the_run_stops(tmp_path: Path) -> None:
    lower = {"when": "response_len > 0", "action": "lower", "factor": 0.5, "most": 2}
    outcome = orchestrator.run(guarded(lower), [*ONE, "learner.warmup=0"], home=tmp_path)
    assert outcome.status == "stopped"
    assert "a guard stopped it" in str(outcome.reason)
    rates = series(tmp_path, "alone", "lr")
    assert [rate / rates[0] for rate in rates] == pytest.approx([1, 0.5, 0.25])  # type: ignore[operator]
    assert [text.partition(": ")[2] for text in said(tmp_path)] == [
        "the learning rate is 0.5 of the spec's from here on",
        "the learning rate is 0.25 of the spec's from here on",
        "the run stops, after lower 2 times",
    ]


def test_a_stopped_run_goes_on_when_it_is_resumed_and_stops_again(tmp_path: Path) -> None:
    stop = {"when": "response_len > 0", "steps": 2, "action": "stop"}
    assert orchestrator.run(guarded(stop), ONE, home=tmp_path).status == "stopped"
    assert component(tmp_path, "alone", "progress")["step"] == 2
    assert orchestrator.resume("alone", home=tmp_path).status == "stopped"
    assert component(tmp_path, "alone", "progress")["step"] == 4


BACK = {"when": "grad_norm > 1e-9", "steps": 2, "action": "roll_back", "factor": 1.0, "most": 9}


def test_weights_go_back_to_where_the_stage_began(tmp_path: Path) -> None:
    outcome = orchestrator.run(guarded(BACK), ONE, home=tmp_path, until_step=2)
    assert outcome.status == "stopped"
    start = next((tmp_path / "alone" / "checkpoints").glob("step-000000-boundary-001"))
    now = newest_checkpoint(tmp_path, "alone")
    assert now.name.startswith("step-000002")
    assert all(torch.equal(one, weights(start)[name]) for name, one in weights(now).items())
    assert component(tmp_path, "alone", "optimizer", "optimizer.json")["num_updates"] == 0
    assert component(tmp_path, "alone", "policy")["version"] == 3, "two updates, and the way back"
    assert "goes back to the weights with which stage 1 began" in said(tmp_path)[0]


def test_weights_go_back_to_those_of_this_run_beside_another_of_the_specs_name(tmp_path: Path) -> None:
    orchestrator.run(guarded(BACK), [*ONE, "seed=9"], home=tmp_path, until_step=1)
    again = orchestrator.run(guarded(BACK), ONE, home=tmp_path, until_step=2)
    assert again.name == "alone-2"
    start = next((again.folder / "checkpoints").glob("step-000000-boundary-001"))
    now = weights(newest_checkpoint(tmp_path, again.name))
    assert all(torch.equal(one, weights(start)[name]) for name, one in now.items())


def test_weights_that_are_damaged_are_not_gone_back_to(tmp_path: Path) -> None:
    def damage() -> None:
        (weights_file,) = (tmp_path / "alone" / "checkpoints" / "step-000000-boundary-001").rglob("model.safetensors")
        weights_file.write_bytes(weights_file.read_bytes()[:-1])

    at_once = [*ONE, "checkpoint.background=false"]  # so that it is there by the first step
    outcome = orchestrator.run(guarded(BACK), at_once, home=tmp_path, watcher=At(1, damage, ["step"]))
    assert outcome.status == "stopped"
    assert "has changed since it was written" in str(outcome.reason)


def test_a_guard_that_cannot_go_back_leaves_the_rate_and_stops_as_a_guard_does(tmp_path: Path) -> None:
    def lose() -> None:
        shutil.rmtree(tmp_path / "alone" / "checkpoints" / "step-000000-boundary-001")

    at_once = [*ONE, "checkpoint.background=false"]
    outcome = orchestrator.run(guarded(BACK), at_once, home=tmp_path, watcher=At(1, lose, ["step"]))
    assert str(outcome.reason).startswith(STOPPED_BY_GUARD)
    assert component(tmp_path, "alone", "progress")["lr_share"] == 1.0
    with pytest.raises(UserError, match="evergreen resume alone"):
        find_run(guarded(BACK), at_once, tmp_path)


def test_a_guards_stop_is_the_reason_whatever_else_stops_the_run_in_that_step(tmp_path: Path) -> None:
    spec = guarded({"when": "response_len > 0", "steps": 2, "action": "stop"})
    outcome = orchestrator.run(spec, home=tmp_path, until_step=2)
    assert str(outcome.reason).startswith(STOPPED_BY_GUARD)


def test_a_twin_that_a_guard_stopped_stays_stopped(tmp_path: Path) -> None:
    spec = {**alone(), "baseline": {"guards": [{"when": "response_len > 0", "steps": 2, "action": "stop"}]}}
    assert orchestrator.run(spec, home=tmp_path).exit_code == 75
    with pytest.raises(UserError, match=STOPPED_BY_GUARD):
        find_run(spec, (), tmp_path)


def test_guards_that_are_met_at_once_tell_the_rate_that_they_leave_together(tmp_path: Path) -> None:
    long, rewarded = "response_len > 0", "reward > -1"
    guards = [
        {"when": long, "action": "lower", "factor": 0.5},
        {"when": long, "action": "stop"},
        {"when": rewarded, "action": "lower", "factor": 0.1},
    ]
    orchestrator.run(guarded(*guards), ONE, home=tmp_path)
    assert [text.partition(": ")[2] for text in said(tmp_path)] == [
        "the learning rate is 0.5 of the spec's from here on",
        "the run stops",
        "the learning rate is 0.05 of the spec's from here on",
    ]
    assert component(tmp_path, "alone", "progress")["lr_share"] == pytest.approx(0.05)


def test_a_fork_with_another_learning_rate_begins_with_it(tmp_path: Path) -> None:
    low = guarded({"when": "response_len > 0", "action": "lower", "most": 99})
    orchestrator.run(low, home=tmp_path)
    for name, lr, share_left in (("same", 0.003, 0.5**4), ("other", 0.002, 0.5)):  # after three steps and one
        overrides = [f"name={name}", f"learner.lr={lr}"]
        orchestrator.fork("alone", 1, overrides=overrides, home=tmp_path, until_step=4)
        at = component(tmp_path, name, "progress")
        assert (at["lr_share"], at["lr_share_of"]) == (share_left, lr)


@pytest.mark.parametrize("n", share(range(1, 9), 2))
def test_what_guards_do_is_the_same_in_a_run_that_was_killed(tmp_path: Path, n: int) -> None:
    spec = guarded(BACK, {"when": "entropy_token > .1 x start", "action": "lower", "most": 99})
    every = ["checkpoint.every_steps=2", "learner.updates=1"]
    orchestrator.run(spec, every, home=tmp_path / "whole")
    home = tmp_path / "killed"
    with pytest.raises(Killed):
        orchestrator.run(spec, every, home=home, watcher=At(n, kill))
    orchestrator.resume("alone", home=home)
    assert ending(home, "alone") == ending(tmp_path / "whole", "alone")
    assert said(home) == said(tmp_path / "whole")
    assert said(home)


@pytest.mark.parametrize("moment", share(["record", "waits"], 1))
@pytest.mark.parametrize("action", ["lower", "roll_back", "stop"])
def test_what_a_guard_does_is_done_also_when_the_ledger_goes_away_in_that_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, moment: str
) -> None:
    spec = guarded(
        {"when": "response_len > 0", "steps": 2, "action": action, **({"most": 9} if action != "stop" else {})}
    )
    whole = orchestrator.run(spec, ONE, home=tmp_path / "whole")
    if moment == "record":
        record_step = Ledger.record_step

        def away(ledger: Ledger, run: RunHandle, record: StepRecord) -> None:
            if record.step == 2:
                raise LedgerAway("the database is away")
            record_step(ledger, run, record)

        monkeypatch.setattr(Ledger, "record_step", away)
    else:
        tell = RunRecorder._tell_of_waits

        def away_after(recorder: RunRecorder, at: Progress) -> None:
            if at.step == 2:
                raise LedgerAway("the database is away")
            tell(recorder, at)

        monkeypatch.setattr(RunRecorder, "_tell_of_waits", away_after)
    home = tmp_path / "away"
    assert orchestrator.run(spec, ONE, home=home).reason == "the database is away"
    monkeypatch.undo()
    resumed = orchestrator.resume("alone", home=home)
    assert (resumed.status, resumed.reason) == (whole.status, whole.reason)
    assert component(home, "alone", "progress") == component(tmp_path / "whole", "alone", "progress")
    assert ending(home, "alone") == ending(tmp_path / "whole", "alone")
    assert said(home) == said(tmp_path / "whole") != []
    if action == "stop":
        assert (
            orchestrator.resume("alone", home=home).reason
            == orchestrator.resume("alone", home=tmp_path / "whole").reason
        )
        assert ending(home, "alone") == ending(tmp_path / "whole", "alone")


def test_a_guard_of_one_environment_reads_its_numbers_alone(tmp_path: Path) -> None:
    spec = small(guards={"when": "response_len on noise > 0"})
    orchestrator.run(spec, home=tmp_path)
    with opened(tmp_path, "small") as (_, ledger):
        has_noise = [point.value for point in ledger.reading.series("small", "response_len", "noise")]
    assert has_noise
    assert len(said(tmp_path, "small")) == 1, "told once, until it is calm again"


def test_repetition_is_measured_where_a_guard_reads_it(tmp_path: Path) -> None:
    long = ["sampler.max_tokens=12"]
    orchestrator.run(guarded({"when": "repeated_frac > 1"}), [*ONE, *long], home=tmp_path / "a")
    assert len(series(tmp_path / "a", "alone", "repeated_frac")) == 6
    orchestrator.run(alone(), [*ONE, *long], home=tmp_path / "b")
    assert series(tmp_path / "b", "alone", "repeated_frac") == []


@pytest.mark.parametrize(
    ("guard", "sections", "words"),
    [
        ({"when": "grad_nrm > 1"}, {}, "grad_norm"),
        ({"when": "pass_1 < .1"}, {}, "measured at boundaries"),
        ({"when": "every 2 stages"}, {}, "no limit of a step's number"),
        ({"when": "reward > much"}, {}, "is no number"),
        ({"when": "reward on nowhere > 1"}, {}, "no environment of this spec"),
        ({"when": "kl_ref > 1", "action": "skip"}, {}, "known after it"),
        ({"when": "loss > 1", "action": "skip", "steps": 2}, {}, "remove `steps`"),
        ({"when": "loss on one > 1", "action": "skip"}, {}, "remove `on`"),
        ({"when": "grad_norm on one > 1", "action": "lower"}, {}, "remove `on`"),
        (
            {"when": "loss > 1", "action": "roll_back"},
            {"sampler": {"max_tokens": 3, "ahead": 1}, "objective": {"preset": "grpo", "mismatch": "tis"}},
            "ahead: 0",
        ),
        ({"when": "loss > 1", "action": "explode"}, {}, "roll_back"),
    ],
)
def test_what_cannot_be_guarded_is_refused_with_the_remedy(
    guard: dict[str, Any], sections: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecError, match="guards") as error:
        orchestrator.load_spec(guarded(guard, **sections))
    assert words in str(error.value)


def test_a_url_in_the_spec_is_refused_and_a_variable_that_is_not_set_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evergreen: Evergreen
) -> None:
    with pytest.raises(SpecError, match="name of an environment variable"):
        orchestrator.load_spec({**alone(), "guards": {"webhook": "https://hooks.example/secret"}})
    monkeypatch.delenv("EVERGREEN_WEBHOOK", raising=False)
    with pytest.raises(UserError, match="EVERGREEN_WEBHOOK is not set"):
        orchestrator.run({**alone(), "guards": {"webhook": "EVERGREEN_WEBHOOK"}}, home=tmp_path)
    assert not (tmp_path / "alone").exists()
    checked = evergreen("validate", written(tmp_path, {**alone(), "guards": {"webhook": "EVERGREEN_WEBHOOK"}}))
    assert checked.exit_code == 2, "before there is a run"
    assert "EVERGREEN_WEBHOOK is not set" in checked.stderr


class Inbox(BaseHTTPRequestHandler):
    """Keeps what is posted; answers the first posts as `answers` says."""

    posts: list[dict[str, Any]]
    answers: list[int]
    location: str | None = None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.answers.pop(0) if self.answers else 204
        if status < 300:
            self.posts.append(body)
        self.send_response(status)
        if self.location is not None:
            self.send_header("Location", self.location)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Inbox]]:
    """A server; where it is stands in EVERGREEN_WEBHOOK."""
    handler = type("Own", (Inbox,), {"posts": [], "answers": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("EVERGREEN_WEBHOOK", f"http://127.0.0.1:{server.server_port}/hidden-in-no-record")
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_incidents_and_the_end_are_posted_and_the_url_is_kept_nowhere(tmp_path: Path, inbox: type[Inbox]) -> None:
    inbox.answers = [500]  # tried again
    spec = guarded({"when": "response_len > 0", "action": "stop"})
    spec["guards"] = {"of": spec["guards"], "webhook": "EVERGREEN_WEBHOOK"}
    orchestrator.run(spec, ONE, home=tmp_path)
    guard, *_, end = [post for post in inbox.posts if post["kind"] == "end" or "response_len" in post["text"]]
    assert (guard["run"], guard["step"], guard["kind"]) == ("alone", 1, "event")
    assert (end["kind"], end["status"]) == ("end", "stopped")
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"hidden-in-no-record" not in path.read_bytes(), path


def test_a_resumed_run_names_the_step_at_which_it_stands(tmp_path: Path, inbox: type[Inbox]) -> None:
    orchestrator.run({**alone(), "guards": {"webhook": "EVERGREEN_WEBHOOK"}}, ONE, home=tmp_path, until_step=2)
    inbox.posts.clear()
    orchestrator.resume("alone", home=tmp_path, until_step=2)
    assert {(post["kind"], post["step"]) for post in inbox.posts} == {("event", 2), ("end", 2)}


def test_that_a_ledger_is_waited_for_is_posted(tmp_path: Path, inbox: type[Inbox]) -> None:
    spec = orchestrator.load_spec({**alone(), "guards": {"webhook": "EVERGREEN_WEBHOOK"}})
    ledger: Any = SimpleNamespace(patience=Patience(1.0))
    session = RunSession(spec, ledger, Home(tmp_path), tmp_path / "alone", Callback(), None)
    ledger.patience.tell("the database is away")
    session.watcher.end("alone", "stopped", None)
    assert [post["text"] for post in inbox.posts] == ["the database is away", "stopped"]


def test_a_signal_is_answered_as_ever_beside_a_webhook(inbox: type[Inbox], capfd: pytest.CaptureFixture[str]) -> None:
    Watchers([Callback(), Webhook("http://127.0.0.1:9/nobody", Callback())]).stopping()
    alone_said = capfd.readouterr().err
    Callback().stopping()
    assert alone_said == capfd.readouterr().err != ""


def test_a_webhook_that_nobody_answers_costs_the_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_WEBHOOK", "http://127.0.0.1:9/nobody")
    monkeypatch.setattr("orchestrator.webhook.WAITS_S", (0.0, 0.0))
    spec = {**alone(), "guards": {"of": [{"when": "response_len > 0"}], "webhook": "EVERGREEN_WEBHOOK"}}
    assert orchestrator.run(spec, ONE, home=tmp_path).status == "finished"


def test_where_posts_hang_the_end_goes_first_and_nobody_waits_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hanging(Inbox):
        def do_POST(self) -> None:
            self.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            hangs.wait()

    hangs, posts = threading.Event(), list[dict[str, Any]]()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Hanging,), {"posts": posts}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("orchestrator.webhook.TIMEOUT_S", 0.2)
    monkeypatch.setattr("orchestrator.webhook.WAITS_S", (0.05, 0.05))
    monkeypatch.setattr("orchestrator.webhook.LAST_WAIT_S", 1.8)
    told: list[str] = []
    tell = Callback()
    monkeypatch.setattr(tell, "event", told.extend)
    hook = Webhook(f"http://127.0.0.1:{server.server_port}/secret", tell)
    hook.event([f"number {k}" for k in range(20)])
    hook.end("alone", "finished", None)
    hangs.set()
    server.shutdown()
    assert [post["text"] for post in posts].index("finished") < 5
    assert told[0].startswith("the webhook took nothing: TimeoutError")


@pytest.mark.parametrize(
    ("location", "towards"),
    [("https://key@new.example:8443/services/T0KEN?a=b", " to https://new.example:8443/..."), ("/services/T0KEN", "")],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_told(
    monkeypatch: pytest.MonkeyPatch, inbox: type[Inbox], status: int, location: str, towards: str
) -> None:
    def get(self: Inbox) -> None:
        self.posts.append({"path": self.path})
        self.send_response(200)
        self.end_headers()

    inbox.answers, inbox.location = [status], location
    monkeypatch.setattr(inbox, "do_GET", get, raising=False)
    monkeypatch.setattr("orchestrator.webhook.WAITS_S", ())
    told: list[str] = []
    tell = Callback()
    monkeypatch.setattr(tell, "event", told.extend)
    Webhook(os.environ["EVERGREEN_WEBHOOK"], tell).end("alone", "finished", None)
    assert inbox.posts == []
    assert len(told) == 1
    assert f", a redirect{towards}: name the new URL; later failures" in told[0]
    assert told[0].startswith(f"the webhook took nothing: {status} ")


def test_no_part_of_a_url_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    tell = Callback()
    monkeypatch.setattr(tell, "event", told.extend)
    monkeypatch.setattr("orchestrator.webhook.WAITS_S", ())
    hook = Webhook("http://127.0.0.1:9/services/T0 KEN-secret", tell)
    hook.end("alone", "finished", None)
    assert told == ["the webhook took nothing: InvalidURL; later failures are not told"]
