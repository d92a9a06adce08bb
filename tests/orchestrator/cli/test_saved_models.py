"""Models from a folder that cannot be played as they were saved: `validate` says what `run` says, and what helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import orchestrator
from orchestrator.runs.dry_run import make_plan
from orchestrator.spec import load_spec
from policies.errors import PolicyError
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from tests.conftest import Evergreen
from tests.environments.rows.making import write_jsonl
from tests.integration.runs import told
from tests.orchestrator.specs import alone, written
from tests.policies.templates import ALTERNATING, CALM


def save_model(folder: Path, tokenizer: Any, num_rows: int | None = None) -> str:
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": None, "eos_token_id": None, "max_position_embeddings": 128}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=num_rows or len(tokenizer), **shape, **special)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def endless() -> Any:
    tokenizer = build_tokenizer(VocabularySample({}))
    tokenizer.eos_token = None
    return tokenizer


def spec(folder: Path, model: str, environment: dict[str, Any] | None = None, **sections: Any) -> Path:
    write_jsonl(folder / "train.jsonl", [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(60)])
    rows = {"type": "rows", "train": "train.jsonl", "reward": "exact", "prompt": "question", "max_tokens": 4}
    own = {
        "policy": {"model": model},
        "environments": {"math": {**rows, **(environment or {})}},
        "resources": {},
        "step": {"groups": 4, "group_size": 4},
        **sections,
    }
    return written(folder, {**alone(name="math", steps=2, stages=1), **own})


def refused(evergreen: Evergreen, path: Path) -> str:
    """Give what `validate` and `run` say, which is the same; nothing is left of the run."""
    home = path.parent / "home"
    results = [evergreen("validate", path), evergreen("run", path, "--home", home)]
    assert [result.exit_code for result in results] == [2, 2]
    assert not (home / "math").exists()
    validated, run = (" ".join(result.stderr.split()) for result in results)
    assert validated == run
    return validated


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path, evergreen: Evergreen) -> None:
    tokenizer = build_tokenizer(VocabularySample({}))
    said = refused(evergreen, spec(tmp_path, save_model(tmp_path / "model", tokenizer, 100)))
    assert f"ids up to {len(tokenizer) - 1}, but its embedding has 100 rows" in said


def test_a_model_without_an_end_token_is_told_with_the_remedy(tmp_path: Path, evergreen: Evergreen) -> None:
    model, home = save_model(tmp_path / "model", endless()), tmp_path / "home"
    path = spec(tmp_path, model, policy={"model": model, "template": "none"})
    said = f"{model} has no token that ends an answer: every answer to math goes on to its `max_tokens`"
    validated = evergreen("validate", path)
    assert validated.exit_code == 0
    assert said in " ".join(validated.stdout.split())
    orchestrator.run(path, home=home)
    events = told(home, "math")["events"]
    (warning,) = [event["text"] for event in events if event["kind"] == "warning"]
    assert warning.startswith(said)
    assert "Set `tokenizer.eos_token`" in warning
    (alarm,) = [event["text"] for event in events if "cut off by a budget" in event["text"]]
    assert "`max_tokens`" not in alarm


def test_answers_of_one_token_need_no_end(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", endless())
    rest = {"policy": {"model": model, "template": "none"}, "warm_start": {"environments": ["math"], "batches": 1}}
    plan = make_plan(load_spec(spec(tmp_path, model, {"max_tokens": 1}, **rest)), tmp_path)
    assert not any("ends an answer" in text for text in plan.warnings)


def test_a_warm_start_without_an_end_token_is_refused_with_the_remedy(tmp_path: Path, evergreen: Evergreen) -> None:
    model = save_model(tmp_path / "model", endless())
    rest = {"policy": {"model": model, "template": "none"}, "warm_start": {"environments": ["math"], "batches": 1}}
    said = refused(evergreen, spec(tmp_path, model, **rest))
    assert "has a token that ends an answer, so a warm start cannot teach one. Set `tokenizer.eos_token`" in said


def model_of(template: str, folder: Path) -> str:
    tokenizer = build_tokenizer(VocabularySample({}))
    tokenizer.chat_template = template
    return save_model(folder, tokenizer)


def test_rows_whose_contents_the_template_refuses_are_left_out_and_told(tmp_path: Path, evergreen: Evergreen) -> None:
    model, home = model_of(CALM, tmp_path / "model"), tmp_path / "home"
    path = spec(tmp_path, model)
    rows = [{"question": f"{i}?" if i % 40 != 25 else f"{i}!", "answer": "1"} for i in range(90)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    (told_of,) = make_plan(load_spec(path), tmp_path).left_out
    kind = "the policy's chat template refuses a conversation of user"
    assert [str(reason) for reason in told_of.reasons] == [f"{kind}: 2 rows (first: train.jsonl:26: no shouting)"]
    assert orchestrator.run(path, home=home).status == "finished"
    (event,) = [event["text"] for event in told(home, "math")["events"] if event["kind"] == "left out"]
    assert event.startswith(f"2 tasks of math left out, {kind}: train.jsonl:26 (no shouting), ")
    said = " ".join(evergreen("validate", path).stdout.split())
    assert "2 rows (first: train.jsonl:26: no shouting)" in said


def test_a_system_message_that_the_template_refuses_is_refused_before_a_run(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    model = model_of(ALTERNATING, tmp_path / "model")
    assert evergreen("validate", spec(tmp_path, model)).exit_code == 0
    said = refused(evergreen, spec(tmp_path, model, {"system": "Be brief."}))
    assert "math: the policy's chat template refuses a conversation of system, user: only user and assistant;" in said
    assert (
        evergreen("validate", spec(tmp_path, model, {"system": "Be brief."}, policy={"model": "tiny"})).exit_code == 0
    )


def test_rows_of_roles_that_the_template_refuses_are_left_out_and_told(tmp_path: Path, evergreen: Evergreen) -> None:
    model, home = model_of(ALTERNATING, tmp_path / "model"), tmp_path / "home"
    path = spec(tmp_path, model, {"prompt": "messages"})
    system = {"role": "system", "content": "S"}
    chats = [[{"role": "user", "content": f"{i}?"}] for i in range(90)]
    for number in (20, 70, 71):
        chats[number] = [system, *chats[number]]
    write_jsonl(tmp_path / "train.jsonl", [{"messages": chat, "answer": "1"} for chat in chats])
    (told_of,) = make_plan(load_spec(path), tmp_path).left_out
    kind = "the policy's chat template refuses a conversation of system, user"
    assert [str(reason) for reason in told_of.reasons] == [
        f"{kind}: 3 rows (first: train.jsonl:21: only user and assistant)"
    ]
    assert evergreen("validate", path, "--strict").exit_code == 2
    assert orchestrator.run(path, home=home).status == "finished"
    (event,) = [event["text"] for event in told(home, "math")["events"] if event["kind"] == "left out"]
    assert event.startswith(f"3 tasks of math left out, {kind}: train.jsonl:21 (only user and assistant), ")
    write_jsonl(tmp_path / "train.jsonl", [{"messages": [system, *chat], "answer": "1"} for chat in chats[:15]])
    with pytest.raises(PolicyError, match=f"math: {kind}: only user and assistant; leave the system message out"):
        make_plan(load_spec(path), tmp_path)


def test_rows_with_a_special_token_beyond_the_embedding_are_left_out_and_told(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    tokenizer, home = build_tokenizer(VocabularySample({})), tmp_path / "home"
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    last = len(tokenizer) - 1
    path = spec(tmp_path, save_model(tmp_path / "model", tokenizer, last))
    rows = [{"question": f"{'<image>' * (i in (5, 70))} {i} + 1?", "answer": str(i + 1)} for i in range(90)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    kind = "a token without a row in the policy's embedding"
    detail = f"'<image>' has the id {last}, and its rows are for ids up to {last - 1}"
    validated = evergreen("validate", path)
    assert f"{kind}: 2 rows (first: train.jsonl:6: {detail})" in " ".join(validated.stdout.split())
    assert orchestrator.run(path, home=home).status == "finished"
    (event,) = [event["text"] for event in told(home, "math")["events"] if event["kind"] == "left out"]
    assert event == f"2 tasks of math left out, {kind}: train.jsonl:6 ({detail}), train.jsonl:71 ({detail})"
