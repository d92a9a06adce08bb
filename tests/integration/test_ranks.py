"""Runs whose policy is updated by several processes."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from safetensors.torch import load_file

import orchestrator
from orchestrator.errors import RESUMABLE, SpecError
from orchestrator.runs import ranks
from orchestrator.runs.removal import own_files
from orchestrator.spec import load_spec
from policies.errors import PolicyError
from tests.integration import stalled_rank
from tests.integration.forked_followers import forked_followers
from tests.integration.processes import Process, evergreen
from tests.integration.runs import At, Ending, Killed, choices, ending, kill, newest_checkpoint, told
from tests.linux_processes import any_running, below
from tests.orchestrator.specs import APART, REPOSITORY, alone, small, written
from tests.shares import slow


def spec(ranks: int = 2, replicas: int = 1, **sections: Any) -> dict[str, Any]:
    given = small("ranks", **sections)
    given["curriculum"] = {**given["curriculum"], "stages": 2}
    given["environments"] = {**given["environments"], "noise": APART}
    return {**given, "resources": {**given["resources"], "ranks": ranks, "replicas": replicas}}


@pytest.fixture(scope="module", autouse=True)
def _forked() -> Iterator[None]:
    """Runs of this process; those of a command start followers as users have them."""
    with forked_followers():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ending]:
    """Run it once on two ranks, undisturbed."""
    home = tmp_path_factory.mktemp("whole")
    assert orchestrator.run(spec(), home=home).status == "finished"
    return home, ending(home, "ranks")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, whole: tuple[Path, Ending]) -> Callable[[int, int], Path]:
    """Give the home of a run on so many ranks and replicas that nothing disturbed."""
    homes = {(2, 1): whole[0]}

    def run(num_ranks: int, replicas: int) -> Path:
        layout = num_ranks, replicas
        if layout not in homes:
            homes[layout] = tmp_path_factory.mktemp("undisturbed")
            assert orchestrator.run(spec(*layout), home=homes[layout]).status == "finished"
        return homes[layout]

    return run


def test_two_ranks_learn_what_one_process_learns(undisturbed: Callable[[int, int], Path]) -> None:
    there, here = (
        load_file(newest_checkpoint(undisturbed(num, 1), "ranks") / "weights" / "model.safetensors") for num in (2, 1)
    )
    assert there.keys() == here.keys()
    assert max(float((there[name] - here[name]).abs().max()) for name in here) < 1e-4


@pytest.mark.slow
def test_a_run_is_killed_and_resumed_bit_for_bit_on_as_many(tmp_path: Path, whole: tuple[Path, Ending]) -> None:
    with pytest.raises(Killed):
        orchestrator.run(spec(), home=tmp_path, watcher=At(5, kill, ["step"]))
    assert orchestrator.resume("ranks", home=tmp_path).status == "finished"
    assert ending(tmp_path, "ranks") == whole[1]


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "replicas"), [(2, 2), (4, 2)])
def test_replicas_are_killed_and_resumed_bit_for_bit(tmp_path: Path, ranks: int, replicas: int) -> None:
    given = spec(ranks, replicas)
    assert orchestrator.run(given, home=tmp_path / "whole").status == "finished"
    with pytest.raises(Killed):
        orchestrator.run(given, home=tmp_path / "killed", watcher=At(5, kill, ["step"]))
    assert orchestrator.resume("ranks", home=tmp_path / "killed").status == "finished"
    assert ending(tmp_path / "killed", "ranks") == ending(tmp_path / "whole", "ranks")


@pytest.mark.slow  # 20 s; tests/policies/test_ranks.py has the arithmetic
def test_adapters_learn_on_two_ranks_what_they_learn_on_one(tmp_path: Path) -> None:
    ends = []
    for num_ranks in (1, 2):
        given, home = spec(num_ranks, policy={"adapter": 4}), tmp_path / str(num_ranks)
        assert orchestrator.run(given, home=home, until_step=3).status == "stopped"
        ends.append(load_file(newest_checkpoint(home, "ranks") / "weights" / "adapter_model.safetensors"))
    assert all(float((one - ends[0][name]).abs().max()) < 1e-4 for name, one in ends[1].items())
    assert any(float(one.abs().max()) > 0 for name, one in ends[1].items() if "lora_B" in name)


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["reset", "carry"])
def test_adapters_on_two_ranks_are_killed_and_resumed_bit_for_bit(tmp_path: Path, boundary: str) -> None:
    given = spec(policy={"adapter": {"rank": 4, "boundary": boundary}})
    assert orchestrator.run(given, home=tmp_path / "whole").status == "finished"
    with pytest.raises(Killed):
        orchestrator.run(given, home=tmp_path / "killed", watcher=At(6, kill, ["step"]))
    assert orchestrator.resume("ranks", home=tmp_path / "killed").status == "finished"
    assert ending(tmp_path / "killed", "ranks") == ending(tmp_path / "whole", "ranks")


CHANGES = {
    "weights": {
        "resources": {"offload": "optimizer"},
        "curriculum": {
            "boundary": {
                "interventions": [
                    {"type": "shrink_perturb", "noise": 0.01},
                    {"type": "redo", "tau": 0.8, "rows": 4},
                    {"type": "average", "share": 0.7},
                    {"type": "base_fusion", "alpha": 0.9},
                ]
            }
        },
        "guards": {"of": [{"when": "loss > -1000", "steps": 2, "action": "roll_back"}]},
    },
    "merged adapters": {"policy": {"adapter": {"rank": 4, "boundary": "merge"}}, "resources": {"offload": "optimizer"}},
    "short weights": {
        "policy": {"dtype": "bfloat16"},
        "curriculum": {"boundary": {"interventions": [{"type": "shrink_perturb", "noise": 0.01}]}},
    },
}


def with_ranks(ranks: int, **sections: Any) -> dict[str, Any]:
    """Give a spec with all of these, each within its section."""
    given = spec(ranks)
    for name, own in sections.items():
        given[name] = {**given.get(name, {}), **own} if isinstance(own, dict) else own
    return given


@pytest.mark.parametrize("changes", ["weights", slow("merged adapters"), slow("short weights")])
def test_what_changes_weights_between_updates_does_so_on_all_ranks(tmp_path: Path, changes: str) -> None:
    ends, fired = [], []
    for number in (1, 2):
        given, home = with_ranks(number, **CHANGES[changes]), tmp_path / str(number)
        assert orchestrator.run(given, home=home).status == "finished"
        ends.append(weights_at(home))
        fired.append([event["text"] for event in told(home, "ranks")["events"] if "guard" in event["kind"]])
    assert ends[0].keys() == ends[1].keys()
    gaps = [float((one - ends[1][name]).abs().max()) for name, one in ends[0].items()]
    assert max(gaps) < (2e-2 if changes == "short weights" else 1e-4)
    assert list(map(len, fired)) == ([3, 3] if changes == "weights" else [0, 0])


@pytest.mark.slow
@pytest.mark.parametrize("changes", list(CHANGES))
def test_changed_weights_are_killed_and_resumed_bit_for_bit(tmp_path: Path, changes: str) -> None:
    given = with_ranks(2, **CHANGES[changes])
    assert orchestrator.run(given, home=tmp_path / "whole").status == "finished"
    with pytest.raises(Killed):
        orchestrator.run(given, home=tmp_path / "killed", watcher=At(5, kill, ["step"]))
    assert orchestrator.resume("ranks", home=tmp_path / "killed").status == "finished"
    assert ending(tmp_path / "killed", "ranks") == ending(tmp_path / "whole", "ranks")


def weights_at(home: Path) -> dict[str, Any]:
    """Read all weights of a run's end, adapters and what they stand beside."""
    files = sorted((newest_checkpoint(home, "ranks") / "weights").rglob("*.safetensors"))
    return {f"{path.parent.name} {name}": one.float() for path in files for name, one in load_file(path).items()}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2, 1), (1, 1)),
        ((1, 1), (2, 1)),
        slow(((2, 1), (3, 1))),
        slow(((1, 1), (3, 1))),
        slow(((2, 1), (2, 2))),
        slow(((2, 2), (1, 1))),
    ],
)
def test_another_number_of_ranks_or_replicas_goes_on_and_says_that_bits_differ(
    tmp_path: Path, undisturbed: Callable[[int, int], Path], before: tuple[int, int], after: tuple[int, int]
) -> None:
    with pytest.raises(Killed):
        orchestrator.run(spec(*before), home=tmp_path, watcher=At(5, kill, ["step"]))
    overrides = [f"resources.ranks={after[0]}", f"resources.replicas={after[1]}"]
    assert orchestrator.resume("ranks", overrides=overrides, home=tmp_path).status == "finished"
    events = [event["text"] for event in told(tmp_path, "ranks")["events"]]
    for key, one, other in zip(("ranks", "replicas"), before, after, strict=True):
        is_said = any(f"{key} was {one}, is {other}" in text and "not bit for bit" in text for text in events)
        assert is_said == (one != other), key
    (step,) = (
        int(found[1]) for text in events if (found := re.match(r"resumed from the checkpoint of step (\d+)", text))
    )
    picks, tasks = choices(tmp_path, "ranks", step + 1)
    assert (picks, tasks) == choices(undisturbed(*before), "ranks", step + 1)
    assert len(picks) >= len(tasks) == spec()["step"]["groups"]
    there, here = (
        load_file(newest_checkpoint(home, "ranks") / "weights" / "model.safetensors")
        for home in (undisturbed(*before), tmp_path)
    )
    assert max(float((there[name] - here[name]).abs().max()) for name in here) < 1e-4


def followers_of(process: int) -> list[int]:
    """Find the processes below one that follow it."""
    return [one.pid for one in below(process) if b"policies.follower" in one.words]


def wait_until(holds: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def evergreen_stalled(rank: int, moment: str, note: Path, *words: object) -> None:
    """Be the command, and have one of its two ranks stop in the middle of something."""
    if rank == 0:
        stalled_rank.stall(moment, note)
    else:
        starting(pytest.MonkeyPatch(), "tests.integration.stalled_rank", moment, str(note))
    evergreen(*words)


def kill_when_noted(note: Path, *begun: Process) -> list[bytes]:
    """Kill the process that stops in the middle; all of these and all that they have started are soon gone.

    Gives the words of the commands that were started.
    """
    wait_until(lambda: note.exists() or not all(one.is_going() for one in begun))
    assert note.exists(), [one.output.read_text() for one in begun]
    first = [one.pid for one in begun if one.pid is not None]
    started = [child for one in first for child in below(one)]
    every, killed = [*first, *(child.pid for child in started)], int(note.read_text())
    assert killed in every
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not any_running(every), 10)
    return [word for child in started for word in child.words]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes as Linux lists them")
@pytest.mark.parametrize(
    ("rank", "moment", "sections"),
    [
        (1, "update", {}),
        (0, "save", {}),
        slow((0, "save", {"checkpoint": {"every_steps": 2, "background": False}})),
        slow((0, "update", {"tracker": "mlflow"})),
        slow((1, "update", {"tracker": "mlflow"})),
    ],
)
def test_a_rank_that_is_killed_in_the_middle_takes_all_along_and_a_resume_ends_the_same(
    tmp_path: Path, whole: tuple[Path, Ending], rank: int, moment: str, sections: dict[str, Any]
) -> None:
    home, note = tmp_path / "home", tmp_path / "note"
    file = written(tmp_path, spec(**sections))
    run = Process(tmp_path, rank, moment, note, "run", file, "--home", home, call=evergreen_stalled)
    try:
        words = kill_when_noted(note, run)
    finally:
        if run.is_going():
            run.signal(signal.SIGKILL)
    assert b"environments.scoring.worker" in words
    assert (b"policies.follower" if rank == 0 else b"tests.integration.stalled_rank") in words
    assert any(b"store.tracker" in word for word in words) == ("tracker" in sections)
    exit_code, said = run.end()
    if rank:
        assert exit_code == RESUMABLE, "so that whoever starts jobs again starts this one"
        assert "rank 1 has ended with -9" in said
        assert "Traceback" not in said
    if moment == "save":
        folder = home / "ranks" / "checkpoints"
        assert list(folder.glob(".*/optimizer/optimizer-*")), "it was being written"
        assert not list(folder.glob(".*/manifest.json"))
    assert orchestrator.resume("ranks", home=home).status == "finished"
    assert not list(home.glob(f"ranks/{ranks.START}*")), "what the others begin with"
    assert ending(home, "ranks") == whole[1]


@pytest.mark.parametrize("phase", ["plays", "measures"])
def test_a_rank_that_ends_while_the_first_is_at_something_else_is_noticed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    followers: list[Any] = []
    killed: list[float] = []
    start = ranks._start

    def noted(*given: Any) -> Any:
        followers.append(start(*given))
        return followers[-1]

    def stay(*given: Any, **options: Any) -> None:
        followers[0].kill()
        killed.append(time.monotonic())
        time.sleep(60)

    where = {
        "plays": "policies.samplers.transformers.TransformersSampler.generate",
        "measures": "orchestrator.measurements.evaluation.Evaluation.run",
    }
    monkeypatch.setattr(ranks, "_start", noted)
    begin = At(1, lambda: monkeypatch.setattr(where[phase], stay), ["stage"])
    given = {**alone("ranks"), "resources": {"search_path": str(REPOSITORY), "ranks": 2}}
    ended = orchestrator.run(given, home=tmp_path, watcher=begin)
    assert time.monotonic() - killed[0] < 5
    assert "rank 1 has ended with -9. `evergreen resume` goes on from" in str(ended.reason)
    story = told(tmp_path, "ranks")
    assert (story["status"], story["num_steps"]) == ("stopped", 0 if phase == "plays" else 3)
    assert not list(tmp_path.glob(f"ranks/{ranks.START}*"))


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"sampler": "vllm"}, "take `vllm_server`"),
        (
            {"resources": {"replicas": 4}},
            "resources.replicas: 2 ranks cannot be 4 replicas of equally many: say 1 or 2, or `ranks` as a multiple",
        ),
    ],
)
def test_what_ranks_cannot_do_is_refused_when_the_spec_is_loaded(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        load_spec(with_ranks(2, **sections))


def test_a_rank_that_cannot_begin_is_told_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(folder: Path, rank: int) -> subprocess.Popen[bytes]:
        with (folder / f"rank-{rank}.log").open("wb") as log:
            return subprocess.Popen([sys.executable, "-c", "raise SystemExit('no room')"], stderr=log)

    monkeypatch.setattr("orchestrator.runs.ranks._start", start)
    kept = tmp_path / "ranks" / "rank-1.log"
    says = re.escape(f"rank 1 has ended with 1: no room (its output: {kept}), before the first update")
    with pytest.raises(PolicyError, match=says):
        orchestrator.run(spec(), home=tmp_path)
    assert kept.read_text() == "no room\n"
    assert not list(tmp_path.glob(f"ranks/{ranks.START}*"))
    assert kept in own_files(kept.parent), "rm removes it"


def test_a_rank_that_takes_long_to_end_fails_no_run_that_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "ENDING_S", 0.0)
    assert orchestrator.run(spec(), home=tmp_path).status == "finished"


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("kill -KILL $$", "rank 1 has ended with -9, before the first update"),
        ("kill -TERM $$", "rank 1 has ended with -15, before the first update"),
        ("touch {}/ready-1; kill -KILL $$", "rank 1 has ended with -9. `evergreen resume`"),
    ],
)
def test_a_rank_that_a_signal_ends_before_all_have_met_is_lost_and_the_run_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, says: str
) -> None:
    """The run failed, as if it could not begin, or waited for ever where the rank was about to come."""

    def start(folder: Path, rank: int) -> subprocess.Popen[bytes]:
        ranks._said(folder, rank).touch()
        return subprocess.Popen(["sh", "-c", does.format(folder)])

    monkeypatch.setattr("orchestrator.runs.ranks._start", start)
    ended = orchestrator.run(spec(), home=tmp_path)
    assert ended.status == "stopped"
    assert says in str(ended.reason)
    assert not list(tmp_path.glob("ranks/rank*")), "it said nothing that could be kept"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes as Linux lists them")
def test_a_signal_to_all_processes_as_they_start_stops_the_run_which_goes_on(
    tmp_path: Path, whole: tuple[Path, Ending]
) -> None:
    home, file = tmp_path / "home", written(tmp_path, spec())
    run = Process(tmp_path, "run", file, "--home", home)
    try:
        assert run.pid is not None
        wait_until(lambda: followers_of(run.pid) or not run.is_going(), 120)  # type: ignore[arg-type]
        every = [run.pid, *followers_of(run.pid)]
        assert len(every) == 2, run.output.read_text()
        for one in every:
            os.kill(one, signal.SIGTERM)
        exit_code, said = run.end()
        wait_until(lambda: not any_running(every), 10)
    finally:
        if run.is_going():
            run.signal(signal.SIGKILL)
    assert exit_code == RESUMABLE, said
    assert orchestrator.resume("ranks", home=home).status == "finished"
    assert ending(home, "ranks").weights == whole[1].weights


def starting(monkeypatch: pytest.MonkeyPatch, *module: str, **options: Any) -> None:
    """Start other ranks in another way."""

    def start(folder: Path, rank: int) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", module[0], str(folder), str(rank), *module[1:]]
        with (folder / f"rank-{rank}.log").open("wb") as log:
            about = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log, "env": ranks._environment()}
            return subprocess.Popen(words, **about, **options)

    monkeypatch.setattr(ranks, "_start", start)


@pytest.mark.slow
@pytest.mark.parametrize("background", [True, False])
def test_a_rank_that_is_killed_while_it_writes_its_share_costs_that_checkpoint_alone(
    tmp_path: Path, whole: tuple[Path, Ending], monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    note, killed = tmp_path / "note", [0.0]
    given = spec(checkpoint={"every_steps": 1, "background": background})
    starting(monkeypatch, "tests.integration.stalled_rank", "save", str(note))

    def kill_it() -> None:
        wait_until(note.exists)
        time.sleep(0.5)  # rank 0 waits by then
        killed[0] = time.monotonic()
        os.kill(int(note.read_text()), signal.SIGKILL)

    killer = Thread(target=kill_it)
    killer.start()
    ended = orchestrator.run(given, home=tmp_path / "home")
    killer.join()
    assert "rank 1 has ended with -9" in str(ended.reason)
    assert time.monotonic() - killed[0] < 10
    folder = tmp_path / "home" / "ranks" / "checkpoints"
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == stalled_rank.FILE, "those before, and that of the start, of which it has no share"
    assert newest_checkpoint(tmp_path / "home", "ranks") == folder / names[-1]
    monkeypatch.undo()
    assert orchestrator.resume("ranks", home=tmp_path / "home").status == "finished"
    assert ending(tmp_path / "home", "ranks") == whole[1]
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_a_rank_that_fails_in_mid_update_is_told_in_its_own_words_and_its_output_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting(monkeypatch, "tests.integration.stalled_rank", "failure", str(tmp_path / "note"))
    ended = orchestrator.run(spec(), home=tmp_path)
    assert ended.status == "stopped"
    kept = tmp_path / "ranks" / "rank-1.log"
    assert f"rank 1 has ended with 1: RuntimeError: no room (its output: {kept})" in str(ended.reason)
    assert "in stalling" in kept.read_text(), "where it was"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
@pytest.mark.slow
def test_a_disk_that_is_full_for_another_rank_stops_the_run_and_says_so(
    tmp_path: Path, whole: tuple[Path, Ending], monkeypatch: pytest.MonkeyPatch
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    starting(monkeypatch, "policies.follower", preexec_fn=limit)
    ended = orchestrator.run(spec(), home=tmp_path)
    assert ended.status == "stopped"
    folder = tmp_path / "ranks" / "checkpoints"
    assert "File too large. Nothing is lost: the newest checkpoint is of step" in str(ended.reason)
    assert f"{folder}/step-0000" in str(ended.reason)
    assert not list(folder.glob(".*"))
    monkeypatch.undo()
    assert len(list(folder.iterdir())) == 1, "that of the start, of which it has no share"
    assert orchestrator.resume("ranks", home=tmp_path).status == "finished"
    assert ending(tmp_path, "ranks") == whole[1]
