"""What only shows, or is only survived, where the environment has processes of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from environments import EnvironmentSource, ScoringOptions
from environments.checker import check, examine
from tests.environments.checker.here import bad
from tests.linux_processes import any_running, children_of
from tests.shares import share

QUICK = ScoringOptions(timeout_s=0.3)

# Fault: rule, and what the sentence says.
EXPECTED = {
    "hangs_when_built": ("hangs", "building: the environment does not come back within 0.5 s"),
    "exits_when_built": ("build", "bad:create raised SystemExit: no"),
    "raises_beyond_exceptions_when_built": ("build", "bad:create raised BaseException: caught by nobody"),
    "ends_the_process": (
        "ends-process",
        "making tasks: task 7 of category 'small' ends the process (exit code 7)",
    ),
    "takes_all_memory": ("build", "raised MemoryError"),
    "prints": ("prints", "it writes to the terminal (trying its sizes)"),
    "hangs_on_words": ("score-hangs", "is not scored within the limit"),
    "crashes_on_words": ("score-crashes", "ends the scoring process"),
    "takes_memory_for_words": ("score-crashes", "a very long reply takes more memory than a score may"),
    "task_by_hash": ("task-same", "made in another process, it has another conversation"),
}


@pytest.mark.parametrize("fault", share(EXPECTED, 3))
def test_whatever_it_does_ends_in_a_finding(fault, capfd):
    (rule, sentence), begun_at = EXPECTED[fault], time.monotonic()
    findings = check(bad(fault), tasks=8, scoring=QUICK, patience_s=0.5 if rule == "hangs" else 20.0)
    (found, *_) = [f for f in findings if f.rule == rule] or [None]
    assert found is not None, [str(finding) for finding in findings]
    assert sentence in found.sentence
    assert time.monotonic() - begun_at < 30
    assert capfd.readouterr().out == ""


def test_a_report_tells_what_was_counted_and_measured_and_progress_comes_in_words():
    told = []
    report = examine(bad("none"), tasks=8, progress=told.append)
    assert {"building", "trying its sizes: the size of category 'small'"} <= set(told)
    assert (report.environment, report.version, report.closed, report.errors) == ("sums", "1", False, [])
    assert [c.name for c in report.categories] == ["small", "large"]
    for category in report.categories:
        assert (category.size, category.trainable, category.num_looked_at) == (None, True, 1000)
        assert sum(category.pools.values()) == category.num_distinct
        assert 0.5 < category.pools["train"] / category.num_distinct < 0.9
    assert report.build_s is not None
    assert report.score_ms is not None


def test_options_that_cannot_be_sent_are_a_finding():
    source = EnvironmentSource("sums", bad("none").type, {"fault": lambda: None})
    (found,) = check(source)
    assert (found.rule, found.severity) == ("build", "error")
    assert "its options cannot be sent to the scoring processes" in found.sentence


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_stopped_or_killed_it_leaves_no_process(how, code):
    main = "from orchestrator.cli import main; main()"
    words = ["check-env", bad("none").type, "--set", "fault=hangs_when_built"]
    asking = subprocess.Popen([sys.executable, "-c", main, *words], cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 60
    while not (processes := children_of(asking.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    os.kill(asking.pid, how)
    assert asking.wait(30) == code
    deadline = time.monotonic() + 10
    while any_running(processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes
    assert not any_running(processes)
