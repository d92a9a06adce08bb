"""What product code never does, whoever wrote the data: run or unpack it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("environments", "orchestrator", "policies", "store")
# Unpickling happens in processes of ours alone, of what the trainer sent them.
UNPICKLES = {"environments/scoring/worker.py", "environments/checker/tasks.py", "environments/checker/worker.py"}
RUNS_CODE = {"environments/rewards/sandbox_child.py"}  # a program that a policy wrote, in its sandbox
UNSAFE = {"marshal.loads", "shelve.open", "torch.load", "yaml.load", "yaml.unsafe_load", "os.system", "joblib.load"}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Give every call in product code: the file, the name that is called, and the call."""
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    yield str(path.relative_to(REPOSITORY)), ast.unparse(node.func), node


def test_nothing_is_unpickled_but_what_the_trainer_sent_to_its_own_processes() -> None:
    found = {file for file, name, _ in calls() if name in ("pickle.load", "pickle.loads", "pickle.Unpickler")}
    assert found <= UNPICKLES, found - UNPICKLES


def test_no_text_is_run_and_no_shell_started() -> None:
    for file, name, call in calls():
        assert name not in UNSAFE, f"{file}: {name}"
        assert name not in ("eval", "exec") or file in RUNS_CODE, f"{file}: {name}"
        for word in call.keywords:
            is_true = isinstance(word.value, ast.Constant) and word.value.value is True
            assert not (word.arg in ("shell", "allow_pickle") and is_true), f"{file}: {name}({word.arg}=True)"


def test_remote_code_runs_only_where_the_spec_says_so() -> None:
    for file, name, call in calls():
        for word in call.keywords:
            if word.arg == "trust_remote_code":
                assert ast.unparse(word.value) == "config.trust_remote_code", f"{file}: {name}"
