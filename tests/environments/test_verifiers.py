"""Task sets of verifiers: asked once, scored by their own rewards; what needs a harness is refused by name."""

import asyncio

import pytest
from pydantic import ValidationError

from environments import EnvironmentFault, EnvironmentSource
from environments.checker import check
from tests.environments.checker.here import findings_here

pytest.importorskip("verifiers.v1")

SUMS = """
import verifiers.v1 as vf

class SumData(vf.TaskData):
    answer: str
    size: str

class SumConfig(vf.TasksetConfig):
    count: int = 120

class SumTask(vf.Task[SumData, vf.State, vf.TaskConfig]):
    @vf.reward(weight=3.0)
    async def correct(self, task, trace) -> float:
        return float(trace.last_reply == task.answer)

    @vf.reward
    async def short(self, trace) -> float:
        return float(0 < len(trace.last_reply) < 5)

    @vf.metric
    async def value(self, trace) -> float:
        return float(len(trace.last_reply))

class Sums(vf.Taskset[SumTask, SumConfig]):
    def load(self):
        for n in range(self.config.count):
            data = SumData(prompt=f"{n} + {n} =", answer=str(2 * n), size="large" if n % 2 else "small",
                           system_prompt="Reply with a number.")
            yield SumTask(data, self.config.task)

class Endless(Sums):
    INFINITE = True

class BoxTask(SumTask):
    NEEDS_CONTAINER = True

class Boxed(vf.Taskset[BoxTask, vf.TasksetConfig]):
    def load(self):
        return []

class FileTask(SumTask):
    @vf.reward
    async def tests(self, runtime) -> float:
        return 1.0

class Files(vf.Taskset[FileTask, vf.TasksetConfig]):
    def load(self):
        return []

class PeersTask(SumTask):
    @vf.reward
    async def best(self, traces) -> float:
        return 1.0

class Peers(vf.Taskset[PeersTask, vf.TasksetConfig]):
    def load(self):
        return []

class PlainTask(vf.Task[SumData, vf.State, vf.TaskConfig]):
    @vf.reward
    def right(self, trace) -> float:
        return 1.0

class Plain(vf.Taskset[PlainTask, vf.TasksetConfig]):
    def load(self):
        return []

class SetUpTask(SumTask):
    async def setup(self, trace, runtime):
        pass

class SetUp(vf.Taskset[SetUpTask, vf.TasksetConfig]):
    def load(self):
        return []

class HidingTask(SumTask):
    @vf.intercept
    async def hide(self, request: vf.Request) -> vf.Request | None:
        return None

class Hiding(vf.Taskset[HidingTask, vf.TasksetConfig]):
    def load(self):
        return []

class BytesData(SumData):
    raw: bytes

class BytesTask(vf.Task[BytesData, vf.State, vf.TaskConfig]):
    @vf.reward
    async def right(self, trace) -> float:
        return 1.0

class Bytes(vf.Taskset[BytesTask, vf.TasksetConfig]):
    def load(self):
        yield BytesTask(BytesData(prompt="1", answer="", size="", raw=b"\\xff"), self.config.task)

class SilentTask(vf.Task[SumData, vf.State, vf.TaskConfig]):
    pass

class Silent(vf.Taskset[SilentTask, vf.TasksetConfig]):
    def load(self):
        return []

class Opened(vf.Taskset[SumTask, vf.TasksetConfig]):
    def load(self):
        yield SumTask(SumData(prompt=None, answer="", size=""), self.config.task)
"""
OPTIONS = {"taskset": "./sums.py:Sums", "category": "size", "reference": "answer", "reward_range": [0, 4]}


@pytest.fixture
def made(tmp_path):
    (tmp_path / "sums.py").write_text(SUMS)
    return lambda **options: source(tmp_path, **options).create(tell=lambda words: None)


def source(folder, **options):
    return EnvironmentSource("sums", "verifiers", {**OPTIONS, **options}, str(folder))


def test_the_checker_finds_nothing_but_few_tasks(tmp_path):
    (tmp_path / "sums.py").write_text(SUMS)
    assert {found.rule for found in findings_here(source(tmp_path, config={"count": 400}))} <= {"few-tasks"}


@pytest.mark.slow
def test_the_checker_finds_nothing_in_processes_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "sums.py").write_text(SUMS)
    monkeypatch.chdir(tmp_path)
    assert check(source(tmp_path, config={"count": 400}), tasks=4) == []


def test_tasks_are_told_apart_and_scored_as_they_weigh(made):
    sums = made()
    assert [(one.name, sums.size(one.name)) for one in sums.categories] == [("small", 60), ("large", 60)]
    task = sums.task("large", 1)
    assert [dict(message) for message in task.messages] == [
        {"role": "system", "content": "Reply with a number."},
        {"role": "user", "content": "3 + 3 ="},
    ]
    right, wrong, wordy = (sums.score(task, reply) for reply in ("6", "7", "it is 6"))
    assert (right.value, right.correct) == (1.0, True)
    assert (wrong.value, wrong.correct) == (0.25, False)
    assert wordy.value == 0.0
    assert wordy.components == {"correct": 0.0, "short": 0.0, "value": 7.0}, "whatever they are called"
    assert made(reward_range=[0, 1]).score(task, "6").value is None


def test_scores_are_found_inside_an_event_loop_too(made):
    sums = made()

    async def scored():
        return sums.score(sums.task("small", 0), "0")

    assert asyncio.run(scored()).value == 1.0


def test_its_config_and_size_bound_it(made):
    assert made(config={"count": 10}, category=None).size("all") == 10
    assert made(taskset="./sums.py:Endless", category=None, size=7).size("all") == 7
    with pytest.raises(EnvironmentFault, match="say how many of its tasks are used"):
        made(taskset="./sums.py:Endless")
    with pytest.raises(EnvironmentFault, match=r"`config` is no SumConfig: counts"):
        made(config={"counts": 10})
    with pytest.raises(ValidationError, match="neither a column path"):
        made(category="{{")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Boxed", r"BoxTask runs in a container"),
        ("Files", r"FileTask.tests works on a runtime"),
        ("Peers", r"PeersTask.best asks for traces, which is not here"),
        ("SetUp", r"SetUpTask.setup works on a runtime"),
        ("Hiding", r"HidingTask.hide rewrites what a model is asked"),
        ("Silent", r"SilentTask has no @vf.reward"),
        ("Opened", r"task 0: it has no prompt"),
    ],
)
def test_what_needs_a_harness_is_refused_by_name(made, name, why):
    with pytest.raises(EnvironmentFault, match=rf"it needs a harness, and there is none here: {why}"):
        made(taskset=f"./sums.py:{name}", category=None, reference=None)


def test_tasks_that_cannot_be_kept_are_told(made):
    with pytest.raises(EnvironmentFault, match=r"environment sums: .* raised \w+: .*utf-?8"):
        made(taskset="./sums.py:Bytes", category=None, reference=None)


def test_a_reward_that_cannot_be_awaited_is_refused(made):
    with pytest.raises(EnvironmentFault, match=r"PlainTask\.right is awaited: write it as `async def`"):
        made(taskset="./sums.py:Plain", category=None, reference=None)


@pytest.mark.parametrize(
    ("taskset", "said"),
    [
        ("sums.py", r"names a file, and no class in it: write \./sums\.py:MyTaskset"),
        ("./sums.py", r"names a file, and no class in it: write \./sums\.py:MyTaskset"),
        ("sums.py:Sums", r"names a file without its folder: write \./sums\.py:Sums"),
        ("./sums.py:Sum", r"has no function 'Sum'"),
        ("./sums.py:SumTask", r"no class derived from verifiers\.v1\.Taskset"),
    ],
)
def test_what_names_no_task_set_is_refused_with_what_to_write(made, taskset, said):
    with pytest.raises(EnvironmentFault, match=said):
        made(taskset=taskset)


@pytest.mark.parametrize("taskset", ["textarena", "harbor", "no-such-set"])
def test_installed_ones_are_found_by_their_ids_and_refused_where_they_need_more(made, taskset):
    with pytest.raises(EnvironmentFault, match=f"task set {taskset}: "):
        made(taskset=taskset, category=None, reference=None, size=3)
