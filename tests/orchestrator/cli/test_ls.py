from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

import orchestrator
from orchestrator.cli.run import end
from orchestrator.cli.tables import print_ending, print_samples, print_story
from orchestrator.runs.assembly import lay_foundation
from orchestrator.runs.catalog import SPEC_FILE
from orchestrator.runs.session import Outcome
from orchestrator.spec import load_spec
from policies.samplers.contracts import Request, Sampling
from policies.samplers.transformers import Config, create
from store.ledger import Ledger
from store.ledger.query_rows import SampleRow
from store.sentences import in_words
from tests.conftest import Evergreen
from tests.orchestrator.cli.test_ui import tell
from tests.orchestrator.specs import alone


def facts(evergreen: Evergreen, *words: object) -> Any:
    result = evergreen(*words)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_ls_lists_the_runs_newest_first(finished: Path, evergreen: Evergreen) -> None:
    listed = facts(evergreen, "ls", "--json", "--home", finished)
    assert [run["name"] for run in listed][-2:] == ["flat", "small"]
    small = listed[-1]
    assert (small["status"], small["num_steps"], small["objective"]) == ("finished", 9, "repo_r")
    assert "small" in evergreen("ls", "--home", finished).stdout


def test_ls_of_a_home_without_runs_says_how_to_make_one(tmp_path: Path, evergreen: Evergreen) -> None:
    Ledger.open(f"sqlite:///{tmp_path / 'evergreen.db'}").close()
    assert "`evergreen run SPEC` makes one" in evergreen("ls", "--home", tmp_path).stdout
    assert facts(evergreen, "ls", "--json", "--home", tmp_path) == []


def test_ls_show_and_report_find_runs_in_other_ledgers_and_one_that_is_away_hides_no_other(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere.db"
    orchestrator.run({**alone("there", stages=1), "ledger": {"url": f"sqlite:///{elsewhere}"}}, home=home)
    assert not (home / "evergreen.db").exists()
    assert [run["name"] for run in facts(evergreen, "ls", "--json", "--home", home)] == ["there"]

    orchestrator.run(alone("here", stages=1), home=home)
    lost = home / "lost"
    lost.mkdir()
    (lost / SPEC_FILE).write_text("ledger: {url: 'oracle://me:hu/sh@host/db'}")
    (home / "broken").mkdir()
    (home / "broken" / SPEC_FILE).write_text("]")
    result = evergreen("ls", "--json", "--home", home)
    assert result.exit_code == 0
    assert [run["name"] for run in json.loads(result.stdout)] == ["here", "there"]
    one, other = [line for line in result.stderr.splitlines() if line.startswith("!")]
    assert f"{home / 'broken' / SPEC_FILE} cannot be read" in one
    assert "oracle://***@host/db" in other
    assert other.endswith("Not listed: lost.")

    assert facts(evergreen, "show", "there", "--json", "--home", home)["num_steps"] == 3
    assert evergreen("report", "there", "--home", home).exit_code == 0
    elsewhere.unlink()
    assert "There is no ledger" in evergreen("show", "there", "--home", home).stderr


def test_show_has_digests_matrices_and_arms(finished: Path, evergreen: Evergreen) -> None:
    story = facts(evergreen, "show", "small", "--json", "--home", finished)
    assert re.fullmatch("[0-9a-f]{64}", story["digest"])
    assert story["digest_all"] != story["digest"]
    for metric in ("pass_1", "entropy_token"):
        matrix = story["matrices"][metric]
        assert list(matrix) == ["0", "1", "2", "3"]
        assert all(row.keys() == {"numbers", "book", "noise"} for row in matrix.values())
        assert all(value is not None for row in matrix.values() for value in row.values())
    assert story["environments"]["book"]["closed"]
    change = story["environments"]["book"]["accuracy_change"]
    assert change == pytest.approx(story["matrices"]["pass_1"]["3"]["book"] - story["matrices"]["pass_1"]["0"]["book"])
    assert {arm["bandit"] for arm in story["arms"]} == {"*", "numbers", "book", "noise"}
    assert sum(arm["num_picks"] for arm in story["arms"] if not arm["is_scheduler"]) == 9 * 4
    assert sum(row["num_samples"] for row in story["allocation"]) == 9 * 4 * 4


@pytest.mark.parametrize("name", ["small", "flat"])
def test_show_tells_a_run_in_words(finished: Path, evergreen: Evergreen, name: str) -> None:
    result = evergreen("show", name, "--home", finished)
    assert result.exit_code == 0
    assert "9 of 9 steps" in result.stdout
    assert "before training" in result.stdout


def on_screen(story: Mapping[str, Any]) -> list[str]:
    """What a terminal of 80 columns shows at the end of a run; the console wraps nothing by itself."""
    screen = Console(width=80, force_terminal=True, color_system=None, soft_wrap=True, file=io.StringIO())
    print_ending(screen, story)
    return screen.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_the_end_of_a_run_fits_a_screen_and_show_has_the_rest(finished: Path, evergreen: Evergreen) -> None:
    """Forty lines of 80 columns, with the nine that say how to go on; also of many stages and incidents."""
    story = facts(evergreen, "show", "small", "--json", "--home", finished)
    lines = on_screen(story)
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40 - 9
    everything = evergreen("show", "small", "--home", finished).stdout
    assert all(sentence in " ".join(everything.split()) for sentence in in_words(story).values())
    for title in ("Accuracy after each stage", "Entropy, nats a token", "What carries over", "What the bandits did"):
        assert title in everything
    assert "Accuracy after each stage" in lines
    event = {"kind": "alarm", "step": 3, "text": "x", "after_stage": None}
    rows = {str(stage): dict.fromkeys(story["environments"], 0.5) for stage in range(31)}
    long = {**story, "matrices": {**story["matrices"], "pass_1": rows}, "events": [event] * 50}
    lines = on_screen(long)
    assert len(lines) <= 40 - 9
    assert "  and 47 more: `show --events`" in lines
    rows_told = lines[lines.index("Accuracy after each stage") + 4 :]
    firsts = [line.split()[0] for line in rows_told if line.strip()]
    assert firsts[:7] == ["before", "...", "26", "27", "28", "29", "30"]


@pytest.mark.parametrize(
    ("tracker", "offer"),
    [
        ({"type": "none"}, None),
        ({"type": "mlflow"}, "this run beside others, in MLflow"),
        ({"type": "mlflow", "also": ["tensorboard"]}, "this run beside others, in MLflow"),
        ({"type": "tensorboard"}, "where this run is beside others, in TensorBoard"),
    ],
)
def test_a_run_ends_with_how_to_go_on_and_offers_the_record_that_it_has(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tracker: dict[str, Any], offer: str | None
) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    tell(home, "small", "tracker", **tracker)
    with pytest.raises(typer.Exit):
        end(Outcome("small", home / "small", "finished"), home)
    said = capsys.readouterr().out
    assert f"evergreen show small --home {home}" in said
    assert [line.partition(str(home))[2].strip() for line in said.splitlines() if "evergreen ui" in line] == (
        [] if offer is None else [offer]
    )


def test_samples_are_those_of_an_environment_a_stage_and_a_verdict(finished: Path, evergreen: Evergreen) -> None:
    def samples(*words: object) -> Any:
        return facts(evergreen, "show", "small", "--json", "--home", finished, "--samples", *words)

    every = samples("book", "--limit", 1000)
    assert {sample["environment"] for sample in every} == {"book"}
    failed = samples("book", "--failed", "--limit", 1000)
    assert 0 < len(failed) < len(every)
    assert not any(sample["correct"] for sample in failed)
    first = samples("book", "--stage", 1)
    assert {sample["step"] for sample in first} <= {1, 2, 3}
    assert first
    assert len(samples("book", "--limit", 2)) == 2
    printed = evergreen("show", "small", "--home", finished, "--samples", "book", "--failed", "--stage", 1).stdout
    assert "wrong" in printed
    assert "policy:" in printed


def test_what_a_policy_writes_is_never_markup() -> None:
    question = [{"role": "user", "content": "[/bold] 1 [link=x]"}]
    sample = SampleRow(3, None, 0, 0, "words", "3", "key", question, "[red]2[/nothing]", 0.5, False, None)
    printed = io.StringIO()
    print_samples(Console(file=printed, width=120), [sample])
    assert "user: [/bold] 1 [link=x]" in printed.getvalue()
    assert "policy: [red]2[/nothing]" in printed.getvalue()


def test_a_name_in_a_table_is_never_markup(finished: Path, evergreen: Evergreen) -> None:
    story = facts(evergreen, "show", "small", "--json", "--home", finished)
    named = json.loads(json.dumps(story).replace('"book"', '"[/bold]book[link=x]"'))
    printed = io.StringIO()
    print_story(Console(file=printed, width=200), named)
    assert printed.getvalue().count("[/bold]book[link=x]") > 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "smal"], "there is no run 'smal'; there are: small, flat"),
        (["weights", "smal", "weights-of-nobody"], "there is no run 'smal'"),
        (["resume", "smal"], "there is no run 'smal' in "),
        (
            ["show", "small", "--samples", "--failed"],
            "small has no environment '--failed'; --samples takes one of: book, noise, numbers",
        ),
        (
            ["show", "small", "--failed", "--limit", "5"],
            "--failed, --limit chooses among kept completions: say --samples ENV with it, or leave it out",
        ),
        (["show", "small", "--stage", "0"], "--stage chooses among kept completions: say --samples ENV"),
        (["show", "small", "--samples", "book", "--stage", "9"], "small has no stage 9: it has begun 3 stages"),
        (["show", "small", "--samples", "book", "--events"], "--samples, --events: each prints something else"),
        (["show", "small", "--time", "--follow"], "--time, --follow: each prints something else"),
        (
            ["show", "small", "--samples", "bok"],
            "small has no environment 'bok'; --samples takes one of: book, noise, numbers. Did you mean 'book'?",
        ),
        (
            ["weights", "small", "--stage", "9", "weights-of-nobody"],
            "small has no checkpoint of the boundary after stage 9; there are: 0, 1, 2, 3",
        ),
        (["resume", "small", "--set", "learner.lr=1"], "only resources, tracker, checkpoint may change"),
    ],
)
def test_what_is_not_there_is_told_with_what_there_is(
    finished: Path, evergreen: Evergreen, words: list[str], message: str
) -> None:
    result = evergreen(*words, "--home", finished)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_weights_of_no_whole_checkpoint_are_not_those_of_a_stage(
    finished: Path, tmp_path: Path, evergreen: Evergreen
) -> None:
    home = Path(shutil.copytree(finished, tmp_path / "home"))
    for manifest in (home / "small" / "checkpoints").glob("*/manifest.json"):
        manifest.unlink()
    result = evergreen("weights", "small", tmp_path / "weights", "--home", home)
    said = " ".join(result.stderr.split())
    assert result.exit_code == 2
    assert re.search(r"small has no whole checkpoint: \S+ is missing", said)
    assert "stage" not in said


def test_weights_are_never_written_over_a_folder(finished: Path, tmp_path: Path, evergreen: Evergreen) -> None:
    result = evergreen("weights", "small", tmp_path, "--home", finished)
    assert result.exit_code == 2
    assert "is there already: name a folder to make" in result.stderr


def test_exported_weights_are_the_policy_after_that_stage(finished: Path, tmp_path: Path, evergreen: Evergreen) -> None:
    """Plain transformers and the run's own sampler write the same greedy tokens, from the same prompt ids."""
    folder = tmp_path / "policy"
    assert evergreen("weights", "small", "--stage", 2, folder, "--home", finished).exit_code == 0
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    spec = load_spec(finished / "small" / SPEC_FILE)
    checkpoint = finished / "small" / "checkpoints" / "step-000006-boundary-003"
    foundation = lay_foundation(spec, checkpoint / "weights")
    for name, environment in foundation.environments.items():
        messages = [dict(message) for message in environment.task(environment.categories[0].name, 3).messages]
        ids = foundation.policy.encode(messages)
        assert tuple(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)) == ids
        (ours,) = create(Config(), foundation.policy).generate([Request(ids, 0, 6)], Sampling(greedy=True))
        theirs = model.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False)[0, len(ids) :]
        assert tuple(theirs.tolist()) == ours.ids, name
        assert tokenizer.decode(theirs, skip_special_tokens=True) == foundation.policy.decode(ours.ids)
