"""Runs that train adapters: killed and resumed, merged and reset at boundaries, measured, forked, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import orchestrator
from orchestrator.errors import SpecError
from orchestrator.runs import assembly
from orchestrator.spec import load_spec
from policies import adapters
from policies.config import BASE
from policies.policy import Policy
from tests.conftest import Evergreen
from tests.environments.rows.making import write_jsonl
from tests.integration.runs import At, Killed, ending, kill, newest_checkpoint, series
from tests.integration.test_model_families import saved
from tests.orchestrator.specs import alone, small
from tests.shares import slow


def spec(folder: Path, boundary: str = "carry", **sections: Any) -> dict[str, Any]:
    """A model from a folder, with everything that looks at its weights switched on."""
    if not (folder / "train.jsonl").exists():
        write_jsonl(folder / "train.jsonl", [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(60)])
        saved(folder / "model", "qwen3")
    rows = {"type": "rows", "train": str(folder / "train.jsonl"), "prompt": "question", "max_tokens": 4}
    given: dict[str, Any] = {
        **small("adapters"),
        "policy": {
            "model": str(folder / "model"),
            "dtype": "bfloat16",
            "adapter": {"rank": 4, "alpha": 8, "boundary": boundary},
        },
        "environments": {"math": {**rows, "reward": "tests.environments.rewards.graders:shortness"}},
        "curriculum": {"stages": 2, "stage": {"steps": 4}},
        "step": {"groups": 4, "group_size": 4},
        "learner": {"lr": 0.01, "warmup": 0, "micro_tokens": 64},
        "checkpoint": {"every_steps": 2},
        "measure": ["network", {"type": "probe", "steps": 4, "eval_every": 2, "seeds": 1}],
        "objective": {"preset": "grpo", "reference": "stage", "kl": 0.01},
    }
    given.pop("warm_start", None)
    return {**given, **sections}


def weights_after(home: Path, stage: int, is_intervened: bool = False) -> Path:
    found = sorted(home.glob(f"adapters/checkpoints/step-*-boundary-{stage + 1:03d}*"))
    return next(one for one in found if one.name.endswith("intervened") == is_intervened) / "weights"


@pytest.mark.parametrize("boundary", [slow("carry"), "merge", slow("reset")])
@pytest.mark.slow
def test_a_run_is_killed_and_resumed_to_the_same_end(tmp_path: Path, boundary: str) -> None:
    own = spec(tmp_path, boundary)
    assert orchestrator.run(own, home=tmp_path / "whole").status == "finished"
    for step in (3,) if boundary == "carry" else (6,):
        home = tmp_path / f"killed-{step}"
        with pytest.raises(Killed):
            orchestrator.run(own, home=home, watcher=At(step, kill, ["step"]))
        assert orchestrator.resume("adapters", home=home).status == "finished"
        assert ending(home, "adapters") == ending(tmp_path / "whole", "adapters")
    newest = newest_checkpoint(tmp_path / "whole", "adapters") / "weights"
    assert (newest / adapters.WEIGHTS_FILE).is_file()
    assert (newest / BASE).is_dir() == (boundary == "merge"), "its name stands for what does not move"
    assert not (newest / "model.safetensors").exists()


@pytest.mark.slow
def test_a_run_from_tiny_keeps_what_was_warm_started_beside_them(tmp_path: Path, evergreen: Evergreen) -> None:
    own = {**small("tiny-adapters"), "policy": {"adapter": 4}, "learner": {"lr": 0.01}}
    assert orchestrator.run(own, home=tmp_path).status == "finished"
    checkpoints = sorted(tmp_path.glob("tiny-adapters/checkpoints/step-*/weights"))
    bases = [load_file(one / BASE / "model.safetensors") for one in checkpoints]
    for one in bases[1:]:
        assert one.keys() == bases[0].keys()
        assert all(torch.equal(weight, bases[0][name]) for name, weight in one.items()), "bitwise unmoved"
    learnt = [load_file(one / adapters.WEIGHTS_FILE) for one in (checkpoints[0], checkpoints[-1])]
    assert any(not torch.equal(one, learnt[1][name]) for name, one in learnt[0].items())

    assert evergreen("weights", "tiny-adapters", tmp_path / "one", "--home", tmp_path).exit_code == 0
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "one").state_dict()
    assert read.keys() >= bases[-1].keys()
    assert any(not torch.equal(read[name], one) for name, one in bases[-1].items())
    alone = evergreen("weights", "tiny-adapters", tmp_path / "two", "--adapter", "--home", tmp_path)
    assert "PeftModel" in alone.stdout
    beside = tmp_path / "two" / BASE
    assert f'AutoModelForCausalLM.from_pretrained("{beside}")' in "".join(alone.stdout.split("\n"))
    ids = torch.arange(3, 12)[None]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "one")(ids).logits
    by_name = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "two")(ids).logits
    by_hand = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(beside), tmp_path / "two")(ids).logits
    assert torch.equal(by_name, by_hand)
    assert torch.allclose(by_name, merged, atol=1e-5)
    plain = AutoModelForCausalLM.from_pretrained(beside)(ids).logits
    assert not torch.allclose(by_name, plain, atol=1e-3), "they do something"


def test_what_a_boundary_does_with_them(tmp_path: Path, evergreen: Evergreen) -> None:
    for boundary in ("merge", "reset"):
        home = tmp_path / boundary
        own = spec(tmp_path, boundary, measure=[])
        assert orchestrator.run(own, home=home).status == "finished"
        before, after = (load_file(weights_after(home, 1, done) / adapters.WEIGHTS_FILE) for done in (False, True))
        assert any(one.any() for name, one in before.items() if "lora_B" in name)
        assert not any(one.any() for name, one in after.items() if "lora_B" in name)
    kept = load_file(weights_after(tmp_path / "merge", 1, True) / BASE / "model.safetensors")
    start = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.bfloat16).state_dict()
    assert any(not torch.equal(one, start[name]) for name, one in kept.items())
    assert not (weights_after(tmp_path / "reset", 1, True) / BASE).exists()
    for boundary, base in (("merge", tmp_path / "merge-out" / BASE), ("reset", tmp_path / "model")):
        out = tmp_path / f"{boundary}-out"
        done = evergreen("weights", "adapters", out, "--adapter", "--home", tmp_path / boundary)
        assert ("The model that they stand beside" in done.stdout) == (boundary == "merge")
        described = json.loads((out / adapters.CONFIG_FILE).read_text())
        assert (described["base_model_name_or_path"], described["task_type"]) == (str(base), "CAUSAL_LM")


def test_a_guard_goes_back_to_the_adapters_of_the_stages_start(tmp_path: Path) -> None:
    guard = {"when": "entropy_token > 0", "action": "roll_back", "steps": 4, "most": 9}
    own = spec(tmp_path, measure=[], guards={"of": [guard]}, checkpoint={"every_steps": 0})
    assert orchestrator.run(own, home=tmp_path, until_step=4).status != "failed"
    assert series(tmp_path, "adapters", "grad_norm")[-1], "the last update before it moved them"
    places = (weights_after(tmp_path, 0), newest_checkpoint(tmp_path, "adapters") / "weights")
    start, end = (load_file(one / adapters.WEIGHTS_FILE) for one in places)
    assert all(torch.equal(one, end[name]) for name, one in start.items())


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        (
            {"policy": {"adapter": 4}, "curriculum": {"boundary": {"interventions": ["redo"]}}},
            "redo changes the weights of the model, which stay frozen",
        ),
        ({"curriculum": {"boundary": {"interventions": ["merge_adapters"]}}}, r"say `policy\.adapter`"),
        ({"policy": {"adapter": {"rank": 0}}}, "rank"),
        ({"policy": {"adapter": {"targets": []}}}, "no layer would learn"),
    ],
)
def test_what_cannot_be_done_is_refused_when_the_spec_is_loaded(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        load_spec({**small(), **sections})


def test_merging_below_the_reference_of_the_start_is_refused(tmp_path: Path, evergreen: Evergreen) -> None:
    own = spec(tmp_path, "merge", objective={"preset": "grpo", "kl": 0.01})
    with pytest.raises(SpecError, match="merging them moves the model"):
        orchestrator.run(own, home=tmp_path)


def test_new_weights_and_new_adapters_are_of_streams_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn from one, the adapters told what the weights are."""
    seeds: dict[str, int] = {}
    load, put = assembly.load_policy, Policy.put_adapters

    def loaded(*args: Any, seed: int, **options: Any) -> Policy:
        seeds["weights"] = seed
        return load(*args, seed=seed, **options)

    def adapted(policy: Policy, config: Any, seed: int, **options: Any) -> None:
        seeds["adapters"] = seed
        put(policy, config, seed, **options)

    monkeypatch.setattr(assembly, "load_policy", loaded)
    monkeypatch.setattr(Policy, "put_adapters", adapted)
    orchestrator.run({**alone(stages=1, steps=1), "policy": {"model": "tiny", "adapter": 4}}, home=tmp_path)
    assert len(seeds) == len({*seeds.values()}) == 2
