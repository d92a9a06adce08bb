"""A rank that does what rank 0 tells, until it says that it is over.

    python -m policies.follower FOLDER RANK

FOLDER holds the policy as it is at the start and `follower.json`: options of the learner and of the objective, threads.
The ranks meet by a file in it. One that a launcher started calls `follow_launched` instead, and is told the folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from policies import kernels
from policies.config import BASE, AdapterConfig, LearnerConfig, PolicyConfig
from policies.errors import NonFiniteLogits, PolicyError
from policies.hardware import use_threads
from policies.launchers import SIGNALS, LaunchedProcess, hear_signals
from policies.learner import Learner
from policies.models.tiny_tokenizer import read_tokenizer
from policies.objectives.by_environment import AnyObjective, make_objective
from policies.objectives.config import ObjectiveConfig
from policies.policy import Policy, read_model
from policies.ranks import CPU, Ranks
from policies.sharding import ShardedOptimizer

SETTINGS, MEETING, POLICY = "follower.json", "meeting", "policy"
READY = "ready-"  # and a rank: it has read everything, and is about to meet the others
BEGIN, END = "begin", "end"  # of a run; only processes of a launcher are told the first
LEAVE = "leave"  # them, which may do several runs in turn


def write_settings(
    folder: Path, policy: Policy, learner: LearnerConfig, objective: Mapping[str, Any], **more: Any
) -> None:
    """Write what other ranks begin with."""
    replace(policy, base_fingerprint=None).save(folder / POLICY)  # with what stands beside adapters
    settings = {
        "name": policy.name,
        "template": policy.template,
        "dtype": str(policy.dtype).removeprefix("torch."),
        "device": policy.device.type,
        "kernels": policy.kernels,
        "adapter": None if policy.adapter is None else policy.adapter.model_dump(mode="json"),
        "learner": learner.model_dump(mode="json"),
        "objective": objective,
        **more,
    }
    (folder / SETTINGS).write_text(json.dumps(settings))


def run_commands(work: Ranks, learner: Learner, objective: AnyObjective) -> tuple[str, dict[str, Any]]:
    """Do what rank 0 tells, until it says that the run is over, or all is; give what it says then.

    A policy that has diverged has done so on all ranks: rank 0 reports it, and may still ask for what is saved.
    """
    while True:
        command, data, tensors = work.receive()
        if command in (END, LEAVE):
            return command, data
        if command == "update":
            try:
                learner.follow(objective, data, tensors)
            except NonFiniteLogits:
                continue
        elif command == "free":
            learner.follow_freeing()
        else:
            assert isinstance(learner.optimizer, ShardedOptimizer)
            learner.optimizer.follow(command, data, tensors)


def read_start(folder: Path, device: torch.device) -> tuple[Policy, dict[str, Any]]:
    """Read the policy and the settings that `write_settings` wrote, and be ready to use them on a device."""
    settings = json.loads((folder / SETTINGS).read_text())
    use_threads(settings["threads"])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if settings["search_path"] is not None:
        sys.path.append(settings["search_path"])  # parts of the user's own
    saved, adapter = folder / POLICY, settings["adapter"]
    config = PolicyConfig.model_validate(settings["policy_config"])
    source = str(saved if adapter is None else saved / BASE)
    model = read_model(source, getattr(torch, settings["dtype"]), trust_remote_code=config.trust_remote_code)
    if settings["kernels"] == "liger":
        kernels.put_into(model, settings["name"])
    policy = Policy(model, read_tokenizer(saved), settings["name"], settings["template"], kernels=settings["kernels"])
    if adapter is not None:
        policy.put_adapters(AdapterConfig.model_validate(adapter), seed=0, has_own_base=True)
        policy.load_weights(saved)
    return policy, settings


def follow(work: Ranks, policy: Policy, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Make the updates of a run together with the other ranks; give what rank 0 says at its end."""
    section = ObjectiveConfig.model_validate(settings["objective"])
    objective = make_objective(section, settings["environments"], temperature=settings["temperature"])
    config = LearnerConfig.model_validate(settings["learner"])
    about = {name: settings[name] for name in ("temperature", "optimizes_on_host", "replicas")}
    learner = Learner(policy, config, work=work, **about)
    return run_commands(work, learner, objective)


def follow_launched(process: LaunchedProcess) -> int:
    """Follow as one of the processes that a launcher started; give rank 0's exit code, which is theirs too.

    So whoever starts a job again that is to go on starts all of its processes. A run may have others behind it, as its
    baseline is, or none. Raises `PolicyError`: rank 0's folder is not seen here.
    """
    work = Ranks.join_launched(process)
    _leave_signals_to_rank_0(work)
    with work.membership(), work.ending_as_told(), work.together():
        while True:
            command, data, _ = work.receive()
            if command == BEGIN:
                command, data = _follow_run(work, data)
            if command == LEAVE:
                return int(data["exit_code"])


def _follow_run(work: Ranks, data: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    folder = Path(data["folder"])
    if not folder.is_dir():
        raise PolicyError(f"rank {work.rank} does not see {folder}: have the home where all machines see it")
    if data["device"] == "cpu":
        work.device = CPU
    policy, settings = read_start(folder, work.device)
    work.total(torch.zeros(1))  # all have read it
    return follow(work, policy, settings)


def _leave_signals_to_rank_0(work: Ranks | None = None) -> None:
    """It finishes its step and saves, and then says that it is over; on another machine it is told of them."""

    def note(number: int, frame: object) -> None:
        assert work is not None
        work.signal = number

    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN if work is None else note)
    hear_signals()  # which who started this process had it hold until now


def _end_with_rank_0() -> None:
    """End this process once rank 0, which holds the other end of its input, is gone.

    Whatever it waits for then: a kernel, or ranks that never come to the meeting.
    """

    def watch() -> None:
        while os.read(0, 4096):  # not `sys.stdin`: an interpreter that ends while a thread reads it aborts
            pass
        os._exit(1)

    threading.Thread(target=watch, name="rank 0", daemon=True).start()


def main(folder: Path, rank: int) -> None:
    """Follow in a process that rank 0 started, on the same machine."""
    _leave_signals_to_rank_0()
    is_on_gpu = json.loads((folder / SETTINGS).read_text())["device"] == "cuda"
    device = torch.device("cuda", rank) if is_on_gpu else CPU
    policy, settings = read_start(folder, device)
    (folder / f"{READY}{rank}").touch()
    work = Ranks.join(folder / MEETING, rank, settings["size"], device)  # then the files may go
    with work.membership():
        follow(work, policy, settings)


if __name__ == "__main__":
    _end_with_rank_0()
    main(Path(sys.argv[1]), int(sys.argv[2]))
