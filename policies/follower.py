"""`python -m policies.follower FOLDER RANK`: a rank that does what rank 0 tells, until it says that it is over.

FOLDER holds the policy as it is at the start and `follower.json`: options of the learner and of the objective, threads.
The ranks meet by a file in it.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from policies.config import LearnerConfig
from policies.errors import NonFiniteLogits, PolicyError
from policies.hardware import use_threads
from policies.learner import Learner
from policies.models.tiny_tokenizer import read_tokenizer
from policies.objectives import Objective
from policies.objectives.config import ObjectiveConfig
from policies.policy import Policy, read_model
from policies.ranks import Ranks

SETTINGS, MEETING, POLICY = "follower.json", "meeting", "policy"
READY = "ready-"  # and a rank: it has read everything, and is about to meet the others


def write_settings(
    folder: Path, policy: Policy, learner: LearnerConfig, objective: Mapping[str, Any], **more: Any
) -> None:
    """Write what other ranks begin with."""
    policy.save_merged(folder / POLICY)
    settings = {
        "name": policy.name,
        "template": policy.template,
        "dtype": str(policy.dtype).removeprefix("torch."),
        "device": policy.device.type,
        "learner": learner.model_dump(mode="json"),
        "objective": objective,
        **more,
    }
    (folder / SETTINGS).write_text(json.dumps(settings))


def run_commands(work: Ranks, learner: Learner, objective: Objective) -> None:
    """Do what rank 0 tells, until it says that it is over.

    A policy that has diverged has done so on all ranks: rank 0 reports it, and may still ask for the state.
    """
    while True:
        command, data, tensors = work.receive()
        if command == "end":
            return
        if command == "update":
            try:
                learner.follow(objective, data, tensors)
            except NonFiniteLogits:
                continue
        elif command == "state":
            learner.optimizer.state()
        elif command == "load":
            learner.optimizer.load(Path(data["folder"]))
        elif command == "reset":
            learner.optimizer.reset()
        else:
            raise PolicyError(f"rank 0 tells {command!r}, which is not known here: do all ranks run the same version?")


def main(folder: Path, rank: int) -> None:
    """Follow, in a process of its own."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # rank 0 finishes its step and saves, and then says that it is over
    settings = json.loads((folder / SETTINGS).read_text())
    use_threads(settings["threads"])
    device = torch.device("cpu")
    if settings["device"] == "cuda":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    if settings["search_path"] is not None:
        sys.path.append(settings["search_path"])  # parts of the user's own
    model = read_model(str(folder / POLICY), getattr(torch, settings["dtype"]))
    policy = Policy(model, read_tokenizer(folder / POLICY), settings["name"], settings["template"])
    (folder / f"{READY}{rank}").touch()
    work = Ranks.join(folder / MEETING, rank, settings["size"], device)  # then the files may go
    try:
        objective = Objective(ObjectiveConfig.model_validate(settings["objective"]))
        config = LearnerConfig.model_validate(settings["learner"])
        run_commands(work, Learner(policy, config, settings["temperature"], work=work), objective)
    finally:
        work.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
