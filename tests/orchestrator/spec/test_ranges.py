"""What `run` could not use is refused by `validate`: ranges, names, URLs, and factories that are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec import load_spec
from tests.conftest import Evergreen
from tests.orchestrator.specs import alone, written


@pytest.mark.parametrize(
    "override",
    [
        "learner.betas=[-1, 1]",
        "learner.betas=[.9, 1]",
        "learner.betas=[.9]",
        "learner.lr=nan",
        "learner.lr=1e999",
        "learner.lr=-1",
        "learner.lr=100",
        "learner.weight_decay=inf",
        "learner.clip_norm=.inf",
        "learner.warmup=-1",
        "warm_start={environments: [one], betas: [2, 0]}",
        "warm_start={environments: [one], lr: 0}",
        "sampler.temperature=nan",
        "sampler.temperature=0",
        "curriculum.bandit={type: sec, temperature: nan}",
        "curriculum.bandit={type: thompson, prior_mean: inf}",
        "curriculum.bandit={type: headroom, sure: 1.0e+308}",
        "curriculum.scheduler={type: headroom, sure: 1.0e+308}",
        "curriculum.bandit={type: e2h, sigma: 1.0e+308}",
        "curriculum.bandit={type: e2h, sigma: 1.0e-320}",
        "curriculum.scheduler={type: gaussian_thompson, prior_mean: '-inf'}",
        "curriculum.selection={type: boltzmann, start: nan}",
        "curriculum.stage={steps: 90, stop: {type: mastery, target: nan}}",
        "objective={preset: repo_r, strength: nan}",
        "objective={preset: repo_r, controller: {type: geometric, target: inf}}",
        "checkpoint.every_minutes=.inf",
        "scoring.memory_gib=1e308",
        "scoring.timeout_s=nan",
        "resources.threads=9999999999",
        "resources.replicas=0",
        "step.groups=999999999999",
        "curriculum.stages=2147483648",
        f"policy.model={'a' * 4000}",
        "policy.layers=99999999",
        "seed=1180591620717411303424",
        "seed=-1",
        f"name={'a' * 300}",
        "name=studies",
        f"environments.{'a' * 300}=codebook",
    ],
)
def test_a_value_that_no_run_can_use_is_refused_with_its_key(override: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec(alone(), [override])
    key = override.partition("=")[0].rpartition(".")[2]
    assert key[:30] in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (":", "is not the URL of a database"),
        ("runs/evergreen.db", "is not the URL of a database"),
        ("nosuch://host/base", "No kind of database is called 'nosuch'"),
        ("postgresql+nosuch://host/base", "No kind of database is called 'postgresql+nosuch'"),
        ("postgresql://host:port/base", "is not the URL of a database"),
        ("sqlite://", "A ledger in memory ends with its process"),
        ("sqlite:///:memory:", "A ledger in memory ends with its process"),
    ],
)
def test_a_ledger_that_is_none_is_refused(url: str, message: str) -> None:
    with pytest.raises(SpecError, match=r"ledger\.url") as refused:
        load_spec(alone() | {"ledger": {"url": url}})
    assert message in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite:///x.db", "postgresql://u@h/d", "postgresql+psycopg://u@h/d", "mysql://h/d"])
def test_a_ledger_of_another_host_is_taken(url: str) -> None:
    assert load_spec(alone() | {"ledger": {"url": url}}).ledger.url == url


LONG = "x" * 300  # more than a file system takes


@pytest.mark.parametrize(
    "words",
    [
        ["ls", "--home", LONG],
        ["check-env", LONG],
        ["check-env", f"./{LONG}.py:create"],
        ["init", LONG],
        ["validate", "SPEC", "--home", LONG],
        ["validate", "SPEC", "--set", f"policy=./{LONG}"],
    ],
)
def test_a_name_too_long_for_a_file_is_said_to_be(tmp_path: Path, evergreen: Evergreen, words: list[str]) -> None:
    spec = written(tmp_path, alone())
    result = evergreen(*(str(spec) if word == "SPEC" else word for word in words))
    assert result.exit_code == 2
    assert "too long" in result.stderr or "does not exist" in result.stderr
    assert len(result.stderr) < 2000


def test_a_name_too_long_for_a_folder_is_the_hub_s() -> None:
    assert load_spec(alone(), [f"policy={LONG}"]).policy.kind == "hub"


PLACES = {
    "curriculum.bandit": "curriculum.bandit",
    "curriculum.scheduler": "curriculum.scheduler",
    "curriculum.selection": "curriculum.selection",
    "curriculum.teacher": "curriculum.teacher",
    "curriculum.stage": "curriculum.stage.stop",
    "sampler": "sampler",
    "environments.one": "environments.one",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["os:abort", "antigravity:fly", "a:b:c", "a b:c", "a:"])
def test_what_can_be_no_factory_is_refused_before_it_is_imported(
    tmp_path: Path, evergreen: Evergreen, place: str, name: str
) -> None:
    value = f"{{steps: 90, stop: '{name}'}}" if place == "curriculum.stage" else f"'{name}'"
    result = evergreen("validate", written(tmp_path, alone()), "--set", f"{place}={value}", "--home", tmp_path)
    assert result.exit_code == 2
    assert PLACES[place] in result.stderr
    assert "is part of Python itself" in result.stderr or "is not written as package.module:f" in result.stderr


OWN = """
import pathlib
from orchestrator.bandits import Bandit
from orchestrator.selections.contracts import Selection

def touch(**anything):
    pathlib.Path("CALLED").touch()
    return 3

def quits(**anything):
    raise SystemExit("enough")

def breaks(**anything):
    return {}["no"]

def shy(x):
    pathlib.Path("CALLED").touch()

class Other:
    def __init__(self, **anything):
        pathlib.Path("CALLED").touch()

open_ = open
number = 3
"""


@pytest.mark.parametrize(
    ("place", "name", "message"),
    [
        ("curriculum.bandit", "shy", "cannot be called as shy(arms=..., rng=..., **options)"),
        (
            "curriculum.selection",
            "shy",
            "cannot be called as shy(num_tasks=..., rng=..., numbers=..., **options)",
        ),
        ("curriculum.bandit", "Other", "it is a class that is no orchestrator.bandits.contracts.Bandit"),
        (
            "curriculum.selection",
            "Bandit",
            "it is a class that is no orchestrator.selections.contracts.Selection",
        ),
        ("curriculum.selection", "open_", "it is no function of a module of yours"),
        ("curriculum.selection", "number", "it is no function of a module of yours, but a int"),
        ("curriculum.selection", "quits", "raised SystemExit: enough, in own_methods.py:11"),
        ("curriculum.selection", "breaks", "raised KeyError: 'no', in own_methods.py:14"),
        ("curriculum.selection", "gone", "has no attribute 'gone'"),
        ("sampler", "shy", "cannot be called as shy(policy=..., **options)"),
        ("sampler", "Other", "it is a class that is no policies.samplers.contracts.Sampler"),
        ("environments.one", "Other", "it is a class that is no environments.contracts.Environment"),
        ("environments.one", "quits", "cannot take the options"),
    ],
)
def test_a_function_of_another_kind_is_refused_and_not_called(
    tmp_path: Path, evergreen: Evergreen, place: str, name: str, message: str
) -> None:
    called = tmp_path / "called"
    (tmp_path / "own_methods.py").write_text(OWN.replace("CALLED", str(called)))
    spec = alone()
    spec["resources"]["search_path"] = str(tmp_path)
    words = ("validate", written(tmp_path, spec), "--set", f"{place}=own_methods:{name}", "--home", tmp_path)
    result = evergreen(*words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not called.exists()


def test_what_a_factory_makes_is_looked_at(tmp_path: Path, evergreen: Evergreen) -> None:
    (tmp_path / "own_made.py").write_text(OWN.replace("CALLED", os.devnull))
    spec = alone()
    spec["resources"]["search_path"] = str(tmp_path)
    words = (
        "validate",
        written(tmp_path, spec),
        "--set",
        "curriculum.selection=own_made:touch",
        "--home",
        tmp_path,
    )
    result = evergreen(*words)
    assert result.exit_code == 2
    assert (
        "own_made:touch makes a int, not a selection: see `orchestrator.selections.contracts.Selection`"
        in result.stderr
    )


def test_a_module_that_ends_the_process_as_it_is_imported_is_told(tmp_path: Path, evergreen: Evergreen) -> None:
    (tmp_path / "own_script.py").write_text("import sys\nsys.exit(3)\n")
    spec = alone()
    spec["resources"]["search_path"] = str(tmp_path)
    for place in ("environments.one", "curriculum.bandit"):
        words = (
            "validate",
            written(tmp_path, spec),
            "--set",
            f"{place}=own_script:create",
            "--home",
            tmp_path,
        )
        result = evergreen(*words)
        assert result.exit_code == 2
        assert "'own_script' cannot be imported: SystemExit: 3, in own_script.py:2" in result.stderr
