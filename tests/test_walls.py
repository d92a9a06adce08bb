"""The architecture: which package may import what, and which of them stay light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.shares import share

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("orchestrator", "environments", "policies", "store")

# What the files of a folder may import beside the standard library and their own folder, anywhere in a file.
ALLOWED = {
    "environments": {
        *("numpy", "pydantic", "reasoning_gym"),
        *("jsonschema", "jsonschema_specifications", "math_verify", "datasketch"),
        *("jinja2", "pyarrow"),  # tables; pyarrow in functions
        "aiohttp",  # environments/remote alone, which only `type: http` loads
        "nltk",  # textarena, in a function
        "sklearn",  # slices by clusters, in functions
    },
    "policies": {
        *(
            "environments.plugins",
            "environments.user_code",
        ),  # how plug-ins are found: the standard library alone
        *("numpy", "pydantic", "pydantic_core", "torch", "transformers", "tokenizers", "safetensors", "peft"),
        "liger_kernel",  # in functions of policies/kernels.py
        "vllm",  # in functions of the samplers of that name
        "jinja2",  # what transformers renders chat templates with: its errors, in policies/encoder.py
        "sklearn",  # the linear probe
        "aiohttp",  # policies/samplers/serving alone, which only `sampler: vllm_server` loads
    },
    # mlflow, wandb, tensorboard, pyarrow: in functions of store/tracker and store/export only
    "store": {
        "sqlalchemy",
        "alembic",
        "jinja2",
        "markupsafe",
        *("mlflow", "wandb", "tensorboard"),
        "pyarrow",
        "numpy",
        "scipy",
        "fsspec",  # checkpoint_copies, in a function
    },
    "orchestrator/bandits": {"numpy", "pydantic"},
    "orchestrator/schedulers": {"numpy", "pydantic", "orchestrator.bandits"},
    "orchestrator/selections": {"numpy", "pydantic", "orchestrator.bandits"},
    "orchestrator/teachers": {"numpy", "pydantic", "sklearn", "orchestrator.bandits"},
}


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_package_imports_only_what_it_may(folder: str) -> None:
    own, allowed = folder.replace("/", "."), ALLOWED[folder]
    found = [
        (path.relative_to(REPOSITORY).as_posix(), name)
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for name in _imports(path)
        if name.split(".")[0] not in sys.stdlib_module_names and not _is_under(name, own)
    ]
    assert found, "the folder holds no imports: it has moved"
    assert [pair for pair in found if not any(_is_under(pair[1], one) for one in allowed)] == []


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which wall it crosses"
            yield node.module or ""


def _is_under(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_neither_modules_nor_folders_import_each_other_in_a_circle() -> None:
    """Siblings in a folder, whether modules or folders themselves: what one uses may not use it in turn."""
    files = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    modules = {_module(path): path for path in files}
    edges = {(name, used) for name, path in modules.items() for used in _used(path, modules) if used != name}
    siblings: dict[tuple[str, ...], set[tuple[str, str]]] = {}
    for name, used in edges:
        ours, theirs = name.split("."), used.split(".")
        depth = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
        if depth is not None:
            siblings.setdefault(tuple(ours[:depth]), set()).add((ours[depth], theirs[depth]))
    for folder, uses in siblings.items():
        sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
        for name, used in uses:
            sorter.add(name, used)
        try:
            sorter.prepare()
        except graphlib.CycleError as error:
            pytest.fail(f"a circle of imports in {'/'.join(folder) or 'the top level'}: {' -> '.join(error.args[1])}")


def _module(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def _used(path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """Name the modules of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in modules or node.module in modules:
                    yield name if name in modules else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)


def test_importing_the_orchestrator_loads_next_to_nothing() -> None:
    code = "import sys; before = set(sys.modules); import orchestrator; print(*(set(sys.modules) - before))"
    loaded = _python(code).split()
    assert "orchestrator" in loaded
    assert len(loaded) <= 10
    assert not [name for name in loaded if name.split(".")[0] not in {*sys.stdlib_module_names, "orchestrator"}]


WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "tokenizers", "safetensors", "mlflow"):
    sys.modules[name] = None  # importing it fails from here on

import json
import numpy as np
from orchestrator.bandits.contracts import Feedback
from orchestrator.bandits.sec import Config, create
from orchestrator.cli.app import app
from typer.testing import CliRunner

bandit = create(Config(), ["easy", "hard"], np.random.default_rng(0))
bandit.learn([Feedback(pick, float(pick.arm == "hard")) for pick in bandit.pick(8)])
assert bandit.probabilities()["hard"] > bandit.probabilities()["easy"]

for words in {commands}:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.output, result.exception)
    assert result.stdout.strip()
"""


def test_bandits_and_the_verbs_that_only_look_need_no_torch(finished: Path, tmp_path: Path) -> None:
    home = ["--home", str(finished)]
    commands = [
        ["init", str(tmp_path / "own")],
        ["init", "--list"],
        ["ls", *home],
        ["ls", "--json", *home],
        ["ls", "--html", "-o", str(tmp_path / "index.html"), *home],
        ["show", "small", *home],
        ["show", "small", "--json", *home],
        ["show", "small", "--events", *home],
        ["show", "small", "--follow", *home],
        ["show", "small", "--samples", "book", *home],
        ["report", "small", "-o", str(tmp_path / "report.html"), *home],
        ["weights", "small", str(tmp_path / "weights"), *home],
        ["rm", "flat", "--dry-run", *home],
        ["doctor", "small", *home],
        ["check-env", "codebook", "--tasks", "2"],
        ["new-env", "sums", "--dir", str(tmp_path / "sums")],
        ["play", "codebook", "--policy", "random", "--tasks", "2"],
        ["methods"],
        ["methods", "bandits", "sec"],
        ["methods", "objectives", "repo_r"],
    ]
    _python(WITHOUT_TORCH.replace("{commands}", repr(commands)))


@pytest.mark.parametrize(
    ("example", "changes"), share([("plasticity", []), ("demo", []), ("demo", ["sampler=vllm_server"])], 1)
)
def test_what_a_spec_of_a_small_policy_means_is_told_without_torch(example: str, changes: list[str]) -> None:
    code = f"""
import sys
sys.modules["torch"] = None  # importing it fails from here on
from pathlib import Path
from orchestrator.runs.dry_run import make_plan
from orchestrator.spec import load_spec
plan = make_plan(load_spec(Path("examples/{example}.yaml"), {changes}), Path("home"))
print(plan.parameters)
"""
    assert int(_python(code)) > 1000


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
