"""A case tried: in this process, through the real command line, within bounds of time and memory."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from typer.testing import CliRunner

from tests.fuzz.cases import Case

LIMIT_S = 20.0  # for a case; most take a tenth of a second
MOST_SAID = 20_000  # characters of a refusal
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")  # by a terminal
REPEATED = "x" * 260
OF_SCORES = {"hypervolume_components", "weighted_components", "constrained_targets"}  # a run alone sees them

Kind = Literal["accepted", "refused", "traceback", "hang", "message", "late"]


@dataclass(frozen=True)
class Outcome:
    """What became of a case. `late`: `validate` takes it and `run` does not; `message`: a refusal that is none."""

    kind: Kind
    said: str

    @property
    def is_fine(self) -> bool:
        """Whether a person was served."""
        return self.kind in ("accepted", "refused")


class OutOfTime(BaseException):
    """A case hangs."""


def tried(words: Sequence[str], limit_s: float = LIMIT_S) -> Outcome:
    """Put words through the command line in this process."""
    from orchestrator.cli.app import app

    try:
        with _within(limit_s):
            result = CliRunner().invoke(app, list(words), prog_name="evergreen", catch_exceptions=True)
    except OutOfTime:
        return Outcome("hang", traceback.format_exc(limit=-12))
    if isinstance(result.exception, OutOfTime):
        return Outcome("hang", "".join(traceback.format_exception(result.exception)[-12:]))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return Outcome("traceback", "".join(traceback.format_exception(result.exception)))
    return judged(result.exit_code, result.stderr)


def in_a_process(words: Sequence[str], folder: Path) -> Outcome:
    """Put words through `evergreen` in a process of its own."""
    command = [sys.executable, "-c", "from orchestrator.cli import main; main()", *words]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=3 * LIMIT_S, check=False)
    except (ValueError, OSError) as never:  # no argument of a process holds U+0000, or 128 KiB
        return Outcome("refused", str(never))
    except subprocess.TimeoutExpired:
        return Outcome("hang", "")
    return judged(done.returncode, done.stderr.decode(errors="replace"))


def judged(code: int, said: str) -> Outcome:
    """Tell a refusal from what is none."""
    if "Traceback (most recent call last)" in said or code not in (0, 2, 75):
        return Outcome("traceback", f"exit code {code}\n{said[-MOST_SAID:]}")
    if code == 2 and not said.strip():
        return Outcome("message", "nothing was said")
    if len(said) > MOST_SAID or REPEATED in said or OBEYED.search(said):
        return Outcome("message", f"{said[:500]!r} ({len(said)} characters)")
    return Outcome("refused" if code == 2 else "accepted", said)


def run_on(case: Case, home: Path) -> Outcome:
    """Run what `validate` accepted for two steps, where that is cheap; what `run` then refuses came late."""
    if not _is_cheap(case):
        return Outcome("accepted", "")
    outcome = tried(["run", *(word for word in case.words[1:] if word != "--json"), "--until-step", "2"], 4 * LIMIT_S)
    return Outcome("late", outcome.said) if outcome.kind == "refused" else outcome


def _is_cheap(case: Case) -> bool:
    """Whether two steps take about a second."""
    from orchestrator.spec import load_spec

    overrides = [word for before, word in zip(case.words, case.words[1:], strict=False) if before == "--set"]
    spec = load_spec(case.file, overrides)
    start, policy, most = spec.warm_start, spec.policy, spec.sampler.max_tokens
    own = [n for one in spec.environments.values() for n in (one.episodes.max_tokens, one.options.get("max_tokens"))]
    tokens = max([most, *(number or 0 for number in own)])
    return (
        policy.model == "tiny"
        and policy.layers * policy.hidden * (policy.hidden + policy.mlp) < 200_000
        and spec.step.groups * max(spec.group_sizes.values()) * tokens * len(spec.objective.plans or "1") < 2000
        and spec.evaluate.items * spec.evaluate.samples < 100
        and (start is None or start.num_batches * start.batch_size < 2000)
        and spec.baseline is None
        and spec.tracker.type == "none"
        and spec.sampler.type == "transformers"
        and not OF_SCORES & set(spec.objective.options)
    )


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
