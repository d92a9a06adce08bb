"""A step of TRL's GRPOTrainer beside one of ours and one in plain torch, on one CPU core. One command:

    python -m benchmarks.versus_trl [--quick]

Same model (Qwen2 architecture, .67M weights, in `wide` 31M, drawn once), same prompts, 8 samples of each, same lengths
and rewards (`benchmarks.work`), one GRPO update a step (clipped surrogate, no KL), AdamW with the same settings,
float32, one thread. Each side is a process of its own; they take turns of a few steps on one core, in an order that
rotates, so that a busy neighbour slows all alike, and the ratio of each round is taken within it. The first turn of
each is not counted. TRL lives in an environment of its own (`.venv-trl`, made when it is not there; or name its Python
with EVERGREEN_TRL_PYTHON).

The sides: `trl`; `evergreen`, its sampler, objective and learner; `plain`, the same arithmetic in plain torch; `run`, a
whole run of Evergreen with bandit, ledger and checkpoints; `ahead`, the same with `sampler: {ahead: 1}` on two cores.
Goals: 1.8 times TRL's steps a second on `full`, 4.5 times on `uneven`, 2.5 times on `dense`, 7 times with `ahead` on
`uneven`; play and update within 1.1 times of `plain` (`wide`: update 1.1, play 1.2).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks import work
from benchmarks.random_models import random_qwen2

ROOT = Path(__file__).parents[1]
OURS, TRL, PLAIN, RUN, AHEAD = "evergreen", "trl", "plain", "run", "ahead"
GOALS: dict[work.Case, float] = {"full": 1.8, "uneven": 4.5, "dense": 2.5}
TRL_ROWS = 64  # of a micro-batch: as fast here as 128, faster than all 256 at once, and less memory
PARTS = ("generate", "wait", "score", "update", "other")  # wait: for the batch that is played ahead

Answer = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds of two steps, without whole runs")
    parser.add_argument("--rounds", type=int, help="turns that count, of each side; 8, with --quick 3")
    parser.add_argument("--steps", type=int, help="of a turn; 4, with --quick 2")
    parser.add_argument("--case", choices=work.CASES, help="only this one")
    parser.add_argument("--sides", help="only these, separated by commas")
    parser.add_argument("--trl-rows", type=int, default=TRL_ROWS, help="rows of TRL's micro-batch")
    parser.add_argument("--core", type=int, default=0, help="the core that the sides share")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--profile", action="store_true", help="only say where Evergreen's time goes")
    options = parser.parse_args()
    cases = [options.case] if options.case else list(work.CASES)
    with tempfile.TemporaryDirectory() as folder:
        models = {case: f"{folder}/{case}" for case in cases}
        for case, model in models.items():
            std = 0.02 if case == "wide" else 0.06
            random_qwen2(seed=0, std=std, **work.shape(case)).save_pretrained(model)
        if options.profile:
            for case, model in models.items():
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.evergreen_side", model, case, "--profile"],
                    cwd=ROOT,
                    env=environment(),
                    check=True,
                )
            return
        found = {case: compare(model, case, options) for case, model in models.items()}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def compare(folder: str, case: work.Case, options: argparse.Namespace) -> dict[str, Any]:
    """Let the sides take turns at one case; print and give what came of it."""
    num_rounds, num_steps = (
        options.rounds or (3 if options.quick else 8),
        options.steps or (2 if options.quick else 4),
    )
    commands = sides(folder, case, num_steps * (num_rounds + 1), options)
    rounds: dict[str, list[Answer]] = {side: [] for side in commands}
    with ExitStack() as stack:
        processes = {side: stack.enter_context(started(side, *command)) for side, command in commands.items()}
        for number in range(num_rounds + 1):
            turn = number % len(commands)
            for side in [*commands][turn:] + [*commands][:turn]:
                answer = take_turn(side, processes[side], num_steps)
                if number:
                    rounds[side].append(answer)
    require_equal_work(rounds)
    found = {"case": case, "steps": num_steps, "sides": summary(rounds), "ratios": ratios(rounds)}
    report(found)
    return found


def sides(
    folder: str, case: work.Case, num_steps: int, options: argparse.Namespace
) -> dict[str, tuple[list[str], set[int]]]:
    """Name the sides of a case: the command of each, and the cores it may use."""
    alone, pair = {options.core}, {options.core, *_cores()[:2]}
    steps = str(num_steps)
    every = {
        TRL: (["-m", "benchmarks.trl_side", folder, case, steps, str(options.trl_rows)], alone),
        OURS: (["-m", "benchmarks.evergreen_side", folder, case], alone),
        PLAIN: (["-m", "benchmarks.plain", folder, case], alone),
        RUN: (["-m", "benchmarks.run_side", folder, case, steps, "0"], alone),
        AHEAD: (["-m", "benchmarks.run_side", folder, case, steps, "1"], pair),
    }
    wanted = options.sides.split(",") if options.sides else [*every][: 3 if options.quick else 5]
    unknown = set(wanted) - set(every)
    if unknown:
        sys.exit(f"there is no side {', '.join(unknown)}; there are: {', '.join(every)}")
    return {
        side: ([trl_python() if side == TRL else sys.executable, *every[side][0]], every[side][1]) for side in wanted
    }


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def trl_python() -> str:
    """Find the Python that has TRL; `make trl` makes it where it is missing."""
    named = os.environ.get("EVERGREEN_TRL_PYTHON")
    python = Path(named) if named else ROOT / ".venv-trl" / "bin" / "python"
    if not python.exists() and not named:
        subprocess.run(["make", "trl"], cwd=ROOT, check=True)
    return str(python)


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@contextmanager
def started(side: str, command: list[str], cores: set[int]) -> Iterator[subprocess.Popen[str]]:
    """Have a side's process, held to its cores where the system can do that."""
    with tempfile.TemporaryFile("w+") as noise:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
        )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, cores)
        try:
            yield process
        except EOFError:
            noise.seek(0)
            sys.exit(f"{side} ended before its time:\n{noise.read()[-3000:]}")
        finally:
            process.kill()
            process.wait()


def take_turn(side: str, process: subprocess.Popen[str], num_steps: int) -> Answer:
    """Let a side do some steps."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{num_steps}\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise EOFError(side)
    answer: Answer = json.loads(line)
    print(f"    {side}: {answer['seconds']:.2f} s a step", file=sys.stderr, flush=True)
    return answer


def require_equal_work(rounds: Mapping[str, Sequence[Answer]]) -> None:
    """Refuse to compare sides that did not write equally many tokens."""
    tokens = {side: [answer["tokens"] for answer in answers] for side, answers in rounds.items()}
    first = next(iter(tokens.values()))
    if any(written != first for written in tokens.values()):
        sys.exit(f"the sides did not do the same work; tokens written, turn by turn: {tokens}")


def summary(rounds: Mapping[str, Sequence[Answer]]) -> dict[str, Answer]:
    """Give the median round of each side, part by part, and its memory."""
    return {
        side: {
            "steps_a_second": 1 / statistics.median(answer["seconds"] for answer in answers),
            "seconds": [answer["seconds"] for answer in answers],
            "split": {part: statistics.median(answer["split"].get(part, 0.0) for answer in answers) for part in PARTS},
            "peak_mb": answers[-1]["peak_mb"],
            "loaded_mb": answers[-1]["loaded_mb"],
        }
        for side, answers in rounds.items()
    }


def ratios(rounds: Mapping[str, Sequence[Answer]]) -> dict[str, list[float]]:
    """Compare pairs of sides within each round: mean ratio of their rates, and its 95 % interval."""
    found = {
        f"{side} / {TRL}, {what}": interval(
            [theirs[key] / ours[key] for theirs, ours in zip(rounds[TRL], rounds[side], strict=True)]
        )
        for side in (OURS, RUN, AHEAD, PLAIN)
        for what, key in (("steps a second", "seconds"), ("steps a CPU second", "cpu_seconds"))
        if TRL in rounds and side in rounds
        # what is played ahead is partly done while others wait: only the clock tells something there
        if not (side == AHEAD and key == "cpu_seconds")
    }
    if OURS in rounds and PLAIN in rounds:
        pairs = list(zip(rounds[OURS], rounds[PLAIN], strict=True))
        for what, parts in (
            ("play and update", ("generate", "update")),
            ("play", ["generate"]),
            ("update", ["update"]),
        ):
            seconds = [[sum(answer["split"][part] for part in parts) for answer in pair] for pair in pairs]
            found[f"{OURS} / {PLAIN}, seconds of {what}"] = interval([mine / theirs for mine, theirs in seconds])
        found[f"{OURS} / {PLAIN}, CPU seconds of a step"] = interval(
            [a["cpu_seconds"] / b["cpu_seconds"] for a, b in pairs]
        )
    return found


def interval(values: Sequence[float]) -> list[float]:
    """Give the geometric mean and its 95 % interval, by Student's law on the logarithms."""
    logs = [math.log(value) for value in values]
    mean = statistics.fmean(logs)
    half = (
        stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
    )
    return [math.exp(mean), math.exp(mean - half), math.exp(mean + half)]


def report(found: Mapping[str, Any]) -> None:
    """Print a case as a table."""
    case: work.Case = found["case"]
    num, longest = work.num_prompts(case), work.NEW_TOKENS[case]
    print(f"\n{case}: {num} x {work.GROUP_SIZE} sequences, answers up to {longest} tokens")
    print(f"{'':24}{'steps/s':>9}" + "".join(f"{part:>10}" for part in PARTS) + f"{'peak MB':>10}{'at start':>10}")
    for side, one in found["sides"].items():
        split = "".join(f"{one['split'][part]:>10.3f}" for part in PARTS)
        print(f"{side:24}{one['steps_a_second']:>9.3f}{split}{one['peak_mb']:>10.0f}{one['loaded_mb']:>10.0f}")
    for pair, (mean, low, high) in found["ratios"].items():
        print(f"{pair}: {mean:.2f} (95 % interval {low:.2f} to {high:.2f})")
    if case == "wide":
        print("goal: play at most 1.2 times plain torch's seconds, update at most 1.1")
    if case in GOALS:
        print(
            f"goal: {GOALS[case]} times TRL's steps a second; play and update at most 1.1 times plain torch's seconds"
        )


if __name__ == "__main__":
    main()
