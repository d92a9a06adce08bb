"""The checker: every check of an environment, made in processes of its own, and the report of what they found.

Whatever happens to the environment happens there and can be ended. Questions travel as pickles of our own types;
answers as JSON, so that nothing of the environment's is ever unpacked on the asking side.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NamedTuple, Self

from environments.checker import environment, scores, tasks
from environments.checker.findings import (
    SEVERITIES,
    CategoryFacts,
    CheckContext,
    CheckLimits,
    CheckReport,
    Finding,
    error_text,
    finding_of,
    quoted,
)
from environments.display import Tell
from environments.scoring import ScoringOptions
from environments.scoring.pool import KillablePool
from environments.scoring.process import begin, end, limit_resources
from environments.sources import EnvironmentSource, validate

TOTAL = 20  # a check may take this many times the patience for a single call
END_S = 5.0  # for a process to be gone once its connection is
SAY_S = 1.0
PRINTED = 2000  # bytes of what was printed that are looked at
PIECE = 2**16  # bytes read at once
UNSAID = "the environment"  # where nothing was said of the call that is made
MEMORY_GIB = 8  # of writable memory, for building and tasks; scores have their own limit

Answer = Mapping[str, Any]


class Check(NamedTuple):
    """One thing that is looked at."""

    doing: str  # in words: "making tasks"
    run: Callable[..., None]  # takes a context; adds findings to it


CHECKS: dict[str, Check] = {  # in the order in which they are made
    "build": Check("building", environment.check_build),
    "attributes": Check("reading its attributes", environment.check_attributes),
    "categories": Check("reading its categories", environment.check_categories),
    "sizes": Check("trying its sizes", environment.check_sizes),
    "tasks": Check("making tasks", tasks.check_tasks),
    "again": Check("making tasks again", tasks.check_made_again),
    "budget": Check("measuring answers", tasks.check_budget),
    "pools": Check("counting tasks", environment.check_pools),
    "scores": Check("scoring", scores.check_scores),
    "closed": Check("drawing legal answers", environment.check_closed),
    "episodes": Check("playing episodes", scores.check_episodes),
    "legal": Check("playing with legal answers", scores.check_legal_play),
}
SECOND_PROCESS = Check("making tasks in another process", tasks.check_made_elsewhere)


def check(
    source: EnvironmentSource,
    *,
    tasks: int = 32,
    scoring: ScoringOptions | None = None,
    patience_s: float = 60.0,
    progress: Tell | None = None,
) -> list[Finding]:
    """Check an environment, in processes of its own: what crashes, hangs, prints or exits is a finding; errors first.

    So many `tasks` of each category are looked at closely; `scoring` are the limits that scores will have, by default
    those of a spec that says nothing. A single call may take `patience_s`, building included.
    """
    return list(examine(source, tasks, scoring, patience_s, progress).findings)


def examine(
    source: EnvironmentSource,
    tasks: int = 32,
    scoring: ScoringOptions | None = None,
    patience_s: float = 60.0,
    progress: Tell | None = None,
) -> CheckReport:
    """Check an environment and report the facts too: sizes, distinct tasks, pools, times."""
    limits = CheckLimits(tasks, patience_s=patience_s, scoring=scoring or ScoringOptions())
    try:
        pickle.dumps(source)
    except Exception as error:  # the options are the caller's objects and may fail in any way
        sentence = f"its options cannot be sent to the scoring processes: {error_text(error)}"
        return CheckReport(source.name, source.type, findings=(finding_of("build", sentence),))
    return _Examination(source, limits, progress or (lambda words: None)).report()


class _Examination:
    def __init__(self, source: EnvironmentSource, limits: CheckLimits, progress: Tell) -> None:
        self._source, self._limits, self._progress = source, limits, progress
        self._findings: list[Finding] = []
        self._answer: Answer = {"facts": {}, "counts": [], "prints": {}}

    def report(self) -> CheckReport:
        self._check_in_one_process()
        if prints := self._answer["prints"]:  # the same tasks, where hashes are seeded otherwise
            with SandboxProcess(self._source, self._limits, self._at, hash_seed=2) as process:
                self._ask(process, "second process", SECOND_PROCESS, prints)
        return CheckReport(
            self._source.name,
            self._source.type,
            categories=tuple(CategoryFacts(**counts) for counts in self._answer["counts"]),
            findings=tuple(sorted(self._findings, key=lambda found: SEVERITIES.index(found.severity))),
            **self._answer["facts"],
        )

    def _check_in_one_process(self) -> None:
        """Make all checks in one process; if it is lost, the others are left out: they would fare no better."""
        with SandboxProcess(self._source, self._limits, self._at, hash_seed=1) as process:
            for name, check in CHECKS.items():
                answer = self._ask(process, name, check)
                if answer is None:
                    self._findings.append(finding_of("left-out", "the checks after that were not made"))
                    return
                self._answer = answer
                if not answer["is_built"]:
                    return

    def _ask(self, process: SandboxProcess, name: str, check: Check, *arguments: Any) -> Answer | None:
        self._doing = check.doing
        self._progress(check.doing)
        try:
            answer = process.ask(name, *arguments)
        except Lost as lost:
            rule, how = lost.args
            self._findings.append(finding_of(rule, f"{check.doing}: {how}"))
            return None
        found = [Finding(**plain) for plain in answer["findings"]]
        if printed := process.printed().strip():
            sentence = f"it writes to the terminal ({check.doing})"
            found.append(finding_of("prints", sentence, excerpt=quoted(printed)))
        for finding in found:  # not what another check or process found as well
            known = {(other.rule, other.category) for other in self._findings}
            if finding.rule == "raises" or (finding.rule, finding.category) not in known:
                self._findings.append(finding)
        return answer

    def _at(self, where: str) -> None:
        self._progress(f"{self._doing}: {where}" if where else self._doing)


class Lost(Exception):
    """The process hangs or has ended: the rule that this breaks, and which it is, as the end of a sentence."""


class SandboxProcess:
    """A process in which `serve` answers; a context manager, which kills it in the end.

    It seeds the hashes of strings with `hash_seed` unless the caller's variables say so. `at` is called with what comes
    next before every call that could hang.
    """

    def __init__(self, source: EnvironmentSource, limits: CheckLimits, at: Tell, hash_seed: int) -> None:
        self._limits, self._at, self._where = limits, at, ""
        self._printed = b""  # since the last time that somebody asked, only the beginning
        self._connection, theirs = Pipe()
        self._output, printing = Pipe(duplex=False)
        with theirs, printing:
            variables = {"PYTHONHASHSEED": str(hash_seed), **os.environ}
            self._process = begin(__name__, theirs.fileno(), printing.fileno(), variables)
        os.set_blocking(self._output.fileno(), False)
        self._connection.send((source, limits))

    def ask(self, check: str, *arguments: Any) -> Answer:
        """Have a check made; raises Lost if it hangs, or has ended the process."""
        self._where = ""
        over_at = time.monotonic() + TOTAL * self._limits.patience_s
        try:
            self._connection.send((check, arguments))
            while True:
                self._wait(over_at)
                answer: Answer = json.loads(self._connection.recv_bytes())
                if "at" not in answer:
                    return answer
                self._where = answer["at"]
                self._at(self._where)
        except (EOFError, ConnectionError) as error:
            try:
                code = self._process.wait(END_S)
                how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            except subprocess.TimeoutExpired:
                how = "it closed what connects it to us"
            raise Lost("ends-process", f"{self._where or UNSAID} ends the process ({how})") from error

    def printed(self) -> str:
        """Give what was written to the terminal since the last time, the beginning of it."""
        self._take_output()
        text, self._printed = self._printed[:PRINTED].decode(errors="replace"), b""
        return text

    def _wait(self, over_at: float) -> None:
        """Wait for the next word, saying now and then what is waited for."""
        patience_s = self._limits.patience_s
        give_up_at = time.monotonic() + patience_s
        both = [self._connection, self._output]
        while self._connection not in (heard := wait(both, min(SAY_S, patience_s))):
            if heard:
                self._take_output()
            else:
                self._at(self._where)
            if time.monotonic() > over_at:
                raise Lost("hangs", f"the check was not over after {TOTAL * patience_s:g} s")
            if time.monotonic() > give_up_at:
                raise Lost("hangs", f"{self._where or UNSAID} does not come back within {patience_s:g} s")

    def _take_output(self) -> None:
        """Read what was printed so far, so that nobody waits to print; only its beginning is kept."""
        with suppress(BlockingIOError):
            while data := os.read(self._output.fileno(), PIECE):
                self._printed = (self._printed + data)[:PRINTED]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        end(self._process)
        self._connection.close()
        self._output.close()


def serve(handle: int) -> None:
    """Make checks for whoever asks at a descriptor, until the asking side is gone: a sandbox process's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the asking side's to handle
    warnings.simplefilter("ignore")
    limit_resources({resource.RLIMIT_DATA: MEMORY_GIB * 2**30, resource.RLIMIT_CORE: 0})
    connection = Connection(handle)

    def send(message: Answer) -> None:
        connection.send_bytes(json.dumps(message).encode())

    source, limits = connection.recv()
    pool = KillablePool([source], 1, _with_variables(source, limits.scoring))
    context = CheckContext(source, limits, pool.turns, lambda words: send({"at": words}))
    while True:
        name, arguments = connection.recv()
        findings = run_check(CHECKS.get(name, SECOND_PROCESS), context, *arguments)
        answer = {"is_built": context.is_built, "facts": context.facts, "prints": context.prints}
        counts = [vars(facts) for facts in context.counts.values()]
        send({"findings": [vars(finding) for finding in findings], "counts": counts, **answer})


def _with_variables(source: EnvironmentSource, scoring: ScoringOptions) -> ScoringOptions:
    """Let the scoring process see the variables that the environment's options name, as that of a token."""
    try:
        options = validate(source.type, source.options)
    except Exception:  # building it tells
        return scoring
    named = () if options is None else [name for name in options.variables if name in os.environ]
    return scoring.model_copy(update={"env": tuple(dict.fromkeys([*scoring.env, *named]))})


def run_check(check: Check, context: CheckContext, *arguments: Any) -> list[Finding]:
    """Make one check: whatever the environment does, short of ending or blocking the process, ends in a finding."""
    before = environment.surroundings()
    try:
        check.run(context, *arguments)
    except BaseException as error:  # foreign code may raise anything, and this process is there for it
        context.find("raises", f"{check.doing}: {error_text(error)}")
    for rule, change in environment.side_effects(before, environment.surroundings()):
        context.find(rule, f"{change} ({check.doing})")
    return context.take()
