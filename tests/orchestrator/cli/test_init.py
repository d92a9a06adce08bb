"""What `init` writes is a curriculum that runs; nothing is overwritten; every example goes with all that it needs."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from orchestrator import example_files
from orchestrator.example_files import MODELINE, Example, copy, examples
from orchestrator.spec import load_spec
from orchestrator.studies.study import load_study
from tests.conftest import Evergreen
from tests.orchestrator.specs import REPOSITORY

BEGINNING = {"spec.yaml", "clock.jsonl", "dates.jsonl", "environment.py", "rewards.py"}
SHORT = [  # the same spec, of a few steps; its reward is called in this process
    *("warm_start.environments={clock: {batches: 2}, dates: {batches: 2}, largest: {batches: 2}}", "step.groups=2"),
    *("curriculum.stages=2", "curriculum.stage.steps=2", "evaluate.items=2", "scoring.isolation=none"),
]


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_it_writes_goes_through_every_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evergreen: Evergreen
) -> None:
    monkeypatch.chdir(tmp_path)
    result = evergreen("init")
    assert result.exit_code == 0, result.stderr
    assert names(tmp_path / "my-curriculum") == BEGINNING
    spec = "my-curriculum/spec.yaml"
    for command in (f"evergreen validate {spec}", f"evergreen run {spec}", "evergreen show first"):
        assert command in result.stdout
    changes = [word for change in SHORT for word in ("--set", change)]
    plan = json.loads(evergreen("validate", spec, "--json").stdout)["plan"]
    assert (plan["left_out"], plan["warnings"]) == ([], [])
    assert evergreen("run", spec, *changes, "--until-step", 3).exit_code == 75
    assert evergreen("resume", "first").exit_code == 0
    assert evergreen("report", "first").exit_code == 0
    told = json.loads(evergreen("show", "first", "--json").stdout)
    assert (told["status"], told["num_steps"], told["unscorable"]) == ("finished", 4, [])
    assert list(told["environments"]) == ["clock", "dates", "largest"]


@pytest.mark.slow
def test_the_checker_finds_nothing_wrong_and_training_teaches_it_something(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    """A minute: with the values that it is shipped with."""
    spec, home = tmp_path / "own" / "spec.yaml", tmp_path / "runs"
    evergreen("init", spec.parent)
    checked = evergreen("check-env", spec)
    assert checked.exit_code == 0, checked.stdout
    assert "error" not in checked.stdout.replace("no error", "").replace("0 errors", "")
    assert evergreen("run", spec, "--home", home).exit_code == 0
    told = json.loads(evergreen("show", "first", "--json", "--home", home).stdout)["environments"]
    changes = {name: of["accuracy_change"] for name, of in told.items()}
    assert sum(changes.values()) > 0.15, changes


@pytest.mark.parametrize("there", ["spec.yaml", "rewards.py"])
def test_a_file_that_is_there_is_named_and_nothing_is_written(tmp_path: Path, evergreen: Evergreen, there: str) -> None:
    (tmp_path / there).write_text("mine")
    result = evergreen("init", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{tmp_path / there} is there already, and nothing was written: name another folder" in result.stderr
    assert names(tmp_path) == {there}
    assert (tmp_path / there).read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path, evergreen: Evergreen) -> None:
    (tmp_path / "own").write_text("mine")
    result = evergreen("init", tmp_path / "own")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{tmp_path / 'own'} is a file: name a folder" in result.stderr
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    for folder, why in (
        (tmp_path / "own" / "below", "own is a file"),
        (tmp_path / "lost", "lost is a link that leads"),
    ):
        result = evergreen("init", folder)
        assert result.exit_code == 2
        assert why in result.stderr


def test_a_command_for_a_folder_with_a_space_can_be_pasted(tmp_path: Path, evergreen: Evergreen) -> None:
    folder = tmp_path / "my folder"
    assert f"evergreen run '{folder / 'spec.yaml'}'" in evergreen("init", folder).stdout


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("demo", {"demo.yaml"}),
        ("qwen", {"qwen.yaml"}),  # its dataset `countdown` is no folder of ours
        ("curricula_coin", {"curricula_coin.yaml", "coin.py"}),
        ("study_curricula_coin", {"study_curricula_coin.yaml", "curricula_coin.yaml", "coin.py"}),
        (
            "countdown_tiny",
            {"countdown_tiny.yaml", *(f"countdown/{n}" for n in ("NOTICE.md", *("test.parquet", "train.parquet")))},
        ),
        (
            "everything",  # its server is named by its comment alone
            {"everything.yaml", "env_server.py", "lake.py", *(f"starter/{n}" for n in BEGINNING)},
        ),
    ],
)
def test_an_example_brings_the_files_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evergreen: Evergreen, name: str, files: set[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = evergreen("init", "--example", name)
    assert result.exit_code == 0, result.stderr
    assert names(tmp_path / name) == files
    verb = "study" if name.startswith("study_") else "run"
    assert f"evergreen {verb} {name}/{name}.yaml" in result.stdout


@pytest.mark.parametrize("name", examples())
def test_every_example_is_whole_where_it_lands(tmp_path: Path, name: str) -> None:
    example = examples()[name]
    copy(example, tmp_path)
    path = tmp_path / example.spec.name
    loaded = load_study(path) if example.is_study else load_spec(path)
    assert loaded.name == example.run_name


def test_the_list_has_a_sentence_for_every_example(evergreen: Evergreen) -> None:
    listed = evergreen("init", "--list").stdout
    for name, example in examples().items():
        assert name in listed
        assert 20 < len(example.summary) < 250, name
    assert "examples" not in examples()


def test_the_list_is_not_for_a_folder(tmp_path: Path, evergreen: Evergreen) -> None:
    for words in ((tmp_path / "own",), ("--example", "demo")):
        refused = evergreen("init", "--list", *words)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "--list writes nothing" in refused.stderr


def test_an_unknown_example_is_answered_with_those_there_are(tmp_path: Path, evergreen: Evergreen) -> None:
    result = evergreen("init", tmp_path / "own", "--example", "dem")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no example 'dem'. Did you mean 'demo'" in result.stderr
    assert "  countdown_tiny        The rows of countdown.yaml with a policy made on" in result.stderr
    assert max(map(len, result.stderr.splitlines())) < 80
    assert not (tmp_path / "own").exists()


def test_commands_in_the_comment_of_a_copy_are_for_its_folder(tmp_path: Path) -> None:
    copy(examples()["everything"], tmp_path)
    text = (tmp_path / "everything.yaml").read_text()
    assert "    python env_server.py 8400\n" in text
    assert "    evergreen run everything.yaml\n" in text


def test_a_copy_names_no_schema_by_its_place_in_a_clone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "spec.yaml").write_text(f"{MODELINE} $schema=../docs/spec.schema.json\n# A thing. More.\nname: x\n")
    example = Example("x", source / "spec.yaml", False)
    assert example.summary == "A thing."
    copy(example, tmp_path / "copy")
    assert (tmp_path / "copy" / "spec.yaml").read_text() == "# A thing. More.\nname: x\n"


def test_packages_take_every_kind_of_file_that_examples_have() -> None:
    told = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    kinds = {pattern.removeprefix("**/*") for pattern in told["orchestrator.examples"]}
    files = [path for path in example_files.shipped().rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert [path.name for path in files if path.suffix not in kinds] == []


def test_without_examples_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evergreen: Evergreen) -> None:
    monkeypatch.setattr(example_files, "PLACES", (tmp_path,))
    assert "without the examples" in evergreen("init", "--list").stderr


def test_where_no_folder_can_be_made_that_is_told(evergreen: Evergreen) -> None:
    for words in (["init", "/proc/x"], ["new-env", "y", "--dir", "/proc/x"]):
        result = evergreen(*words)
        assert (result.exit_code, "Traceback" in result.stderr) == (2, False)
        assert "/proc/x cannot be made (No such file or directory): name another folder" in result.stderr
