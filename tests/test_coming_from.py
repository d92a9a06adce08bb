"""docs/coming_from: the code of every page, run as it stands; what other trainers bring is played by stand-ins.

Their classes have the names and methods that the pages say were read; nothing of the trainers is installed here.
"""

from __future__ import annotations

import json
import random
import re
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orchestrator
from store.home import Home
from store.ledger import Ledger
from tests.conftest import Evergreen
from tests.documents import DOCS

PAGES = {page.stem: page for page in sorted((DOCS / "coming_from").glob("*.md"))}
PASS_RATES = {"easy": 1.0, "even": 0.5, "hard": 0.0}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page].read_text(), re.DOTALL)


def rows(page: str) -> list[dict[str, Any]]:
    """Rows as users of that trainer have them."""
    pairs = [(f"{n} + {n % 7} =", str(n + n % 7), n % 2 + 1) for n in range(80)]
    if page == "verl":
        return [
            {
                "data_source": f"level {level}",
                "prompt": [{"role": "user", "content": question}],
                "reward_model": {"style": "rule", "ground_truth": answer},
                "extra_info": {"level": level},
            }
            for question, answer, level in pairs
        ]
    if page == "trl":
        return [{"prompt": question, "answer": answer, "level": level} for question, answer, level in pairs]
    return [{"question": question, "answer": answer, "info": {"level": level}} for question, answer, level in pairs]


def test_there_is_a_page_for_each() -> None:
    assert set(PAGES) == {"verl", "trl", "prime_rl", "verifiers"}


@pytest.fixture(params=PAGES)
def spec(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a page's spec beside its rows and its code; its name in the working directory."""
    page: str = request.param
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(page)))
    for block in blocks(page, "python"):
        if name := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / name[1]).write_text(block)
    (text,) = blocks(page, "yaml")
    assert text.startswith("# spec.yaml\n")
    (tmp_path / "spec.yaml").write_text(text)
    return "spec.yaml"


def test_the_spec_of_a_page_is_valid(spec: str, evergreen: Evergreen) -> None:
    result = evergreen("validate", spec, "--strict", "--json")
    assert result.exit_code == 0, result.stderr
    assert evergreen("check-env", spec, "sums").exit_code == 0


def test_the_spec_of_a_page_trains_and_every_answer_is_scored(spec: str) -> None:
    outcome = orchestrator.run(spec, home="home", until_step=2)
    assert outcome.status == "stopped"
    with Ledger.open(Home("home").ledger_url) as ledger:
        assert len(ledger.reading.series(outcome.name, "loss")) == 2
        assert [one.value for one in ledger.reading.series(outcome.name, "num_unscorable")] == [0, 0]


@pytest.mark.parametrize("page", ["verl", "trl", "verifiers"])
def test_the_rewards_of_a_page_tell_right_from_wrong(page: str) -> None:
    names: dict[str, Any] = {}
    exec(blocks(page, "python")[0], names)
    if page == "verl":
        assert [names["compute_score"]("sums", text, "7") for text in (" 7", "8")] == [1.0, 0.0]
    elif page == "trl":
        assert names["exact"](["7", "8"], ["7", "7"]) == [1.0, 0.0]
        assert names["short"](["7", "seven hundred"]) == [1.0, 0.0]
    else:
        attempts = [Attempt("7", "7", "7"), Attempt("8", "8", "7"), Attempt("seven hundred", None, "7")]
        assert [names["correct_answer"](one) for one in attempts] == [1.0, 0.0, 0.0]
        assert [names["is_brief"](one) for one in attempts] == [1.0, 1.0, 0.0]


@dataclass
class Attempt:
    completion: str
    answer: str | None
    truth: str


# --- verl: a sampler of indices that is told a batch


class AbstractCurriculumSampler(ABC):
    @abstractmethod
    def __init__(self, data_source: Any, data_config: Any) -> None: ...

    @abstractmethod
    def update(self, batch: Any) -> None: ...


@dataclass
class DataProto:
    batch: dict[str, Any]
    non_tensor_batch: dict[str, Any]


def test_the_bandit_is_a_sampler_of_verl() -> None:
    names: dict[str, Any] = {"AbstractCurriculumSampler": AbstractCurriculumSampler}
    exec(blocks("verl", "python")[1], names)
    data = [{"data_source": name} for name in PASS_RATES for _ in range(400)]
    sampler, rng = names["BanditSampler"](data, {"train_batch_size": 8}), np.random.default_rng(1)
    drawn = list[str]()
    indices = iter(sampler)
    for step in range(len(sampler) // 8):
        own = [data[next(indices)]["data_source"] for _ in range(8)]
        drawn += own
        sources = np.repeat(np.array(own), 4)
        scores = np.zeros((32, 3))
        scores[:, -1] = rng.binomial(1, [PASS_RATES[one] for one in sources])
        uids = np.repeat([f"{step}-{n}" for n in range(8)], 4)
        sampler.update(DataProto({"token_level_scores": scores}, {"data_source": sources, "uid": uids}))
    assert Counter(drawn[-400:])["even"] > 280
    assert not any(sampler.waiting.values()), "everything was heard of"


# --- prime-rl: a task sampler of an environment, and the source that mixes environments


@dataclass(frozen=True)
class Task:
    key: str
    kind: str


@dataclass
class Agent:
    trainable: bool = True


@dataclass
class Trace:
    reward: float
    has_error: bool = False
    num_turns: int = 1
    agent: Agent = field(default_factory=Agent)


@dataclass
class Episode:
    task: Task
    traces: list[Trace]
    env: str = ""
    ok: bool = True


class TaskSampler:
    def __next__(self) -> Task:
        raise NotImplementedError

    def observe(self, group: list[Episode]) -> None:
        """Nothing is learnt unless a sampler does."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing is kept unless a sampler does."""

    def metrics(self) -> dict[str, float]:
        return {}


class TrainSource:
    """Draws an environment by `weights()`, as theirs does, and refuses a state with fields that it does not know."""

    def __init__(self, train_envs: list[str]) -> None:
        self.rng, self.env_names = random.Random(42), list(train_envs)

    def weights(self) -> dict[str, float]:
        return dict.fromkeys(self.env_names, 1.0)

    def next_task(self) -> str:
        weights = self.weights()
        return self.rng.choices(list(weights), weights=list(weights.values()), k=1)[0]

    def on_result(self, group: list[Episode]) -> bool:
        return len({trace.reward for episode in group for trace in episode.traces}) > 1

    def metrics(self) -> dict[str, float]:
        return {"mixer/easy/acceptance_rate": 0.5}

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.getstate(), "envs": {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert set(state_dict) == {"rng", "envs"}
        self.rng.setstate(state_dict["rng"])


@pytest.fixture
def prime_rl() -> dict[str, Any]:
    names: dict[str, Any] = {
        "TaskSampler": TaskSampler,
        "TrainSource": TrainSource,
        "episode_env_name": lambda episode: episode.env,
    }
    for block in blocks("prime_rl", "python"):
        exec(block, names)
    return names


def group_of(task: Task, rng: np.random.Generator, env: str = "") -> list[Episode]:
    rewards = rng.binomial(1, PASS_RATES[task.kind], 8).astype(float)
    return [Episode(task, [Trace(float(reward))], env) for reward in rewards]


TASKS = [Task(f"{kind}-{n}", kind) for kind in PASS_RATES for n in range(5)]


def test_the_bandit_is_a_task_sampler_of_prime_rl(prime_rl: dict[str, Any]) -> None:
    sampler, rng = prime_rl["BanditSampler"](TASKS, lambda task: task.kind), np.random.default_rng(1)
    for _ in range(40):
        for task in [next(sampler) for _ in range(16)]:
            sampler.observe(group_of(task, rng))
    metrics = sampler.metrics()
    assert metrics["probability/even"] > 0.7
    assert sum(metrics.values()) == pytest.approx(1)
    before = metrics.copy()
    failed = [Episode(next(sampler), [Trace(0.0, has_error=True)], ok=False)]
    sampler.observe(failed)
    assert sampler.metrics() == before, "what failed says nothing"
    sampler.observe(failed)
    assert sampler.metrics() == before, "nor does what was not drawn"
    for _ in range(100):
        sampler.observe([Episode(next(sampler), [Trace(0.0, has_error=True)], ok=False)])
    assert len(sampler.bandit.state()["pending"]) <= 32, "what failed is waited for no more"


def test_its_state_goes_on_where_it_was_with_groups_in_flight(prime_rl: dict[str, Any]) -> None:
    one, rng = prime_rl["BanditSampler"](TASKS, lambda task: task.kind), np.random.default_rng(1)
    in_flight = [next(one) for _ in range(16)]
    other = prime_rl["BanditSampler"](TASKS, lambda task: task.kind, seed=9)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for task in in_flight:
        group = group_of(task, rng)
        one.observe(group)
        other.observe(group)
    assert [next(other) for _ in range(50)] == [next(one) for _ in range(50)]
    assert other.metrics() == one.metrics()


def test_the_bandit_is_the_mix_of_environments_of_prime_rl(prime_rl: dict[str, Any]) -> None:
    source, rng = prime_rl["BanditSource"](list(PASS_RATES)), np.random.default_rng(1)
    drawn = list[str]()
    for _ in range(40):
        names = [source.next_task() for _ in range(16)]
        drawn += names
        for name in names:
            admitted = source.on_result(group_of(Task("t", name), rng, name))
            assert isinstance(admitted, bool)
    assert Counter(drawn[-200:])["even"] > 140
    assert source.metrics()["mixer/even/probability"] > 0.7
    assert source.metrics()["mixer/easy/acceptance_rate"] == 0.5
    again = prime_rl["BanditSource"](list(PASS_RATES))
    again.load_state_dict(source.state_dict())
    assert [again.next_task() for _ in range(30)] == [source.next_task() for _ in range(30)]


def test_the_readme_has_the_words_that_people_look_for() -> None:
    readme = (DOCS.parent / "README.md").read_text().lower()
    assert "mixing weights" in readme, "on one line, where `grep` finds them"
    assert "metrics by source" in readme
    assert all(f"docs/coming_from/{page}.md" in readme for page in PAGES)
