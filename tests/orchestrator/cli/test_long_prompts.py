"""Prompts too long for a policy from a folder: told by `validate`, left out by `run`, the same ones after `resume`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import orchestrator
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer
from tests.conftest import Evergreen
from tests.environments.rows.making import write_jsonl
from tests.integration.runs import ending, series, told
from tests.orchestrator.specs import FAKE, REPOSITORY, alone, written
from tests.policies.templates import ALTERNATING
from tests.shares import share

CONTEXT, BUDGET = 100, 12
LONG = (4, 11, 24)  # rows, from 0; the middle one is of another category


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
    assert "the prompt is longer than 88 tokens: 3 rows (first: train.jsonl:5: 96 tokens)" in result.stdout
    (facts,) = json.loads(evergreen("validate", path, "--json").stdout)["plan"]["left_out"]
    assert [one.rsplit(": ", 2)[0] for one in facts["rows"]] == [f"train.jsonl:{i + 1}" for i in LONG]
    assert "too long for instance, were looked at too" in evergreen("validate", path, "--leaks").stdout
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
                "3 tasks of math left out, with prompts longer than 88 tokens: train.jsonl:5 (96), "
                "train.jsonl:12 (96), train.jsonl:24 (96)"
            ]
            or len(events) == 1
        )


@pytest.mark.parametrize("ahead", share([1, 0], 1))
@pytest.mark.slow
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


UNREADABLE = """
import numpy as np
from environments import Category, Environment, Score, Task

class Odd(Environment):
    version, scores_in_process, categories = "1", True, [Category("all")]

    def __init__(self, name, num):
        self.name, self.num = name, num

    def size(self, category):
        return self.num

    def task(self, category, index):
        prompt, answer, data, before = f"{index}?", str(index), {"truth": [str(index)]}, []
        if index % 10 == 1:
            prompt = "half \\ud83d" + prompt
        if index % 10 == 2:
            answer += "\\ude00"
        if index % 10 == 3:
            data = {"truth": [{"\\udfff": 1}]}
        if index % 10 == 4:
            before = [{"role": "system", "content": "Be brief."}]
        messages = (*before, {"role": "user", "content": prompt})
        return Task(self.name, category, index, messages, answer, data)

    def score(self, task, completion):
        return Score.of(float(completion == task.answer))

class Table(Odd):
    def indices(self, category, pool):
        tenths = {"train": range(7), "anchor": [7], "select": [8], "final": [9]}[pool]
        return np.array([index for index in range(self.num) if index // 10 % 10 in tenths])

    def pool(self, task):
        return ("train", "train", "train", "train", "train", "train", "train", "anchor", "select", "final")[
            task.index // 10 % 10
        ]
"""


@pytest.mark.parametrize(
    ("kind", "num", "policy"), share([("Odd", "300", "model"), ("Odd", "null", "tiny"), ("Table", "300", "model")], 1)
)
def test_tasks_of_a_users_environment_that_cannot_be_read_are_left_out(
    tmp_path: Path, evergreen: Evergreen, kind: str, num: str, policy: str
) -> None:
    (tmp_path / "odd.py").write_text(UNREADABLE)
    environment = {"type": f"./odd.py:{kind}", "num": json.loads(num)}
    path = spec(tmp_path, [], environments={"math": environment}, curriculum={"stages": 1, "stage": {"steps": 4}})
    tokenizer = build_tokenizer(VocabularySample({}))
    tokenizer.chat_template = ALTERNATING
    tokenizer.save_pretrained(tmp_path / "model")
    chosen = ["--set", "policy.model=tiny"] if policy == "tiny" else []
    validated = evergreen("validate", path, "--leaks", *chosen)
    assert validated.exit_code == 0, validated.stderr
    home = tmp_path / "home"
    result = evergreen("run", path, "--home", home, *chosen)
    assert result.exit_code == 0, result.stderr
    events = [event["text"] for event in told(home, "math")["events"] if event["kind"] == "left out"]
    if kind == "Table":
        assert len(events) == (3 if policy == "tiny" else 4)
        assert any(
            text.startswith("30 tasks of math left out, half a character in the truth: task 3 of ") for text in events
        )
    else:
        (text,) = events
        assert text.startswith("math: tasks that the policy cannot read are left out as they are met; the first: task ")


def test_a_category_or_a_pool_that_is_too_long_as_a_whole_is_refused(tmp_path: Path, evergreen: Evergreen) -> None:
    path = spec(tmp_path, rows(dict.fromkeys(range(0, 60, 2), 95)))
    for verb in (["validate"], ["run", "--home", tmp_path / "home"]):
        result = evergreen(verb[0], path, *verb[1:])
        assert result.exit_code == 2
        told = " ".join(result.stderr.split())
        assert "math, category 0: every task found is held out, or too long" in told
        assert re.search(r"read of math: the prompt is longer than 88 tokens: 30 rows \(first: \S+: 96", told), told
        assert "(`max_prompt_tokens`, `sampler.max_tokens`)" in told
    assert not (tmp_path / "home" / "math").exists()


@pytest.mark.parametrize("selection", share(["boltzmann", "plr"], 1))
def test_selections_choose_among_the_others(tmp_path: Path, selection: str) -> None:
    curriculum = {"stages": 1, "stage": {"steps": 3}, "selection": selection}
    path = spec(tmp_path, rows(dict.fromkeys(LONG, 95)), curriculum=curriculum)
    assert orchestrator.run(path, home=tmp_path / "home").status == "finished"
