"""Programs that a policy might write, kind and unkind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from environments import EnvironmentSource, ScoringJob
from environments.rewards import Attempt, make_reward
from environments.rewards.sandbox import CHILD, SandboxLimits, SandboxRefused, holds, isolation, printed
from tests.environments.rewards.scoring import judge, worth
from tests.environments.scoring.test_scorer import scorer_of
from tests.linux_processes import everyone
from tests.shares import share

QUICK = {"type": "code_tests", "timeout_s": 1.0, "limit_s": 5.0}
PLUS_ONE = {"inputs": ["1\n", "41\n"], "outputs": ["2\n", "42\n"]}
ASSERTS = {"tests": ["assert f(1) == 2", "assert f(41) == 42"]}
LIMITS = SandboxLimits(timeout_s=1.0)


@pytest.mark.parametrize(
    ("answer", "truth", "value"),
    [
        ("print(int(input()) + 1)", PLUS_ONE, 1.0),
        ("So:\n```python\nprint(int(input()) + 1)\n```\nDone.", PLUS_ONE, 1.0),
        ("```python\nnonsense(\n```\nor\n```\nprint(int(input()) + 1)\n```", PLUS_ONE, 1.0),
        ("```python\nprint(int(input()) + 1)", PLUS_ONE, 1.0),
        ("print(2, end='   \\n\\n')", PLUS_ONE, 0.5),
        ("print(3)", PLUS_ONE, 0.0),
        ("print(int(input()) + 1); raise SystemExit(1)", PLUS_ONE, 0.0),
        ("def f(x):\n    return x + 1", ASSERTS, 1.0),
        ("def f(x):\n    return 2", ASSERTS, 0.5),
        ("def f(x):\n    return 2", {"tests": "assert f(1) == 2\nassert f(41) == 42"}, 0.0),
        ("def g(x):\n    return x + 1", ASSERTS, 0.0),
        ("this is no program", ASSERTS, 0.0),
        ("", ASSERTS, 0.0),
        (None, ASSERTS, 0.0),
        ("x = '\ud800'", ASSERTS, 0.0),
        ("\x00", ASSERTS, 0.0),
        ("print('\u00e9')", '{"inputs": [""], "outputs": ["\u00e9"]}', 1.0),
        ("print(input()); print(input())", {"inputs": [["a", "b"]], "outputs": [["a", "b"]]}, 1.0),
        ("import numpy", {"tests": ["pass"]}, 0.0),
        ("from collections import deque", {"tests": ["assert deque([1])"]}, 1.0),
    ],
)
def test_worked_cases(answer, truth, value):
    score = judge(QUICK, answer, truth)
    assert score.value == value
    assert score.correct is (value == 1.0)


def test_an_end_that_cannot_be_waited_for_is_no_good_one():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(SandboxRefused, match="SIGCHLD is ignored"):
            printed("raise SystemExit(1)", "", LIMITS)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_without_partial_all_must_pass():
    assert worth({**QUICK, "partial": False}, "print(2)", PLUS_ONE) == 0.0
    assert worth({**QUICK, "partial": False}, "print(int(input()) + 1)", PLUS_ONE) == 1.0


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (None, "found None"), ("no JSON", "found 'no JSON'"), ({}, "a list under 'inputs', found None"),
        ({"inputs": ["a"], "outputs": []}, "found 1 inputs, 0 outputs"), ({"inputs": [], "outputs": []}, "found none"),
        ({"inputs": [3], "outputs": ["3"]}, "found 3"), ({"tests": []}, "found none"), ({"tests": [3]}, "found 3"),
        ({"tests": "assert ("}, "are no Python"),
        ({"fn_name": "f", "inputs": [], "outputs": []}, "write them as asserts"),
    ],
)  # fmt: skip
def test_what_holds_no_tests_is_refused(truth, message):
    with pytest.raises(ValueError, match=message):
        make_reward("code_tests").check(truth)


UNKIND = {
    "leaving early": "import sys\nsys.exit(0)",
    "leaving at once": "import os\nos._exit(0)",
    "leaving when called": "def f(x):\n    import os\n    os._exit(0)",
    "printing results": "print('all tests passed')\nprint('loaded')\ndef f(x):\n    print('ok')",
    "catching everything": "try:\n    f = None\nexcept BaseException:\n    pass",
    "leaving a handler": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x):\n    raise SystemExit(0)",
    "replacing exit": "import builtins, sys\nbuiltins.AssertionError = None\nsys.exit = lambda *a: None",
    "reading standard input": "import sys\nassert sys.stdin.read() == ''\nf = input()",
    "endless loop": "while True:\n    pass",
    "endless sleep": "import time\ntime.sleep(1000)",
    "endless when called": "def f(x):\n    while True:\n        pass",
    "fork bomb": "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    "threads": "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(9,)).start()",
    "memory": "x = bytearray(4 * 10**9)",
    "output": "while True:\n    print('x' * 10**6)",
    "a large file": "with open('x', 'wb') as f:\n    while True:\n        f.write(bytes(10**6))",
    "killing the parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "killing everyone": "import os\nos.kill(-1, 9)",
    "killing the group": "import os\nos.killpg(0, 9)",
    "a crash": "import ctypes\nctypes.string_at(0)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x):\n    return f(f(x))",
    "a new session": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(100)\ntime.sleep(100)",
}  # fmt: skip


@pytest.mark.parametrize("name", share(UNKIND, 8))
def test_an_unkind_program_fails_its_test_and_leaves_nothing_behind(name):
    before = running()
    start = time.monotonic()
    assert worth({**QUICK, "timeout_s": 0.4}, UNKIND[name], {"tests": ["assert f(1) == 2"]}) == 0.0
    assert time.monotonic() - start < 4
    deadline = time.monotonic() + 2
    while running() - before and time.monotonic() < deadline:  # the kernel takes a moment with what it killed
        time.sleep(0.02)
    assert not running() - before


def running(child: Path = CHILD) -> set[int]:
    """Processes that come from a restricted one."""
    return {one.pid for one in everyone() if any(str(child).encode() in word for word in one.words)}


def test_an_endless_loop_is_nought_in_a_worker_too_and_not_unscorable():
    graded = EnvironmentSource("graded", "tests.environments.rewards.test_code_tests:create", {"limit_s": 0.5})
    task = graded.create().task("all", 0)
    with scorer_of(graded, timeout_s=30) as scorer:
        endless, right = scorer.turns(
            [ScoringJob(task, ("while True: pass",)), ScoringJob(task, ("f = lambda x: x + 1",))]
        )
    assert (endless.score.value, endless.score.reason) == (0.0, None)
    assert right.score.value == 1.0


def create(name, limit_s):
    """An environment of one task, with asserts."""
    from tests.environments.rewards.graders import Graded

    class Programs(Graded):
        def task(self, category, index):
            task = super().task(category, index)
            return type(task)(name, category, index, task.messages, data={"truth": ASSERTS})

    return Programs(name, {"type": "code_tests", "limit_s": limit_s})


def test_all_tests_together_have_a_limit_that_the_reward_says():
    reward = make_reward({**QUICK, "limit_s": 0.8})
    assert reward.seconds >= 0.8
    assert not reward.in_process
    start = time.monotonic()
    sleepy = Attempt("", "import time\ntime.sleep(0.35)", {"tests": ["pass"] * 20})
    score = reward.score(sleepy)
    assert time.monotonic() - start < reward.seconds
    assert score.value is not None
    assert 0 < score.value < 0.2


@pytest.fixture
def slow_to_start(monkeypatch, tmp_path):
    copy = tmp_path / "child.py"
    copy.write_text(CHILD.read_text().replace("os.umask(0o022)", "time.sleep(0.3)"))
    assert copy.read_text() != CHILD.read_text()
    monkeypatch.setattr("environments.rewards.sandbox.CHILD", copy)


THREE = {"inputs": ["1\n", "2\n", "3\n"], "outputs": ["2\n", "3\n", "4\n"]}


def test_starting_a_process_is_not_the_programs_time(slow_to_start):
    assert worth({**QUICK, "limit_s": 0.6}, "print(int(input()) + 1)", THREE) == 1.0


def test_where_starting_takes_all_time_an_answer_is_unscorable_and_not_wrong(slow_to_start, monkeypatch):
    monkeypatch.setattr("environments.rewards.code_tests.START_S", 0.0)
    score = judge({**QUICK, "limit_s": 0.6}, "print(int(input()) + 1)", THREE)
    assert score.value is None
    assert "of 3 tests were done in 0.6 s, starts of processes among them: raise `limit_s`" in score.reason


def test_a_program_sees_an_empty_folder_and_no_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_OF_A_TEST", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = "import os, sys\nprint(os.listdir(), 'SECRET_OF_A_TEST' in os.environ, sys.argv)\nopen('mine', 'w')"
    assert printed(code, "", LIMITS) == "[] False ['answer.py']\n"
    assert not any(path.is_dir() for path in tmp_path.iterdir()), "the folder is removed"


def test_what_goes_in_and_what_comes_out():
    assert printed("print(input()[::-1])", "abc", LIMITS) == "cba\n"
    assert printed("import sys\nsys.exit()", "", LIMITS) == ""
    assert printed("print('x' * 2**20)", "", LIMITS) is None
    assert printed("print(1 / 0)", "", LIMITS) is None
    assert printed("print(__name__)", "", LIMITS) == "__main__\n"
    assert printed("if __name__ == '__main__':\n    print(1)", "", LIMITS) == "1\n"
    assert printed("import threading\nthreading.Timer(.1, print, ['late']).start()", "", LIMITS) == "late\n"
    assert holds("import random\nrandom.seed(0)", "assert random.random() < 1", LIMITS)


ATTEMPT = """
import os, socket
def attempt(what, *args):
    try:
        what(*args)
        print("done")
    except OSError as error:
        print(type(error).__name__)
"""
needs_namespaces = pytest.mark.skipif(
    sys.platform != "linux" or isolation() != "isolated", reason="this kernel allows no user namespaces"
)


@needs_namespaces
def test_where_the_kernel_allows_it_files_network_and_processes_are_out_of_reach(tmp_path):
    tmp_path.chmod(0o777)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    code = (
        ATTEMPT
        + f"""
attempt(open, {str(tmp_path / "x")!r}, "w")
attempt(os.kill, {other.pid}, 9)
attempt(os.kill, {os.getpid()}, 0)
attempt(socket.create_connection, ("127.0.0.1", 9), 1)
attempt(os.rmdir, {str(tmp_path)!r})
attempt(open, "mine", "w")
"""
    )
    try:
        told = printed(code, "", LIMITS)
        assert told is not None
        *refused, mine = told.split()
        assert "done" not in refused
        assert mine == "done"
        assert tmp_path.exists()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@needs_namespaces
def test_rights_in_the_namespace_are_given_up():
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.mount(None, b"/", None, 32 | 4096, None), libc.unshare(0x20000), os.getuid() != 0)
"""
    assert printed(code, "", LIMITS) == "-1 -1 True\n"


@needs_namespaces
def test_sockets_pipes_and_terminals_where_these_usually_lie_are_out_of_reach():
    """A read-only file system alone lets a program write to them."""
    controlling, terminal = os.openpty()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as server:
        path, pipe = str(Path(folder, "socket")), str(Path(folder, "pipe"))
        server.bind(path)
        server.listen(1)
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        for name in (folder, path, pipe, os.ttyname(terminal)):
            Path(name).chmod(0o777)
        code = (
            ATTEMPT
            + f"""
attempt(socket.socket(socket.AF_UNIX).connect, {path!r})
attempt(open, {pipe!r}, "w")
attempt(open, {os.ttyname(terminal)!r}, "w")
print(open("/dev/null", "w").write("x"), len(open("/dev/urandom", "rb").read(2)))
"""
        )
        told = printed(code, "", LIMITS)
    for handle in (reader, controlling, terminal):
        os.close(handle)
    assert told is not None
    assert told.splitlines() == ["FileNotFoundError"] * 3 + ["1 2"]


def test_under_root_a_program_is_another_user_wherever_root_has_its_python():
    if os.geteuid() != 0 or isolation() != "isolated":
        pytest.skip("needs root and a kernel that allows namespaces")
    code = """
import collections, os, time
started = 0
while started < 60:
    try:
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)
    except OSError:
        break
    started += 1
print(*open('/proc/self/uid_map').read().split()[:2], started < 40)
"""
    assert printed(code, "", SandboxLimits(timeout_s=5.0)) == "65534 65534 True\n"


@needs_namespaces
def test_what_is_still_root_is_not_called_isolated(monkeypatch, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    copy = tmp_path / "child.py"
    copy.write_text(CHILD.read_text().replace("is_readable_by_all(os.__file__)", "False"))
    monkeypatch.setattr("environments.rewards.sandbox.CHILD", copy)
    assert isolation() == "limited"
    assert printed("print(1)", "", LIMITS) == "1\n"


@pytest.fixture
def limited(monkeypatch):
    """The script as it goes on where the kernel refuses namespaces, in a folder that everybody may read."""
    copy = CHILD.read_text().replace("libc.unshare(", "(lambda flags: -1)(")
    assert copy != CHILD.read_text()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "child.py")
        path.write_text(copy)
        Path(folder).chmod(0o755)
        monkeypatch.setattr("environments.rewards.sandbox.CHILD", path)
        yield path


def test_without_namespaces_the_limits_still_hold(limited):
    assert isolation() == "limited"
    assert printed("print(int(input()) + 1)", "41", LIMITS) == "42\n"
    assert printed("import os\nprint(hasattr(os, 'kill'))", "", LIMITS) == "False\n"
    for name in ("leaving early", "endless loop", "memory", "killing everyone", "fork bomb"):
        assert not holds(UNKIND[name], "assert f(1) == 2", SandboxLimits(timeout_s=0.4))


LEAVING = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
    time.sleep(100)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody is told of a grandchild that left the group")
@pytest.mark.parametrize("then", ["print(1)", "time.sleep(100)"])
def test_without_namespaces_a_program_in_a_new_session_ends_with_its_test(limited, then):
    printed(LEAVING + then, "", SandboxLimits(timeout_s=0.4))
    deadline = time.monotonic() + 2
    while running(limited) and time.monotonic() < deadline:  # the kernel takes a moment with what it killed
        time.sleep(0.02)
    assert not running(limited)


MANY_THREADS = """
import os, sys, threading, time
os.setgid(54321)
os.setuid(54321)
for _ in range(50):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print(flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/usr/bin/python3").exists(), reason="another user")
def test_without_namespaces_the_users_other_threads_are_not_the_programs(limited, monkeypatch):
    monkeypatch.setattr("environments.rewards.sandbox.sys.executable", "/usr/bin/python3")  # for every user
    text = limited.read_text()
    text = text.replace("NOBODY = 65534", "NOBODY = 54321")
    limited.write_text(text)
    other = subprocess.Popen([sys.executable, "-c", MANY_THREADS], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline()
        code = "import os, threading\nthreading.Thread(target=print, args=[os.getuid()]).start()"
        assert printed(code, "", LIMITS) == "54321\n"
        assert not holds(UNKIND["fork bomb"], "assert f(1) == 2", SandboxLimits(timeout_s=0.4))
    finally:
        other.kill()
        other.wait()
