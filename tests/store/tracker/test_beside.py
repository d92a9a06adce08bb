"""TensorBoard and Weights & Biases beside MLflow: the same values, each once, whatever happens in between."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from store.errors import TrackerError
from store.ledger.query_rows import RunRow
from store.lock import run_lock
from store.tracker import daemon, outlets, pages, sinks, tensorboard_files, wandb_runs
from store.tracker.daemon import TrackerJob, follow, forget, send_now
from store.tracker.pages import Cursor
from store.tracker.record import MlflowRecord, Target
from store.tracker.sinks import Delivery, Destination, Kept, catch_up, missing
from store.tracker.sync import Source
from tests.shares import slow
from tests.store.tracker.beside import at, expected, in_tensorboard, in_wandb, kinds_in_wandb, wandb_files
from tests.store.tracker.conftest import Copy
from tests.store.tracker.test_covered import as_if_killed_after
from tests.store.tracker.test_once import Killed, join, killed_at, rewrite_steps

KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(missing(kind) is not None, reason=f"needs {kind}"))
    for kind in sinks.KINDS
]
each = pytest.mark.parametrize("kind", KINDS)
tensorboard = pytest.mark.skipif(missing("tensorboard") is not None, reason="needs tensorboard")
wandb = pytest.mark.skipif(missing("wandb") is not None, reason="needs wandb")
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
both = pytest.mark.skipif(any(map(missing, sinks.KINDS)), reason="needs wandb and tensorboard")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(outlets, "REST_S", {})


def send(source: Source, kind: str, is_wanted: Callable[[], bool] = lambda: True) -> int:
    home = source.folder.parent
    return catch_up(at(home, kind), source.read, source.run, source.folder, source.url, is_wanted)


def held(source: Source, kind: str) -> dict[str, list[tuple[int, float]]]:
    if kind == "tensorboard":
        return in_tensorboard(source.folder.parent, source.run)
    (file,) = wandb_files(source.folder.parent)
    return in_wandb(file)


def job(source: Source, target: Target | None, *kinds: str) -> TrackerJob:
    also = tuple(at(source.folder.parent, kind) for kind in kinds)
    return TrackerJob(source.run, str(source.folder), str(source.ledger.engine.url), target, also)


@each
def test_it_holds_what_the_ledger_holds_under_the_names_of_mlflow(source_of: Copy, kind: str) -> None:
    source = source_of()
    num_values = send(source, kind)
    wanted = expected(source)
    assert held(source, kind) == wanted
    assert num_values == sum(map(len, wanted.values()))
    assert {"train/loss", "R_pass_1/book", "cl/acc", "bandit_prob/book"} <= wanted.keys()
    assert [step for step, _ in wanted["train/loss"]] == list(range(1, 10)), "every step, not every tenth"
    assert send(source, kind) == 0
    assert held(source, kind) == wanted


@each
def test_only_what_a_checkpoint_covers_is_sent_and_the_rest_later(source_of: Copy, kind: str) -> None:
    source = source_of()
    for step, num_boundaries in ((4, 2), (6, 2)):
        partly = as_if_killed_after(source_of(), step, num_boundaries)
        send(replace(partly, folder=source.folder), kind)
        wanted = expected(partly)
        assert held(source, kind) == wanted
        assert max(at for points in wanted.values() for at, _ in points) <= step
    send(source, kind)
    assert held(source, kind) == expected(source)


@each
def test_a_checkpoint_that_comes_while_a_pass_begins_starts_no_history_anew(
    source_of: Copy, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of()
    partly = as_if_killed_after(source_of(), 4, 2)
    partly.ledger.rewind(partly.ledger.open_run(partly.run), 4, 2)

    class Growing:
        """A ledger that has more after the first look at it."""

        def __init__(self) -> None:
            self.now = partly.read

        def __getattr__(self, name: str) -> Any:
            return getattr(self.now, name)

    growing = Growing()

    def then_grows(look: Callable[..., Any]) -> Callable[..., Any]:
        def looked(*args: Any) -> Any:
            found = look(*args)
            growing.now = source.read
            return found

        return looked

    with monkeypatch.context() as patched:
        for name in ("HistoryPages", "covered"):
            patched.setattr(sinks, name, then_grows(getattr(sinks, name)))
        home = source.folder.parent
        assert catch_up(at(home, kind), cast(Any, growing), source.run, source.folder, source.url, lambda: True) > 0
    send(source, kind)
    assert held(source, kind) == expected(source)
    assert Kept.read(source.folder, kind).generation == 1


@each
@pytest.mark.parametrize("at_write", [1, slow(2), slow(3)])
def test_a_crash_leaves_every_value_single(
    source_of: Copy, kind: str, at_write: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE", 4)
    source = source_of()

    def go_on() -> None:
        for step, num_boundaries in ((4, 2), (6, 2), (9, 4)):
            partly = as_if_killed_after(source_of(), step, num_boundaries)
            send(replace(partly, folder=source.folder), kind)

    with monkeypatch.context() as patched:
        patched.setattr(Kept, "write", killed_at(Kept.write, at_write))
        with pytest.raises(Killed):
            go_on()
    send(source, kind)
    assert held(source, kind) == expected(source)


@each
def test_a_history_that_was_rewritten_takes_the_place_of_what_was_sent(source_of: Copy, kind: str) -> None:
    source = source_of()
    send(source, kind)
    rewrite_steps(source, 5)
    assert send(source, kind) > 0
    assert held(source, kind) == expected(source)
    assert Kept.read(source.folder, kind).generation == 2
    assert send(source, kind) == 0


@each
def test_what_joined_at_a_boundary_that_was_sent_is_sent(source_of: Copy, kind: str) -> None:
    source = source_of()
    send(source, kind)
    join(source)
    assert send(source, kind) > 0
    assert "R_pass_1/new" in expected(source)
    assert held(source, kind) == expected(source)


@tensorboard
def test_a_rewritten_history_begins_a_new_file_that_voids_the_one_before(source_of: Copy) -> None:
    source = source_of()
    place = source.folder.parent / "tensorboard" / "small"
    send(source, "tensorboard")
    (first,) = place.iterdir()
    before = first.read_bytes()
    rewrite_steps(source, 5)
    send(source, "tensorboard")
    assert sorted(place.iterdir())[0] == first
    assert first.read_bytes() == before, "event files only grow"
    assert len(list(place.iterdir())) == 2


@tensorboard
def test_event_files_of_another_program_are_left_alone(source_of: Copy) -> None:
    source = source_of()
    place = source.folder.parent / "tensorboard" / "small"
    place.mkdir(parents=True)
    (theirs := place / "events.out.tfevents.1700000000.host.4711.0").touch()
    send(source, "tensorboard")
    ours = place / Kept.read(source.folder, "tensorboard").file
    assert ours.name.endswith(".000001")
    assert forget(job(source, None, "tensorboard"), source.read.run("small").uid) == ["TensorBoard"]
    assert list(place.iterdir()) == [theirs]


@tensorboard
def test_event_files_that_were_deleted_are_written_anew(source_of: Copy) -> None:
    source = as_if_killed_after(source_of(), 5, 2)
    send(source, "tensorboard")
    for path in (source.folder.parent / "tensorboard" / "small").iterdir():
        path.unlink()
    whole = replace(source_of(), folder=source.folder)
    send(whole, "tensorboard")
    assert held(whole, "tensorboard") == expected(whole)


@each
def test_what_was_deleted_of_a_finished_run_is_written_anew(source_of: Copy, kind: str) -> None:
    source = source_of()
    send(source, kind)
    assert sinks.is_complete(*whole_of(source, kind))
    shutil.rmtree(source.folder.parent / kind)
    assert not sinks.is_complete(*whole_of(source, kind))
    assert send(source, kind) > 0
    assert held(source, kind) == expected(source)
    assert send(source, kind) == 0


def whole_of(source: Source, kind: str) -> tuple[Destination, RunRow, str | None, Path]:
    run = source.read.run(source.run)
    return at(source.folder.parent, kind), run, source.read.all_boundary_times().get(run.name), source.folder


@wandb
def test_a_run_goes_whole_into_another_project(source_of: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[tuple[str, Cursor]]()
    monkeypatch.setattr(wandb_runs, "_mode", lambda: "online")
    monkeypatch.delenv("WANDB_MODE")
    sent = wandb_runs._send

    def send_offline(to: Destination, folder: Path, delivery: Delivery, kept: Kept) -> int:
        opened.append((to.project, kept.cursor))
        monkeypatch.setenv("WANDB_MODE", "offline")
        num_values = sent(to, folder, delivery, kept)
        monkeypatch.delenv("WANDB_MODE")
        return num_values

    monkeypatch.setattr(wandb_runs, "_send", send_offline)
    source = source_of()
    for project in ("one", "one", "another"):
        to = Destination("wandb", str(source.folder.parent), project)
        catch_up(to, source.read, source.run, source.folder, source.url, lambda: True)
    assert opened == [("one", Cursor()), ("another", Cursor())]
    assert Kept.read(source.folder, "wandb").earlier == ["one"]


@wandb
def test_rows_of_a_killed_pass_are_not_kept_at_their_server_where_the_run_goes_back(
    source_of: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries, deleted = list[tuple[bool, int]](), list[str]()

    def die(to: Destination, folder: Path, delivery: Delivery, kept: Kept) -> int:
        deliveries.append((delivery.is_new, kept.generation))
        raise Killed

    monkeypatch.setattr(wandb_runs, "_mode", lambda: "online")
    monkeypatch.setattr(wandb_runs, "_send", die)
    monkeypatch.setattr(wandb_runs, "_delete", lambda project, id: deleted.append(id))
    source = source_of()
    for change in (lambda: None, lambda: None, lambda: rewrite_steps(source, 5)):
        change()
        with pytest.raises(Killed):
            send(source, "wandb")
    assert deliveries == [(True, 1), (False, 1), (True, 2)]
    assert deleted == [source.read.run("small").uid]


@wandb
def test_a_removed_run_goes_from_every_project_it_was_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    there = {"me/one/uid", "me/two/uid-2", "me/two/other", "me/three/uid"}

    class Api:
        default_entity = "me"

        def run(self, path: str) -> SimpleNamespace:
            if path not in there:
                raise wandb.errors.CommError(f"Could not find run <Run {path}>")
            return SimpleNamespace(delete=lambda: there.remove(path))

    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    Kept("uid", generation=2, mode="online", project="two", earlier=("one",)).write(tmp_path, "wandb")
    assert sinks.forget(Destination("wandb", str(tmp_path), "three"), tmp_path, "uid")
    assert there == {"me/two/other", "me/three/uid"}


@wandb
def test_what_their_client_refuses_is_not_tried_again(source_of: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    def refuse(*_: object) -> int:
        raise wandb.errors.UsageError("Invalid project name 'a/b'")

    monkeypatch.setattr(wandb_runs, "_send", refuse)
    monkeypatch.setattr(daemon, "GIVE_UP_S", -1.0)
    monkeypatch.setenv("WANDB_MODE", "offline")
    source, said = source_of(), list[str]()
    to = Destination("wandb", str(source.folder.parent), "a/b")
    with pytest.raises(TrackerError, match=r"It is not tried again.* --set tracker\.experiment=NAME"):
        follow(TrackerJob(source.run, str(source.folder), source.url, None, (to,)), said.append)
    assert not [text for text in said if "Trying again" in text]


@tensorboard
def test_params_tags_and_note_are_texts(source_of: Copy) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    source = source_of()
    send(source, "tensorboard")
    reader = EventAccumulator(str(source.folder.parent / "tensorboard" / "small"))
    reader.Reload()
    texts = {tag: reader.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in reader.Tags()["tensors"]}
    assert set(texts) == {"params/text_summary", "tags/text_summary", "note/text_summary"}
    assert "| bandit | " in texts["params/text_summary"]
    assert source.read.run("small").uid in texts["tags/text_summary"]


@wandb
def test_a_run_of_theirs_has_config_summary_and_an_end(source_of: Copy) -> None:
    source = source_of()
    send(source, "wandb")
    (file,) = wandb_files(source.folder.parent)
    assert source.read.run("small").uid in file.parent.name, "resumed runs go on in the same one"
    kinds = kinds_in_wandb(file)
    assert kinds["run"] >= 1
    assert kinds["exit"] == 1
    assert b"config_hash" in file.read_bytes()
    assert b"evergreen.tasks_changed" in file.read_bytes()
    assert b"evergreen.status" in file.read_bytes()


@wandb
def test_a_pass_that_is_not_wanted_any_more_leaves_no_half(source_of: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE", 4)
    source, answers = source_of(), iter([True, False])
    assert send(source, "wandb", lambda: next(answers)) == 0
    assert wandb_files(source.folder.parent) == []
    send(source, "wandb")
    assert held(source, "wandb") == expected(source)


@wandb
def test_without_a_login_it_says_what_is_wrong(source_of: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(TrackerError, match="switched off: unset WANDB_MODE"):
        send(source_of(), "wandb")


@both
def test_one_that_is_away_holds_up_no_other(source_of: Copy, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    monkeypatch.setattr(daemon, "PAUSES_S", (0.05,))
    monkeypatch.setattr(daemon, "GIVE_UP_S", 0.5)
    source, said = source_of(), list[str]()
    away = Target("http://127.0.0.1:9", "evergreen", None)
    with pytest.raises(TrackerError, match=r"127\.0\.0\.1:9"):
        follow(job(source, away, "tensorboard", "wandb"), said.append)
    for kind in sinks.KINDS:
        assert held(source, kind) == expected(source)
    assert any(line.startswith("TensorBoard: ") for line in said)

    def fails(*_: object) -> int:
        raise TrackerError("No room there.")

    monkeypatch.setattr(tensorboard_files, "send", fails)
    with pytest.raises(TrackerError, match="No room there"):
        send_now(job(source_of(), target, "tensorboard"), said.append)
    assert any("values sent" in line and "TensorBoard" not in line for line in said[-2:]), "MLflow has them"


@both
def test_one_process_brings_all_three_up_to_date(source_of: Copy, target: Target) -> None:
    source, said = source_of(), list[str]()
    follow(job(source, target, "tensorboard", "wandb"), said.append)
    for kind in sinks.KINDS:
        assert held(source, kind) == expected(source)
    assert send_now(job(source, target, "tensorboard", "wandb"), said.append) is not None
    assert [line for line in said[-3:] if line.endswith("up to date")] == said[-3:]
    assert [*MlflowRecord(target).curricula()] == [source.read.run(source.run).uid]


@both
def test_a_removed_run_goes_from_all_of_them(source_of: Copy) -> None:
    source = source_of()
    for kind in sinks.KINDS:
        send(source, kind)
    uid, home = source.read.run("small").uid, source.folder.parent
    everywhere = job(source, None, "tensorboard", "wandb")
    assert forget(everywhere, None) == []
    assert forget(everywhere, uid) == ["TensorBoard", "Weights & Biases"]
    assert not (home / "tensorboard" / "small").exists()
    assert wandb_files(home) == []


def test_what_is_not_installed_is_named_with_its_remedy(source_of: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "find_spec", lambda name: None)
    with pytest.raises(TrackerError, match=r"pip install 'evergreen-rl\[tensorboard\]'"):
        send(source_of(), "tensorboard")


def process(source: Source, *kinds: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-P", "-m", "store.tracker", source.run]
    started = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdin is not None
    with started.stdin as pipe:
        pipe.write(job(source, None, *kinds).as_json())
    started.stdin = None
    return started


def of_wandb(home: Path) -> list[int]:
    """The processes of their client that write below a home."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"wandb-core" in (entry / "cmdline").read_bytes() and any(
                str(home) in os.readlink(one) for one in (entry / "fd").iterdir()
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@wandb
@needs_proc
def test_a_pass_after_their_service_was_killed_begins_another(source_of: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    source, rows = source_of(), wandb_runs._rows

    def killing(page: pages.Page) -> Iterator[tuple[int, dict[str, float]]]:
        (service,) = of_wandb(source.folder.parent)
        os.kill(service, signal.SIGKILL)
        return rows(page)

    with monkeypatch.context() as patched:
        patched.setattr(wandb_runs, "_rows", killing)
        with pytest.raises(TrackerError, match="Weights & Biases up to date with small failed"):
            send(source, "wandb")
    send(source, "wandb")
    assert held(source, "wandb") == expected(source)


@wandb
def test_what_a_service_of_theirs_ends_with_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb
    from wandb.sdk.mailbox import MailboxClosedError

    monkeypatch.setattr(wandb, "teardown", lambda: sys.exit(-9))
    with pytest.raises(TrackerError, match="their service ended with -9"), wandb_runs._speaking_of("small"):
        wandb_runs._end_service()
    with pytest.raises(TrackerError, match="nobody listens"), wandb_runs._speaking_of("small"):
        raise MailboxClosedError("nobody listens")
    with pytest.raises(KeyError), wandb_runs._speaking_of("small"):
        raise KeyError("ours")


@both
@needs_proc
@pytest.mark.slow
def test_a_killed_process_takes_their_service_along_and_loses_nothing(source_of: Copy) -> None:
    going_on = as_if_killed_after(source_of(), 5, 2)
    home = going_on.folder.parent
    with run_lock(going_on.folder):
        first = process(going_on, "tensorboard", "wandb")
        deadline = time.monotonic() + 60
        while not (files := wandb_files(home)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert files
        first.send_signal(signal.SIGKILL)
        first.communicate()
    while (left := of_wandb(home)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == [], [(Path(f"/proc/{one}/cmdline").read_bytes(), os.listdir(f"/proc/{one}/fd")) for one in left]
    whole = replace(source_of(), folder=going_on.folder)
    second = process(whole, "tensorboard", "wandb")
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert of_wandb(home) == []
    for kind in sinks.KINDS:
        assert held(whole, kind) == expected(whole)
