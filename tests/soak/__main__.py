"""A long curriculum, once undisturbed and once with faults at random; what grows, and what is left behind.

    make soak                               about twenty minutes
    python -m tests.soak --minutes 240 --seed 7

The first run is watched: memory, open files (connections are among them) and processes, every second. Their slopes are
told with 95 % intervals, from batch means, as neighbouring seconds are alike. The second is the same spec under faults:
kills, signals, a killed tracker or scorer, a locked ledger, a damaged newest checkpoint, a page that was deleted. Both
must end alike: digests, weights, rows, MLflow's values. Nothing may be left: no process, no file of half a write. It
exits with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from scipy import stats

from store.files import ASIDE
from tests.faults.interruptions import differences, tracked_differences
from tests.linux_processes import ProcessFacts, below
from tests.orchestrator.specs import APART, Raw, small, written

RESUMABLE = 75
STAGE = 50  # steps of a stage
WARM = 0.4  # of the first run's time, which counts for no slope: caches fill
BATCHES = 12  # of samples, whose means a slope is of
# Of a thousand steps, where even the lower end of the interval is above: a leak. A step takes a fifteenth of a second
# here, so an hour has tens of thousands, and what an allocator takes until it settles would look like much.
MOST_MB, MOST_FILES = 2.0, 0.5
MEAN_CALM_S = 6.0  # between two faults

Words = Sequence[object]


def spec_of(name: str, stages: int, folder: Path) -> Raw:
    """Three kinds of environment, scored in processes; MLflow; a report at boundaries; checkpoints every few steps.

    None of them makes tasks for ever: of those, a reasoning_gym environment keeps 4,096, which would look like a leak.
    """
    lines = ({"prompt": f"{i} + 1", "answer": str(i + 1)} for i in range(400))
    (folder / "sums.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    environments = {**small()["environments"], "noise": APART}
    environments["numbers"] = {"type": "rows", "train": str(folder / "sums.jsonl"), "reward": "exact"}
    return small(
        name,
        environments=environments,
        warm_start=None,
        curriculum={"stages": stages, "stage": {"steps": STAGE, "replay": 0.25}},
        checkpoint={"every_steps": 10},
        objective="repo_adaptive",
        tracker="mlflow",
    )


@dataclass
class Watched:
    """What a run's processes held, second by second."""

    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)  # resident, of the trainer alone
    files: list[float] = field(default_factory=list)  # open in the trainer, connections among them
    processes: list[float] = field(default_factory=list)

    def look(self, began: float, pid: int) -> None:
        """Take a sample; none of a process that is gone."""
        with suppress(OSError, StopIteration):
            rows = Path(f"/proc/{pid}/status").read_text().splitlines()
            resident = next(int(row.split()[1]) for row in rows if row.startswith("VmRSS"))
            num_files = len(os.listdir(f"/proc/{pid}/fd"))
            self.seconds.append(time.monotonic() - began)
            self.megabytes.append(resident / 1024)
            self.files.append(num_files)
            self.processes.append(1 + len(seen_below(pid)))

    def slope(self, values: Sequence[float]) -> tuple[float, float, float]:
        """Growth an hour of a number, and its 95 % interval, after the warm-up."""
        first = next((i for i, at in enumerate(self.seconds) if at > WARM * self.seconds[-1]), 0)
        size = max(1, (len(values) - first) // BATCHES)
        cuts = range(first, len(values) - size + 1, size)
        x = [statistics.fmean(self.seconds[i : i + size]) / 3600 for i in cuts]
        y = [statistics.fmean(values[i : i + size]) for i in cuts]
        fitted = stats.linregress(x, y)
        half = float(stats.t.ppf(0.975, max(1, len(x) - 2)) * fitted.stderr)
        return float(fitted.slope), float(fitted.slope) - half, float(fitted.slope) + half


OF_FAULTS = ("event ledger away", "event checkpoint passed over")  # what only the run has that they befell
_SEEN: dict[int, int] = {}  # every process that was ever below a command of ours, and when it began


def seen_below(pid: int) -> list[ProcessFacts]:
    """Find a process's children, theirs and so on; all are remembered, and it too."""
    found = below(pid)
    _SEEN.update({one.pid: one.begun for one in (*found, ProcessFacts.of(pid)) if one is not None})
    return found


def still_there() -> list[int]:
    """Find processes of ours that have not ended, whoever their parents are now."""
    now = ((ProcessFacts.of(pid), begun) for pid, begun in _SEEN.items())
    return [one.pid for one, begun in now if one is not None and one.begun == begun]


def begun(words: Words, log: Path) -> subprocess.Popen[bytes]:
    """Start a command as a shell would."""
    told = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("ab") as file:
        program = [str(Path(sys.executable).with_name("evergreen")), *map(str, words)]
        return subprocess.Popen(program, stdout=file, stderr=file, env=told, start_new_session=True)


def one_of(pid: int, word: bytes, rng: random.Random) -> int | None:
    """Draw one of the processes below whose command line has a word."""
    found = sorted(one.pid for one in seen_below(pid) if any(word in given for given in one.words))
    return rng.choice(found) if found else None


# --- faults: each takes the trainer's process and the home, and says whether it happened ---


def kill(pid: int, home: Path, rng: random.Random) -> bool:
    """The trainer is killed."""
    os.kill(pid, signal.SIGKILL)
    return True


def ask(pid: int, home: Path, rng: random.Random) -> bool:
    """The trainer is asked to stop."""
    os.kill(pid, rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
    return True


def kill_tracker(pid: int, home: Path, rng: random.Random) -> bool:
    """The process that sends numbers to MLflow is killed."""
    return _killed(one_of(pid, b"store.tracker", rng))


def kill_scorer(pid: int, home: Path, rng: random.Random) -> bool:
    """A process that scores is killed."""
    return _killed(one_of(pid, b"environments.scoring", rng))


def lock_ledger(pid: int, home: Path, rng: random.Random) -> bool:
    """Another program holds the ledger for some seconds."""
    with closing(sqlite3.connect(home / "evergreen.db", isolation_level=None, timeout=30)) as ledger:
        ledger.execute("BEGIN IMMEDIATE")
        time.sleep(rng.uniform(0.5, 6))
    return True


def delete_page(pid: int, home: Path, rng: random.Random) -> bool:
    """The report goes."""
    (home / "cut" / "report.html").unlink(missing_ok=True)
    return True


def freeze(pid: int, home: Path, rng: random.Random) -> bool:
    """The machine stands still for some seconds, for the trainer."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(rng.uniform(0.5, 5))
    os.kill(pid, signal.SIGCONT)
    return True


def kill_and_damage(pid: int, home: Path, rng: random.Random) -> bool:
    """The trainer is killed, and a file of its newest checkpoint has a bit that is another."""
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    folders = sorted((home / "cut" / "checkpoints").glob("step-*"))
    if len(folders) < 3:
        return True  # killed all the same
    path = rng.choice(sorted(path for path in folders[-1].rglob("*") if path.is_file() and path.stat().st_size))
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return True


FAULTS: Sequence[Callable[[int, Path, random.Random], bool]] = (
    kill,
    ask,
    kill_tracker,
    kill_scorer,
    lock_ledger,
    delete_page,
    freeze,
    kill_and_damage,
)


def _killed(pid: int | None) -> bool:
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True


def undisturbed(folder: Path, home: Path, stages: int) -> tuple[Watched, float]:
    """Run a curriculum and watch it; how long a stage took, in seconds, the first apart."""
    watched, began, warm = Watched(), time.monotonic(), 0.0
    spec = written(folder, spec_of("whole", stages, folder))
    process = begun(["run", spec, "--home", home], folder / "whole.log")
    while process.poll() is None:
        watched.look(began, process.pid)
        if not warm and any((home / "whole" / "checkpoints").glob("*-boundary-002")):
            warm = time.monotonic()
        time.sleep(1)
    if process.returncode:
        raise SystemExit(f"the run that nobody disturbed ended with {process.returncode}; see {folder / 'whole.log'}")
    return watched, (time.monotonic() - warm) / (stages - 1)


def disturbed(folder: Path, home: Path, stages: int, rng: random.Random) -> tuple[Counter[str], list[str]]:
    """Run the same with faults, and resume it until it is over: what happened how often, and what was wrong."""
    happened, wrong = Counter[str](), list[str]()
    words: Words = ["run", written(folder, spec_of("cut", stages, folder)), "--home", home]
    while True:
        process, may_end = begun(words, folder / "cut.log"), {0}
        while process.poll() is None:
            calm = time.monotonic() + rng.expovariate(1 / MEAN_CALM_S)
            while process.poll() is None and time.monotonic() < calm:
                seen_below(process.pid)
                time.sleep(0.2)
            if not (home / "cut" / "spec.yaml").exists():
                continue
            fault = rng.choice(FAULTS)
            if process.poll() is not None:
                break
            with suppress(ProcessLookupError):
                if fault(process.pid, home, rng):
                    happened[fault.__name__] += 1
                    may_end |= {"kill": {-signal.SIGKILL}, "kill_and_damage": {-signal.SIGKILL}}.get(
                        fault.__name__, set()
                    )
                    may_end |= {RESUMABLE} if fault is ask else set()
        if process.returncode not in may_end:
            wrong.append(f"a command ended with {process.returncode}, after {dict(happened)}; see {folder / 'cut.log'}")
        if process.returncode == 0 or len(wrong) > 3:
            return happened, wrong
        words = ["resume", "cut", "--home", home]


def left_behind(home: Path) -> list[str]:
    """Name processes and files that nobody needs any more."""
    deadline = time.monotonic() + 20
    while (left := still_there()) and time.monotonic() < deadline:
        time.sleep(0.2)
    files = list(home.rglob(f"{ASIDE}*"))
    return [f"process {pid} is still there" for pid in left] + [f"{path} was left" for path in files]


def main() -> int:
    """Soak, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="in all")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--folder", type=Path, help="where runs and logs stay; else they go when all is well")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"runs and logs are in {folder}", flush=True)
    _, stage_s = undisturbed(folder, folder / "trial", 8)
    # with faults it takes longer: what a kill undoes is done again, and each start takes some seconds
    stages = max(8, math.floor(60 * options.minutes / 3.5 / stage_s))
    print(f"{stages} stages of {STAGE} steps, {stage_s:.1f} s each", flush=True)
    home = folder / "home"
    watched, _ = undisturbed(folder, home, stages)
    wrong = []
    print(f"undisturbed: {watched.seconds[-1] / 60:.1f} minutes, {len(watched.seconds)} looks")
    numbers: list[tuple[str, Sequence[float], str, float]] = [
        ("memory", watched.megabytes, "MB", MOST_MB),
        ("open files and connections", watched.files, "", MOST_FILES),
        ("processes", watched.processes, "", MOST_FILES),
    ]
    for what, values, unit, most in numbers:
        hours = watched.seconds[-1] / 3600 / (stages * STAGE) * 1000  # of a thousand steps
        slope, low, high = (hours * one for one in watched.slope(values))
        growth = f"{slope:+.2f} ({low:+.2f} to {high:+.2f}) a thousand steps"
        said = f"{what}: {min(values):.0f} to {max(values):.0f} {unit}, {growth}"
        print(said, flush=True)
        if low > most:
            wrong.append(f"it grows: {said}")
    began = time.monotonic()
    happened, failed = disturbed(folder, home, stages, random.Random(options.seed))
    faults = ", ".join(f"{name.replace('_', ' ')} {num}" for name, num in sorted(happened.items()))
    print(
        f"with faults: {(time.monotonic() - began) / 60:.1f} minutes, {sum(happened.values())} faults: {faults}",
        flush=True,
    )
    found = failed or [*differences(home), *tracked_differences(home)]
    wrong += [one for one in found if not one.startswith(OF_FAULTS)]
    wrong += left_behind(home)
    print("\n".join(wrong) if wrong else "both ended alike, and nothing is left")
    if not wrong and options.folder is None:
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
