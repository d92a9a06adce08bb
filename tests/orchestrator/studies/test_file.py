"""A study that cannot work is refused before anything starts, in words that name key, line and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import SpecError
from orchestrator.studies.study import load_study
from tests.orchestrator.specs import alone, written

TEXT = """\
name: mine
spec: alone.yaml
seeds: [0, 1]
grid:
  objective: [rloo, repo]
  learner.lr: [1.0e-4, 3e-4]
workers: 2
compare: {metric: accuracy, baseline: repo lr=0.0003}
"""

GRID = """\
grid:
  objective: [rloo, repo]
  learner.lr: [1.0e-4, 3e-4]
"""

WRONG = {  # what is wrong: (what is replaced, by what, the message)
    "an unknown key": ("seeds:", "sedes:", "line 3: sedes: unknown key. Did you mean 'seeds'?"),
    "an unknown key of a section": (
        "baseline:",
        "basline:",
        "line 8: compare.basline: unknown key. Did you mean",
    ),
    "no seeds": ("[0, 1]", "0", "line 3: seeds: list should have at least 1 item"),
    "a seed twice": ("[0, 1]", "[1, 1]", "line 3: seeds: a seed stands there twice"),
    "a seed below 0": (
        "[0, 1]",
        "[0, -1]",
        "line 3: seeds.1: input should be greater than or equal to 0, not -1",
    ),
    "seeds in words": ("[0, 1]", "many", "line 3: seeds: input should be a valid list, not 'many'"),
    "a name that is no slug": ("mine", "My Study", "line 1: name: a study's name has lower-case letters"),
    "no workers": ("workers: 2", "workers: 0", "line 7: workers: input should be greater than or equal to 1"),
    "a spec that is not there": ("alone.yaml", "alon.yaml", "cannot read the spec "),
    "a spec that is a list": (
        "alone.yaml",
        "[1]",
        "line 2: spec: a spec file or a whole spec as a map is wanted",
    ),
    "an unknown metric": (
        "metric: accuracy",
        "metric: acuracy",
        "line 8: compare.metric: runs are compared by one of accuracy, pass_4",
    ),
    "an environment that is not there": (
        "baseline: repo lr=0.0003",
        "environments: [wrds]",
        "compare.environments: setting 'rloo lr=0.0001' has no environment 'wrds'; it has: one",
    ),
    "no environments": (
        "baseline: repo lr=0.0003",
        "environments: []",
        "line 8: compare.environments: list should have",
    ),
    "environments of a metric of stages": (
        "metric: accuracy, baseline: repo lr=0.0003",
        "metric: train_accuracy, environments: [words]",
        "compare: train_accuracy is not of single environments, so `environments` needs accuracy, pass_4",
    ),
    "an unknown label": (
        "repo lr=0.0003",
        "repo",
        "compare.baseline: there is no setting 'repo'; there are: rloo lr=",
    ),
    "a field that is not there": (
        "learner.lr:",
        "learner.lrr:",
        "line 6: learner.lrr: unknown key. Did you mean 'lr'? (setting rloo lrr=0.0001, ",
    ),
    "a value that cannot be": (
        "[1.0e-4, 3e-4]",
        "[1.0e-4, -1]",
        "line 6: learner.lr: input should be greater than or equal to 0, not -1 (setting rloo lr=-1 and repo lr=-1)",
    ),
    "a preset that is not there": ("repo]", "reppo]", "line 5: objective.preset: there is no preset `reppo`"),
    "a field of no section": ("learner.lr:", "seed.lr:", "line 6: seed.lr: no setting may change it"),
    "a seed as a setting": (
        "learner.lr",
        "seed",
        "line 6: seed: no setting may change it: `seeds` of the",
    ),
    "threads as a setting": (
        "learner.lr",
        "resources.threads",
        "line 6: resources.threads: no setting may change it",
    ),
    "no values": ("[rloo, repo]", "[]", "line 4: grid: objective has no values"),
    "a grid that is no list": (
        "[rloo, repo]",
        "rloo",
        "line 5: grid.objective: input should be a valid list",
    ),
    "two ways to vary": (
        "workers: 2",
        "list: [{}]",
        "grid and list: only one of grid, list, random says what varies",
    ),
    "the same twice": ("[rloo, repo]", "[rloo, {preset: rloo}]", "settings are called 'rloo lr=0.0001'"),
    "the same by another name": (
        GRID,
        "list: [{label: a, objective: rloo}, {label: b, objective: {preset: rloo}}]\n",
        "settings 'a' and 'b' are the same; leave one out",
    ),
    "runs of one name": (
        GRID,
        "list: [{label: a b, learner.lr: 1}, {label: a+b, learner.lr: 2}]\n",
        "settings 'a b' and 'a+b' would have runs of the same name (a-b); give one another `label`",
    ),
    "a label of two lines": (
        GRID,
        'list: [{label: "a\\nb", learner.lr: 1}]\n',
        "is no label: give its setting one line of at most 80 characters",
    ),
    "a space of two kinds": (
        GRID,
        "random: {samples: 2, space: {learner.lr: {uniform: [0, 1], choice: [1]}}}\n",
        "line 4: random.space.learner.lr: exactly one of uniform, log_uniform, integer, choice is wanted",
    ),
    "a space that is a number": (
        GRID,
        "random: {samples: 2, space: {learner.lr: 3}}\n",
        "random.space.learner.lr: a map like {uniform: [0, 1]} or {choice: [a, b]} is wanted, not 3",
    ),
    "bounds the wrong way round": (
        GRID,
        "random: {samples: 2, space: {learner.lr: {uniform: [1, 0]}}}\n",
        "uniform wants its lower bound first, not [1, 0]",
    ),
    "a logarithm of nothing": (
        GRID,
        "random: {samples: 2, space: {learner.lr: {log_uniform: [0, 1]}}}\n",
        "log_uniform wants bounds above 0, not 0",
    ),
    "a misspelt kind of space": (
        GRID,
        "random: {samples: 2, space: {learner.lr: {log_unifrom: [0.1, 1]}}}\n",
        "line 4: random.space.learner.lr.log_unifrom: unknown key. Did you mean 'log_uniform'?",
    ),
    "more draws than there are": (
        GRID,
        "random: {samples: 5, space: {step.groups: {choice: [2, 4]}}}\n",
        "random.samples: the space has only about 2 different settings, not 5",
    ),
}


def mine(folder: Path, text: str = TEXT) -> Path:
    written(folder, alone())
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("case", WRONG)
def test_a_message_names_key_line_and_remedy(tmp_path: Path, case: str) -> None:
    before, after, message = WRONG[case]
    assert before in TEXT
    with pytest.raises(SpecError) as refused:
        load_study(mine(tmp_path, TEXT.replace(before, after, 1)))
    assert message in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_the_study_that_the_messages_are_about_is_valid(tmp_path: Path) -> None:
    study = load_study(mine(tmp_path))
    assert (study.name, study.workers, len(study.runs)) == ("mine", 2, 8)


def test_a_study_is_named_after_its_file(tmp_path: Path) -> None:
    assert load_study(mine(tmp_path, TEXT.replace("name: mine\n", ""))).name == "mine"


def test_a_mistake_in_the_base_spec_names_the_base_spec(tmp_path: Path) -> None:
    path = mine(tmp_path)
    base = tmp_path / "alone.yaml"
    base.write_text(base.read_text().replace("group_size", "gruop_size"))
    with pytest.raises(SpecError, match=r"alone\.yaml, line \d+: step\.gruop_size: unknown key. Did you mean"):
        load_study(path)


def test_a_mistake_in_an_inline_spec_names_the_studys_line(tmp_path: Path) -> None:
    path = tmp_path / "inline.yaml"
    path.write_text("seeds: 2\nspec:\n  environments: {book: codebook}\n  step: {gruops: 3}\n")
    with pytest.raises(SpecError, match=r"inline\.yaml, line 4: step\.gruops: unknown key. Did you mean 'groups'"):
        load_study(path)


def test_an_inline_spec_looks_for_environments_beside_the_study(tmp_path: Path) -> None:
    path = tmp_path / "inline.yaml"
    path.write_text("seeds: 2\nspec:\n  environments: {book: codebook}\n")
    study = load_study(path)
    assert study.base.resources.search_path == str(tmp_path)
    assert (study.base.name, [setting.label for setting in study.settings]) == ("inline", ["base"])
