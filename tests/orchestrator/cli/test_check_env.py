from __future__ import annotations

import json
from pathlib import Path

import pytest

from environments.checker import CheckReport
from environments.checker.findings import CategoryFacts
from orchestrator.cli.check_env import print_report
from tests.conftest import Evergreen
from tests.orchestrator.specs import REPOSITORY, small, written
from tests.shares import share

BAD = "tests.environments.checker.bad:create"


def two(folder: Path, **faults: str) -> Path:
    """Write a spec of environments with these faults."""
    environments = {name: {"type": BAD, "fault": fault} for name, fault in faults.items()}
    return written(folder, small("two", warm_start=None, environments=environments))


def test_every_environment_of_a_spec_is_checked(tmp_path: Path, evergreen: Evergreen) -> None:
    result = evergreen("check-env", two(tmp_path, right="none", wrong="empty_is_right"), "--tasks", 4)
    assert result.exit_code == 2
    assert "right: nothing found" in result.stdout
    assert "error   category 'small', task 0: an empty reply scores 1 and is correct" in result.stdout
    assert "; the same holds for large" in result.stdout
    assert "score an empty reply as wrong" in result.stdout
    assert "wrong: 1 error\n" in result.stdout, "as many as are printed"


def test_what_there_was_no_time_for_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    facts = CategoryFacts("small", True, None, num_replies=80, num_tried=3), CategoryFacts("large", True, None)
    print_report(CheckReport("mine", BAD, categories=facts))
    told = capsys.readouterr().out
    assert "not all replies could be tried in the time there was: small 3 of 80\n" in told
    assert "mine: nothing found in what was tried" in told


def test_one_environment_of_a_spec_is_checked_alone(tmp_path: Path, evergreen: Evergreen) -> None:
    spec = two(tmp_path, right="none", wrong="empty_is_right")
    result = evergreen("check-env", spec, "right", "--tasks", 4, "--json")
    assert result.exit_code == 0
    (report,) = json.loads(result.stdout)
    assert (report["environment"], report["type"], report["version"]) == ("right", BAD, "1")
    assert [category["name"] for category in report["categories"]] == ["small", "large"]
    assert report["findings"] == []


def test_the_same_findings_come_as_json(evergreen: Evergreen) -> None:
    result = evergreen("check-env", BAD, "--set", "fault=size_zero", "--json")
    assert result.exit_code == 2
    (report,) = json.loads(result.stdout)
    finding = report["findings"][0]
    assert (finding["severity"], finding["rule"], finding["category"]) == ("error", "size", "small")
    assert finding["sentence"] == "its size must be None or a whole number of at least 1, found 0"
    assert finding["remedy"]


@pytest.mark.parametrize(
    ("returned", "said"), share([("5.0", "float above 1"), ("None", "None"), ("'1'", "str, not a number")], 1)
)
def test_a_reward_that_can_never_be_scored_is_an_error(
    tmp_path: Path, evergreen: Evergreen, returned: str, said: str
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"prompt": "{i}?", "answer": "{i}"}}\n' for i in range(200)))
    (tmp_path / "rewards.py").write_text(f"def judge(attempt): return {returned}\n")
    rows = {"type": "rows", "train": str(tmp_path / "rows.jsonl"), "reward": f"{tmp_path}/rewards.py:judge"}
    result = evergreen("check-env", written(tmp_path, small("own", warm_start=None, environments={"own": rows})))
    assert result.exit_code == 2
    assert f"bad value: {said}; a value lies in 0..1, or say `scale: [low, high]`" in " ".join(result.stdout.split())
    assert "- ms a score" not in result.stdout


def test_a_spec_that_names_a_file_without_its_function_is_told_so(tmp_path: Path, evergreen: Evergreen) -> None:
    spec = written(tmp_path, small("two", warm_start=None, environments={"mine": {"type": "./mine.py"}}))
    result = evergreen("check-env", spec)
    assert result.exit_code == 2
    assert "'./mine.py' names a file, and no function in it: write ./mine.py:create" in result.stderr


def test_a_factory_is_looked_for_in_the_current_folder(evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY / "examples")
    result = evergreen("check-env", "custom_environment:create", "--set", "lengths=[3, 4]", "--tasks", 4)
    assert result.exit_code == 0
    assert "custom_environment: nothing found" in result.stdout


def test_what_an_environment_writes_is_never_markup(evergreen: Evergreen) -> None:
    result = evergreen("check-env", BAD, "--set", "fault=prints", "--tasks", 2)
    assert result.exit_code == 0
    assert "'\\x1b[2Jlook at me" in result.stdout
    assert "\x1b[2J" not in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.yaml"], "cannot read the spec nowhere.yaml"),
        (["./mine.py"], "'./mine.py' names a file, and no function in it: write ./mine.py:create"),
        (["mine.py"], "'mine.py' names a file, and no function in it: write ./mine.py:create"),
        (["codebook", "book"], "'book': an environment is named after a spec; codebook is one environment"),
        (["codebook", "--set", "keys"], "--set wants key=value"),
        (["codebook", "--set", "keys=[1"], "the value is not valid YAML"),
        (
            [str(REPOSITORY / "examples" / "demo.yaml"), "gren"],
            "has no environment 'gren'; it has: red, green, blue, white, divisors. Did you mean 'green'?",
        ),
    ],
)
def test_what_cannot_be_checked_is_told(evergreen: Evergreen, words: list[str], message: str) -> None:
    result = evergreen("check-env", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["no_such_module:create"],
            "it cannot be built: environment type 'no_such_module:create': no module",
        ),
        (["mine.py:create"], "'mine.py:create' names a file without its folder: write ./mine.py:create"),
        (["codebook", "--set", "keyz=3"], "it cannot be built: keyz: there is no such option"),
    ],
)
def test_what_cannot_be_built_is_a_finding(evergreen: Evergreen, words: list[str], sentence: str) -> None:
    result = evergreen("check-env", *words)
    assert result.exit_code == 2
    assert sentence in result.stdout


def test_a_budget_that_the_spec_gives_an_environment_is_checked_too(tmp_path: Path, evergreen: Evergreen) -> None:
    rows = [json.dumps({"question": f"{number}?", "answer": str(number) * 10}) for number in range(10, 60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    one = {"type": "rows", "train": str(tmp_path / "rows.jsonl"), "reward": "exact"}
    one |= {"prompt": "question", "truth": "answer", "episodes": {"max_tokens": 2}}
    spec = written(tmp_path, small("one", warm_start=None, environments={"one": one}))
    found = json.loads(evergreen("check-env", spec, "--tasks", 4, "--json").stdout)[0]["findings"]
    assert [finding["sentence"] for finding in found if finding["rule"] == "max-tokens"] == [
        "max_tokens is 2, its answer has 20 characters"
    ]
