"""What a hundred environments cost: their start, a step, their evaluation, and a checkpoint of a million arms.

    taskset -c 1 python -m benchmarks.environments             # all of it, some minutes; or: process start build ...

- process: `evergreen run`, 100 environments of 5 categories, half of them files of rows, half a factory's, from the
  start of its process up to the first task that is played and up to the end of the first step; the same with 1.
- start: the same 100 in a process that has loaded its modules.
- build: one environment of each type, and the tasks of it that a start asks for: for `tiny`'s vocabulary, to evaluate.
- types: 100 environments of one type beside 3, for each type, all of the same file or the same data set: their start,
  of which nothing is asked, and the ratio of a step.
- step: 100 environments of 5 categories beside 3, in turn, 16 groups of 4 answers of one token: the ratio of each pair.
- evaluation: a whole run of 100 under `evaluate.share`, one of 3, and one of 100 without a share: what evaluating took
  beside training. The 100 are in ten clusters, and the scheduler finds all of them in its first ten stages.
- checkpoint: all that grows with arms, the bandits' state and where every category's tasks stand, written and read;
  of one bandit (flat), of ten and of a hundred (staged); and what a step then asks of them: slots, learning, standing.
- states: of every bandit by itself, what it is told of a million arms before the first pick, and its state written and
  read, after 50 steps of 256 groups. Arms have a level, and for the tree a place in one of a thousand nodes.

One process, one thread; seconds of the clock and of the processor, as others may be at work too. Exits 1 where seconds
of the processor are above what is asked: 5 up to the first task of a process, and of a first step where modules are
loaded; a step of 1.1 times as much; a checkpoint written in 2. So it does where evaluation takes more than its share
of the training's passes, or clusters were left without a stage.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import orchestrator
from benchmarks.bandits import BATCH, OPTIONS
from orchestrator import registry
from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback
from orchestrator.callbacks import Callback
from orchestrator.choosing.choice import make_choice
from orchestrator.progress import Progress
from orchestrator.rollout.task_sampler import TaskSampler
from orchestrator.runs.catalog import request_stop
from orchestrator.runs.environments import build_environments, find_held_out, trainable, vocabulary_sample
from orchestrator.spec import load_spec
from orchestrator.spec.sections import CurriculumSection
from store import checkpoints
from store.checkpoints import json_component
from store.records import StepRecord
from tests.example_server import example_server

MANY, FEW, CATEGORIES = 100, 3, 5
ROWS = 500  # of a file
WARM, MEASURED, PAIRS = 3, 12, 7  # steps; runs of each
TYPE_PAIRS = 3  # runs of each type
STARTS = 7  # of a process, and in one
LONG = 20_000  # rows of a file that is built alone
ARMS = 1_000_000
STATE_STEPS = 50
MOST_START_S, MOST_RATIO, MOST_WRITE_S = 5.0, 1.1, 2.0
STAGES, STAGE_STEPS, CLUSTERS = 12, 20, 10  # of a run whose evaluation is measured
SHARE = 0.2  # of its training that evaluating may take


class Spent(NamedTuple):
    """Seconds of the clock and of this process on processors."""

    clock: float
    processor: float

    @classmethod
    def now(cls) -> Spent:
        return cls(time.perf_counter(), time.process_time())

    def since(self, begun: Spent) -> Spent:
        return Spent(self.clock - begun.clock, self.processor - begun.processor)

    def __str__(self) -> str:
        return f"{self.clock:.2f} s ({self.processor:.2f} of the processor)"


class Marks(Callback):
    """When the first task was played, and every step was done; stops the run after some."""

    def __init__(self, home: str, num_steps: int) -> None:
        self.home, self.num_steps = home, num_steps
        self.begun, self.first_task = Spent.now(), Spent(0.0, 0.0)
        self.steps: list[Spent] = []

    def measuring(self, text: str, done: int, total: int) -> None:
        if not self.first_task.clock:
            self.first_task = Spent.now()

    def step(self, at: Progress, record: StepRecord) -> None:
        self.steps.append(Spent.now())
        if at.step == self.num_steps:
            request_stop("many", self.home)


def spec_of(environments: Mapping[str, Any], num_steps: int, mode: str = "staged") -> dict[str, Any]:
    return {
        "name": "many",
        "environments": environments,
        "curriculum": {"mode": mode, "stages": 1, "stage": {"steps": 2 * num_steps}},
        "step": {"groups": 16, "group_size": 4},
        "objective": "rloo",
        "sampler": {"type": "transformers", "max_tokens": 1},
        "evaluate": {"items": 1, "samples": 4},
        "checkpoint": {"every_steps": 0},
        "tracker": "none",  # its process would start on the same core while the first steps are timed
    }


def started(environments: Mapping[str, Any], num_steps: int, mode: str = "staged") -> Marks:
    """Run some steps in these environments."""
    spec = spec_of(environments, num_steps, mode)
    with tempfile.TemporaryDirectory() as home:
        marks = Marks(home, num_steps)
        orchestrator.run(spec, home=home, watcher=marks)
    return marks


def dice(num: int, categories: int = CATEGORIES) -> dict[str, dict[str, Any]]:
    return {f"dice{k:03}": {"type": "benchmarks.growth:create", "categories": categories} for k in range(num)}


def rows(num: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Sums in files, a topic a category."""
    for k in range(num):
        sums = ({"prompt": f"{i} + {k} =", "answer": str(i + k), "topic": f"t{i % CATEGORIES}"} for i in range(ROWS))
        (folder / f"{k}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums), "utf-8")
    options = {"type": "rows", "category": "topic", "reward": "exact"}
    return {f"rows{k:03}": {**options, "train": str(folder / f"{k}.jsonl")} for k in range(num)}


def processor_of(process: subprocess.Popen[str]) -> float:
    """Seconds of a process on processors, so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def process_started(environments: Mapping[str, Any], folder: Path) -> tuple[Spent, Spent]:
    """Start `evergreen run`: what it took up to the first task that is played, and to the end of the first step."""
    sections, spec = spec_of(environments, 1), folder / "many.yaml"
    sections["curriculum"]["stage"]["steps"] = 1  # the last step of a run is always told
    spec.write_text(json.dumps(sections), "utf-8")
    command = [sys.executable, "-c", "from orchestrator.cli import main; main()", "run", str(spec)]
    found = list[Spent]()
    with tempfile.TemporaryDirectory() as home:
        begun = time.perf_counter()
        shown = subprocess.Popen(
            [*command, "--home", home],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert shown.stdout is not None
        for line in shown.stdout:
            if f"  {('evaluating', 'step ')[len(found)]}" in line:
                found.append(Spent(time.perf_counter() - begun, processor_of(shown)))
            if len(found) == 2:
                break
        shown.terminate()  # it would evaluate once more
        shown.communicate()
    task, step = found
    return task, step


def told(
    what: str, took: Sequence[tuple[Spent, Spent]], marks: tuple[str, str] = ("first task", "first step done")
) -> None:
    """Print the least and the median of what was measured several times."""
    ends = []
    for end, spent in zip(marks, zip(*took, strict=True), strict=True):
        clock, processor = ([getattr(one, name) for one in spent] for name in Spent._fields)
        ends.append(
            f"{end} after {min(clock):.3f} s, median {statistics.median(clock):.3f} "
            f"(of the processor {min(processor):.3f}, {statistics.median(processor):.3f})"
        )
    print(f"{what}, {len(took)} times: {'; '.join(ends)}", flush=True)


def of_process() -> bool:
    """Time whole processes; whether many environments take too long up to the first task."""
    with tempfile.TemporaryDirectory() as folder:
        mixed = dice(MANY // 2) | rows(MANY - MANY // 2, Path(folder))
        process_started(dice(1), Path(folder))  # from now on the disk's cache has what is loaded
        many, one = [], []
        for _ in range(STARTS):
            many.append(process_started(mixed, Path(folder)))
            one.append(process_started(dice(1), Path(folder)))
    told(f"`evergreen run`, {MANY} x {CATEGORIES}", many)
    told(f"`evergreen run`, 1 x {CATEGORIES}", one)
    return statistics.median(task.processor for task, _ in many) > MOST_START_S


def of_start() -> bool:
    """Time starts where modules are loaded; whether they take too long."""
    with tempfile.TemporaryDirectory() as folder:
        mixed = dice(MANY // 2) | rows(MANY - MANY // 2, Path(folder))
        started(mixed, 1)
        took = []
        for _ in range(STARTS):
            marks = started(mixed, 1)
            took.append((marks.first_task.since(marks.begun), marks.steps[0].since(marks.begun)))
    told(f"start, {MANY} x {CATEGORIES}, modules loaded", took)
    return statistics.median(step.processor for _, step in took) > MOST_START_S


@contextmanager
def types() -> Iterator[dict[str, dict[str, Any]]]:
    """Give an environment of each type, with its data and server."""
    with tempfile.TemporaryDirectory() as folder, example_server() as url:
        path = Path(folder, "long.jsonl")
        sums = ({"prompt": f"{i} + {i % 7} =", "answer": str(i + i % 7), "topic": f"t{i % 5}"} for i in range(LONG))
        path.write_text("".join(json.dumps(row) + "\n" for row in sums), "utf-8")
        words = {str(k): {"min_word_len": k, "max_word_len": k} for k in range(3, 3 + CATEGORIES)}
        numbers = {str(k): {"max_value": k} for k in range(10, 10 + CATEGORIES)}
        gym = {"type": "reasoning_gym", "max_tokens": 8}
        yield {
            f"rows, {LONG:,} of them": {"type": "rows", "category": "topic", "reward": "exact", "train": str(path)},
            f"rows, {ROWS} of them": rows(1, Path(folder))["rows000"],
            "reasoning_gym, which reads a list of words": {**gym, "dataset": "spell_backward", "categories": words},
            "reasoning_gym, which does not": {**gym, "dataset": "gcd", "categories": numbers},
            "codebook": {"type": "codebook", "categories": {str(k): k for k in (2, 4, 8, 16, 32)}},
            "gymnasium": {"type": "gymnasium", "id": "FrozenLake-v1"},
            "http": {"type": "http", "urls": [url]},
            "a factory": dice(1)["dice000"],
        }


def alike(section: Mapping[str, Any], num: int) -> Marks:
    """Run some steps in so many environments of one section."""
    return started({f"one{k:03}": section for k in range(num)}, WARM + MEASURED)


def of_types() -> bool:
    """Time runs with a hundred environments of one type beside few, each type in turn; whether steps cost too much."""
    started(dice(1), 1)  # which loads the modules
    is_above = False
    with types() as known:
        for what, section in known.items():
            above, many = compared(f"{what}, staged", partial(alike, section), TYPE_PAIRS)
            told(
                f"start, {MANY} x {what}, modules loaded",
                [(one.first_task.since(one.begun), one.steps[0].since(one.begun)) for one in many],
            )
            is_above |= above
    return is_above


def of_build() -> bool:
    """Time how long a start builds an environment of each type, and how long it asks it for tasks."""
    with types() as known:
        for what, section in known.items():
            took = []
            for _ in range(STARTS):
                spec = load_spec(spec_of({"one": section}, 1))
                begun = Spent.now()
                built = build_environments(spec)[1]
                build, begun = Spent.now().since(begun), Spent.now()
                vocabulary_sample(built)
                find_held_out(built, "anchor", spec.evaluate.items)
                took.append((build, Spent.now().since(begun)))
                del built
                gc.collect()  # what is there is shared with the next one
            told(f"build, {what}", took, ("built", "asked for tasks"))
    return False


def of_step(mode: str) -> bool:
    """Time steps of many environments beside few; whether they cost too much more."""
    return compared(mode, lambda num: started(dice(num), WARM + MEASURED, mode), PAIRS)[0]


def compared(what: str, run: Callable[[int], Marks], num_pairs: int) -> tuple[bool, list[Marks]]:
    """Run few and many environments in turn; say whether a step of many costs too much more, and give their marks."""
    ratios, many = list[Spent](), list[Marks]()
    for _ in range(num_pairs):
        of = []
        for marks in (run(FEW), run(MANY)):
            took = [end.since(begun) for begun, end in pairwise(marks.steps[WARM - 1 :])]
            of.append(Spent(*(statistics.median(seconds) for seconds in zip(*took, strict=True))))
        ratios.append(Spent(of[1].clock / of[0].clock, of[1].processor / of[0].processor))
        many.append(marks)
    found = []
    for clock, values in zip(("clock", "processor"), zip(*ratios, strict=True), strict=True):
        found.append(f"{clock} {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    print(
        f"step, {what}, {MANY} environments over {FEW}, median and range of {num_pairs} pairs: {', '.join(found)}; "
        f"{1000 * of[1].clock:.0f} ms, {1000 * of[1].processor:.0f} of the processor",
        flush=True,
    )
    return statistics.median(one.processor for one in ratios) > MOST_RATIO, many


def in_clusters(num: int, share: float | None) -> dict[str, Any]:
    """Write the spec of a run of some stages in clusters of environments, with a share for evaluation."""
    spec, names, clusters = spec_of(dice(num), 0), [*dice(num)], min(num, CLUSTERS)
    scheduler = {"type": "headroom", "clusters": {f"c{k}": names[k::clusters] for k in range(clusters)}}
    stage = {"steps": STAGE_STEPS}
    spec["curriculum"] = {"mode": "staged", "stages": STAGES, "scheduler": scheduler, "stage": stage}
    spec["evaluate"] = {**spec["evaluate"], "share": share}
    return spec


def of_evaluation(num: int, share: float | None) -> bool:
    """Tell what evaluating took of a run; whether that is more than its share, or a cluster had no stage."""
    spec = in_clusters(num, share)
    with tempfile.TemporaryDirectory() as home:
        orchestrator.run(spec, home=home, watcher=Callback())
        told_of = orchestrator.open_home(home).run("many").summary()
    training, evaluation = told_of["looking"]["training"], told_of["looking"]["parts"]["evaluation"]
    passes, seconds = (evaluation[unit] / training[unit] for unit in ("passes", "seconds"))
    clusters = spec["curriculum"]["scheduler"]["clusters"]
    first = {stage["environment"] for stage in told_of["stages"][: len(clusters)]}
    num_met = sum(not first.isdisjoint(own) for own in clusters.values())
    print(
        f"evaluation, {num} x {CATEGORIES}, {STAGES} stages of {STAGE_STEPS} steps, share {share}: "
        f"{passes:.3f} of the training's passes, {seconds:.2f} of its {training['seconds']:.0f} s; "
        f"{num_met} of {len(clusters)} clusters had one of the first {len(clusters)} stages",
        flush=True,
    )
    return (share is not None and passes > share) or num_met < len(clusters)


def of_checkpoint(mode: str, num_environments: int, num_arms: int, bandit: str) -> bool:
    """Time what a checkpoint has of arms, and a step's choice; whether writing takes too long."""
    from benchmarks.growth import create

    environments = {name: create(name, num_arms // num_environments) for name in dice(num_environments)}
    first = next(iter(environments))
    section = CurriculumSection.model_validate({"mode": mode, "bandit": bandit})
    choice = make_choice(section, trainable(environments), 0)
    tasks = TaskSampler(environments, section, 0)
    tasks.draw(choice.slots(BATCH, 1, first, []))
    gc.freeze()  # as a run does
    with tempfile.TemporaryDirectory() as home:
        begun = Spent.now()
        parts = [json_component("choice", 1, choice.state()), json_component("tasks", 1, tasks.state())]
        saved = checkpoints.save(Path(home), "step-1", parts)
        write = Spent.now().since(begun)
        tasks.draw(choice.slots(BATCH, 2, first, []))  # so that reading has something to take back
        begun = Spent.now()
        opened = checkpoints.open_checkpoint(Path(home) / saved.folder, {"choice": 1, "tasks": 1})
        choice.load_state(opened.read_json("choice"))
        tasks.load_state(opened.read_json("tasks"))
        read = Spent.now().since(begun)
    steps = []
    for step in range(3, 3 + STARTS):
        begun = Spent.now()
        picks = [(slot.bandit, slot.pick) for slot in choice.slots(BATCH, step, first, [])]
        for name, own in choice.bandits.items():
            own.learn([Feedback(pick, 0.3, score=0.7) for bandit_of, pick in picks if bandit_of == name])
        choice.arms()
        steps.append(Spent.now().since(begun).processor)
    gc.unfreeze()
    print(
        f"checkpoint, {mode}, {bandit}, {num_environments} x {num_arms // num_environments:,} arms: write {write}, "
        f"read {read}, {saved.num_bytes / 1e6:.1f} MB; a step's choice {1000 * statistics.median(steps[1:]):.0f} ms of "
        f"the processor, the first {1000 * steps[0]:.0f}",
        flush=True,
    )
    return write.processor > MOST_WRITE_S


def of_state(bandit: str) -> bool:
    """Tell what a checkpoint has of one bandit's arms by itself; whether writing takes too long."""
    config = registry.config_class("bandits", bandit)(**OPTIONS.get(bandit, {}))
    arms = [f"arm{k:06}" for k in range(ARMS)]
    made: Bandit = registry.create("bandits", config, arms=arms, rng=np.random.default_rng(0))
    nodes = (0, 1, 2) if bandit == "beta_thompson_tree" else ()
    about = {
        arm: ArmInfo(100, {"level": float(k % 10), **{f"node_{depth}": float(k // 10**depth % 10) for depth in nodes}})
        for k, arm in enumerate(arms)
    }
    begun = Spent.now()
    made.introduce(about, num_steps=1000)
    introduced = Spent.now().since(begun)
    rng = np.random.default_rng(1)
    for _ in range(STATE_STEPS):
        places = np.unique(rng.integers(0, ARMS, BATCH))
        picks = made.enter(places, np.full(len(places), 1 / ARMS))
        rewards = rng.random(len(picks)).tolist()
        made.learn([Feedback(pick, reward / 2, score=reward) for pick, reward in zip(picks, rewards, strict=True)])
    made.as_arrays = True
    del about
    gc.freeze()  # as a run does
    with tempfile.TemporaryDirectory() as home:
        begun = Spent.now()
        saved = checkpoints.save(Path(home), "step-1", [json_component("bandit", 1, made.state())])
        write, begun = Spent.now().since(begun), Spent.now()
        made.load_state(checkpoints.open_checkpoint(Path(home) / saved.folder, {"bandit": 1}).read_json("bandit"))
        read = Spent.now().since(begun)
    gc.unfreeze()
    print(
        f"state, {bandit}, {ARMS:,} arms: told of them {introduced}, write {write}, read {read}, "
        f"{saved.num_bytes / 1e6:.1f} MB",
        flush=True,
    )
    return write.processor > MOST_WRITE_S


PARTS: Mapping[str, Callable[[], list[bool]]] = {
    "process": lambda: [of_process()],
    "start": lambda: [of_start()],
    "build": lambda: [of_build()],
    "types": lambda: [of_types()],
    "step": lambda: [of_step(mode) for mode in ("staged", "flat")],
    "evaluation": lambda: [of_evaluation(num, share) for num, share in ((FEW, SHARE), (MANY, SHARE), (MANY, None))],
    "states": lambda: [of_state(method.name) for method in registry.listing("bandits")],
    "checkpoint": lambda: [
        of_checkpoint(mode, num_environments, ARMS, bandit)
        for bandit in ("headroom", "sec")
        for mode, num_environments in (("flat", MANY), ("staged", MANY // 10), ("staged", MANY))
    ],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="which; default: all")
    chosen = parser.parse_args(arguments).part or list(PARTS)
    print(f"{date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    is_above = [above for part in chosen for above in PARTS[part]()]
    print("above what is asked" if any(is_above) else "all within what is asked")
    return int(any(is_above))


if __name__ == "__main__":
    sys.exit(main())
