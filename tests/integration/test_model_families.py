"""Models as people have them, made small: each is loaded, played, trained, killed, resumed and read by transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import orchestrator
from tests.conftest import Evergreen
from tests.environments.rows.making import write_jsonl
from tests.integration.runs import At, Killed, ending, kill, newest_checkpoint
from tests.orchestrator.specs import alone
from tests.policies.families import FAMILIES, saved
from tests.shares import slow


@pytest.mark.parametrize("dtype", [slow("float32"), "bfloat16"])
@pytest.mark.parametrize(
    ("family", "ranks"),
    [*((name, 1) if name == "gemma3" else slow((name, 1)) for name in FAMILIES), slow(("gemma3 with images", 2))],
)
def test_a_model_of_a_usual_family_is_trained_killed_resumed_and_read_elsewhere(
    tmp_path: Path, evergreen: Evergreen, family: str, ranks: int, dtype: str
) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(60)])
    rows = {"type": "rows", "train": str(tmp_path / "train.jsonl"), "prompt": "question", "max_tokens": 4}
    length = "tests.environments.rewards.graders:shortness"
    spec = {
        **alone("family", stages=2, steps=4),
        "policy": {"model": saved(tmp_path / "model", family), "dtype": dtype},
        "environments": {"math": {**rows, "reward": length}},
        "step": {"groups": 4, "group_size": 4},
        "learner": {"lr": 1e-3, "warmup": 0, "micro_tokens": 64},
        "checkpoint": {"every_steps": 2},
    }
    spec["resources"] = {**spec["resources"], "ranks": ranks}
    assert orchestrator.run(spec, home=tmp_path / "whole").status == "finished"
    with pytest.raises(Killed):
        orchestrator.run(spec, home=tmp_path / "killed", watcher=At(3, kill, ["step"]))
    assert orchestrator.resume("family", home=tmp_path / "killed").status == "finished"
    assert ending(tmp_path / "killed", "family") == ending(tmp_path / "whole", "family")

    out = tmp_path / "out"
    assert evergreen("weights", "family", "--stage", 2, out, "--home", tmp_path / "whole").exit_code == 0
    read = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    began = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=getattr(torch, dtype)).state_dict()
    kept = AutoModelForCausalLM.from_pretrained(newest_checkpoint(tmp_path / "whole", "family") / "weights")
    assert read.dtype is getattr(torch, dtype)
    assert type(read).__name__.lower().startswith(family.partition(" ")[0])
    for name, weight in read.state_dict().items():
        assert torch.equal(weight.float(), kept.state_dict()[name].float())
    assert any(not torch.equal(weight, began[name]) for name, weight in read.state_dict().items()), "it was trained"
    ids = AutoTokenizer.from_pretrained(out)("1 + 1?", return_tensors="pt").input_ids
    assert read.generate(ids, max_new_tokens=3, do_sample=False).shape[1] > ids.shape[1]


OWN_CODE = """from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own_llama"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.mark.parametrize(("ranks", "adapter"), [(1, None), slow((1, 4)), slow((2, None))])
def test_a_model_with_code_of_its_own_is_killed_and_resumed(tmp_path: Path, ranks: int, adapter: int | None) -> None:
    model = Path(saved(tmp_path / "model", "llama"))
    (model / "modeling_own.py").write_text(OWN_CODE)
    config = json.loads((model / "config.json").read_text())
    of = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    own = {"model_type": "own_llama", "architectures": ["OwnForCausalLM"], "auto_map": of}
    (model / "config.json").write_text(json.dumps(config | own))
    spec = alone("own", stages=2, steps=3)
    spec["policy"] = {"model": str(model), "trust_remote_code": True, "adapter": adapter}
    spec["resources"] = {**spec["resources"], "ranks": ranks}
    spec["checkpoint"] = {"every_steps": 2}
    interventions = [] if adapter else [{"type": "average", "share": 0.5}]
    spec["curriculum"]["boundary"] = {"interventions": interventions}
    assert orchestrator.run(spec, home=tmp_path / "whole").status == "finished"
    with pytest.raises(Killed):
        orchestrator.run(spec, home=tmp_path / "killed", watcher=At(4, kill, ["step"]))
    assert orchestrator.resume("own", home=tmp_path / "killed").status == "finished"
    assert ending(tmp_path / "killed", "own") == ending(tmp_path / "whole", "own")
