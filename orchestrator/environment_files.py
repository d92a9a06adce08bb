"""An environment to begin with, written as files: the environment of a shipped example under a new name, with a test
and a spec to train on it.
"""

from __future__ import annotations

import keyword
import re
import sys
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml

from orchestrator.errors import UserError
from orchestrator.example_files import MODELINE, STARTER, shipped, write_new

NAME = re.compile(r"[a-z][a-z0-9_]*")  # a module of Python that is an environment's name in a spec too
OURS = ("environments", "orchestrator", "policies", "store")

SPEC = """\
# Trains on {name}.py beside this file, with a small language model made on the spot; docs/spec.md has every field.
name: {name}
policy: {{model: tiny, layers: 2, hidden: 64, mlp: 128}}   # yours: {{model: /path/to/model}}, and no `warm_start`
warm_start:                     # a model that knows nothing is never right, and learns nothing
  environments: {{{name}: {{batches: 80}}}}
environments:
  {name}: {{type: "./{name}.py:create", counts: [2, 3, 4]}}   # yours: whatever `create` takes
curriculum:
  stages: 2
  bandit: headroom              # which category; docs/choosing.md
  stage: {{steps: 40}}
step: {{groups: 16, group_size: 8}}
objective: repo_adaptive
learner: {{lr: 3.0e-4}}
evaluate: {{items: 32, samples: 4}}
tracker: none                   # or leave this line out: MLflow's record, which `evergreen ui` opens
"""

TEST = '''\
"""The environment keeps its contract, and pays for right answers alone. `pytest` in this folder runs it."""

from __future__ import annotations

from pathlib import Path

from environments import EnvironmentSource
from environments.checker import check

MOST_TURNS = {turns}
SOURCE = EnvironmentSource("{name}", "./{name}.py:create", {options}, str(Path(__file__).parent))


def test_the_checker_finds_no_errors() -> None:
    findings = check(SOURCE, tasks=8)
    assert [str(finding) for finding in findings if finding.severity == "error"] == []


def test_a_right_answer_earns_1_and_a_wrong_one_0() -> None:
    environment = SOURCE.create()
    for category in environment.categories:
        task = environment.task(category.name, 0)
        assert task.answer is not None
        right = environment.start(task).step(task.answer)
        assert right.done
        assert right.score is not None
        assert right.score.value == 1
        episode = environment.start(task)
        wrong = [episode.step("neither") for _ in range(MOST_TURNS)][-1]
        assert wrong.score is not None
        assert wrong.score.value == 0
'''


@dataclass(frozen=True)
class Origin:
    """The shipped files that a new environment is made of."""

    module: str  # below the examples
    spec: str | None  # the same; None: `SPEC`
    renamed: tuple[tuple[str, str], ...]  # what of them carries a name, and how it is written anew
    options: str  # of the factory, as the spec has them
    turns: int  # of an episode, at most


ONE_TURN = Origin(f"{STARTER}/environment.py", None, (("./environment.py", "./{name}.py"),), '{"counts": [2, 3, 4]}', 1)
MANY_TURNS = Origin(
    "guess.py",
    "guess.yaml",
    (
        ('guess: {type: "guess:create"', '{name}: {type: "./{name}.py:create"'),
        ("name: guess", "name: {name}"),
        ("guess: {batches", "{name}: {batches"),
        ("guess.yaml", "{name}.yaml"),
        ("guess.py", "{name}.py"),
    ),
    '{"numbers": [3, 4, 5], "tries": 2}',
    2,
)


def write_environment(name: str, folder: Path, many_turns: bool = False) -> list[Path]:
    """Write NAME.py, its test and NAME.yaml into a folder, made if need be; nothing is overwritten.

    Raises UserError where the name can be no module and no environment or hides another, or a file is there.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UserError(
            f"{name!r} cannot name both a Python file and an environment of a spec: take lower-case letters, digits "
            "and underscores, a letter first, and no word of Python's"
        )
    if (read := yaml.safe_load(name)) != name:
        raise UserError(f"{name!r} is no text in a spec, where YAML reads it as {read}: take another name")
    if name in OURS:
        raise UserError(f"{name!r} is a package of Evergreen's: take another name")
    if name in sys.stdlib_module_names or name in packages_distributions():
        raise UserError(f"{name}.py would hide the module {name!r} that is installed: take another name")
    origin = MANY_TURNS if many_turns else ONE_TURN
    spec = SPEC.format(name=name) if origin.spec is None else _renamed(origin.spec, origin, name)
    return write_new(
        folder,
        {
            f"{name}.py": _renamed(origin.module, origin, name),
            f"test_{name}.py": TEST.format(name=name, options=origin.options, turns=origin.turns),
            f"{name}.yaml": spec,
        },
    )


def _renamed(file: str, origin: Origin, name: str) -> str:
    lines = (shipped() / file).read_text("utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith(MODELINE))
    for old, new in origin.renamed:
        text = text.replace(old, new.replace("{name}", name))
    return text
