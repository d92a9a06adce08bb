"""Prompts too long for a policy from a folder: told by `validate`, left out by `run`, the same ones after `resume`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import orchestrator
from policies.models.tiny import VocabularySample, build_tokenizer
from tests.conftest import Evergreen
from tests.environments.rows.making import write_jsonl
from tests.integration.runs import ending, series, told
from tests.orchestrator.specs import FAKE, REPOSITORY, alone, written
from tests.shares import share

CONTEXT, BUDGET = 100, 12
LONG = (4, 11, 23)  # rows, from 0


def save_model(folder: Path) -> str:
    """A GPT-2, whose positions end with its context, and a tokenizer of bytes."""
    tokenizer = build_tokenizer(VocabularySample({}))
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": CONTEXT}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def row(i: int, num_bytes: int = 20) -> dict[str, Any]:
    return {"question": f"{i} + 1?".ljust(num_bytes), "answer": str(i + 1), "level": i % 2}


def spec(folder: Path, rows: list[dict[str, Any]], **sections: Any) -> Path:
    write_jsonl(folder / "train.jsonl", rows)
    environment = {"type": "rows", "train": "train.jsonl", "reward": "exact", "prompt": "question"}
    raw = alone(name="math", steps=4, stages=1)
    own = {
        "policy": {"model": save_model(folder / "model")},
        "environments": {"math": {**environment, "category": "level"}},
        "sampler": {"max_tokens": BUDGET},
        "resources": {},
        "warm_start": {"environments": ["math"], "batches": 2, "batch_size": 4, "lr": 0.003},
        **sections,
    }
    return written(folder, {**raw, **own})


def rows(lengths: dict[int, int], num: int = 60) -> list[dict[str, Any]]:
    return [row(i, lengths.get(i, 20)) for i in range(num)]


def test_validate_lists_them_by_file_and_row(tmp_path: Path, evergreen: Evergreen) -> None:
    path = spec(tmp_path, rows(dict.fromkeys(LONG, 95)))
    result = evergreen("validate", path)
    assert result.exit_code == 0
    assert "left out: rows of math that cannot be used: 3" in result.stdout
    assert "the prompt is longer than 88 tokens: 3 rows (first: train.jsonl, row 5: 96 tokens)" in result.stdout
    (facts,) = json.loads(evergreen("validate", path, "--json").stdout)["plan"]["left_out"]
    assert {one.split(":")[0] for one in facts["rows"]} == {f"train.jsonl, row {i + 1}" for i in LONG}
    strict = evergreen("validate", path, "--strict")
    assert strict.exit_code == 2
    assert "longer than 88 tokens" in strict.stderr
    fine = evergreen("validate", path, "--set", "environments.math.max_prompt_tokens=96", "--strict", "--all")
    assert fine.exit_code == 0
    assert "max_prompt_tokens: 96" in fine.stdout


def test_a_run_leaves_them_out_and_a_resumed_one_the_same(tmp_path: Path, evergreen: Evergreen) -> None:
    path, home = spec(tmp_path, rows(dict.fromkeys(LONG, 95))), tmp_path / "home"
    orchestrator.run(path, home=home, name="whole")
    orchestrator.run(path, home=home, name="parts", until_step=3)
    orchestrator.resume("parts", home=home)
    assert ending(home, "whole") == ending(home, "parts")
    for name in ("whole", "parts"):
        events = [event["text"] for event in told(home, name)["events"] if event["kind"] == "left out"]
        assert (
            events
            == [
                "3 tasks of math left out, with prompts longer than 88 tokens: train.jsonl, row 5 (96), "
                "train.jsonl, row 12 (96), train.jsonl, row 24 (96)"
            ]
            or len(events) == 1
        )


@pytest.mark.parametrize("ahead", share([1, 0], 1))
def test_tasks_without_a_file_are_passed_over_as_they_are_met_and_counted(tmp_path: Path, ahead: int) -> None:
    fake = {
        "type": FAKE,
        "in_process": True,
        "distinct": 30,
        "categories": ["x" * 85],
    }  # 0 to 9 are short enough
    path = spec(
        tmp_path,
        [],
        environments={"math": fake},
        warm_start=None,
        sampler={"max_tokens": BUDGET, "ahead": ahead},
        resources={"search_path": str(REPOSITORY)},
    )
    home = tmp_path / "home"
    orchestrator.run(path, home=home, name="whole")
    orchestrator.run(path, home=home, name="parts", until_step=3)
    orchestrator.resume("parts", home=home)
    assert ending(home, "whole") == ending(home, "parts")
    for name in ("whole", "parts"):
        (event,) = [event["text"] for event in told(home, name)["events"] if event["kind"] == "left out"]
        assert event.startswith("math: tasks with prompts too long are left out as they are met; the first: task ")
        assert "89 tokens of at most 88" in event
    counts = [value for value in series(home, "whole", "passed_over") if value is not None]
    assert sum(counts) >= 10
    assert counts == [value for value in series(home, "parts", "passed_over") if value is not None]


def test_a_category_or_a_pool_that_is_too_long_as_a_whole_is_refused(tmp_path: Path, evergreen: Evergreen) -> None:
    path = spec(tmp_path, rows(dict.fromkeys(range(0, 60, 2), 95)))
    for verb in (["validate"], ["run", "--home", tmp_path / "home"]):
        result = evergreen(verb[0], path, *verb[1:])
        assert result.exit_code == 2
        assert "math, category 0: every task found is held out, or too long" in " ".join(result.stderr.split())
    assert not (tmp_path / "home" / "math").exists()


@pytest.mark.parametrize("selection", share(["boltzmann", "plr"], 1))
def test_selections_choose_among_the_others(tmp_path: Path, selection: str) -> None:
    curriculum = {"stages": 1, "stage": {"steps": 3}, "selection": selection}
    path = spec(tmp_path, rows(dict.fromkeys(LONG, 95)), curriculum=curriculum)
    assert orchestrator.run(path, home=tmp_path / "home").status == "finished"
