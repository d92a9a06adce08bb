"""The example notebooks: their cells run one after another, and show what they are committed with.

Outputs are made anew by `jupyter nbconvert --to notebook --execute --inplace
--ExecutePreprocessor.record_timing=False examples/first_look.ipynb`, where jupyter is installed; those of
plasticity.ipynb after `evergreen study examples/study_plasticity.yaml`.
"""

from __future__ import annotations

import ast
import json
import re
from base64 import b64decode
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest

from orchestrator.runs.api import run
from orchestrator.runs.provenance import RunRelations
from store.home import Home
from store.ledger import Ledger
from store.records import MemberRecord, StudyRecord
from tests.orchestrator.specs import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
NOTEBOOKS = {name: json.loads((EXAMPLES / f"{name}.ipynb").read_text()) for name in ("first_look", "plasticity")}
QUICK = {'"steps": 20': '"steps": 3', "range(6)": "range(2)"}
MOST_CELLS, MOST_BYTES = 20, 150_000

BOOK = {"type": "codebook", "keys": 8, "categories": {"4": 4}}
PROBE = {"type": "probe", "kind": "rl", "environment": "unseen"}
SMALL = {
    "policy": {"model": "tiny", "vocabulary": "closed", "layers": 1, "hidden": 32, "heads": 2, "kv_heads": 1},
    "environments": {"one": BOOK, "two": BOOK, "unseen": BOOK},
    "curriculum": {"stages": 2, "stage": {"steps": 3}, "scheduler": {"type": "sequence", "order": ["one", "two"]}},
    "step": {"groups": 8, "group_size": 8},
    "learner": {"lr": 0.005, "warmup": 0},
    "evaluate": {"items": 8, "samples": 8},
    "measure": {
        "share": 1,
        "of": ["network", {**PROBE, "steps": 10, "batch": 8, "seeds": 1, "items": 8, "samples": 2}],
    },
    "tracker": "none",
}

Shape = tuple[bool, int, list[str]]  # whether something was printed, how many pictures, the columns of the table


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells that run."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_a_small_notebook_as_it_came_out_of_one_execution(name: str) -> None:
    notebook = NOTEBOOKS[name]
    cells = code(notebook)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len(notebook["cells"]) <= MOST_CELLS
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell["metadata"] == {} for cell in cells)
    assert "/" not in json.dumps([output.get("text", "") for cell in cells for output in cell["outputs"]]), "no paths"
    text = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    assert all((EXAMPLES / link).is_file() for link in re.findall(r"\]\((.*?)\)", text))
    pictures = [output["data"]["image/png"] for cell in cells for output in cell["outputs"] if _is_picture(output)]
    assert sum(len(b64decode(picture)) for picture in pictures) < MOST_BYTES


def test_the_pictures_of_the_page_of_results_are_those_of_the_notebook() -> None:
    shown = [
        output["data"]["image/png"]
        for cell in code(NOTEBOOKS["plasticity"])
        for output in cell["outputs"]
        if _is_picture(output)
    ]
    page = (REPOSITORY / "docs/results/plasticity.md").read_text()
    files = re.findall(r"!\[.*?\]\(\.\./(images/plasticity-.*?)\)", page)
    assert [(REPOSITORY / "docs" / file).read_bytes() for file in files] == [b64decode(one) for one in shown]


@pytest.mark.parametrize("changes", [QUICK, pytest.param({}, marks=pytest.mark.slow)], ids=["quick", "whole"])
def test_a_first_look_shows_what_is_kept_of_it(
    changes: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run_cells("first_look", changes, monkeypatch, capsys)
    assert all("".join(map(str, names["names"])).count(label) for label in ("rloo", "repo"))


@pytest.fixture
def study_home(tmp_path: Path) -> Path:
    """A home with a small study that has probes: two settings, two seeds."""
    labels = ("rloo", "repo")
    with Ledger.open(Home(tmp_path).ledger_url) as ledger:
        compare = {"metric": "trainability_rl", "baseline": "rloo"}
        plan = {"settings": [{"label": label} for label in labels], "seeds": [0, 1], "compare": compare}
        ledger.start_study(StudyRecord("plasticity", plan))
    for seed, label in product((0, 1), labels):
        relations = RunRelations(member=MemberRecord("plasticity", label, {}))
        name = f"plasticity.{label}.s{seed}"
        run({**SMALL, "objective": label, "seed": seed}, home=tmp_path, relations=relations, name=name)
    return tmp_path


@pytest.mark.slow
def test_plasticity_shows_of_any_study_with_a_probe_what_is_kept_of_it(
    study_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run_cells("plasticity", {'"../runs"': repr(str(study_home))}, monkeypatch, capsys)
    assert names["settings"] == ["rloo", "repo"]
    assert names["turnover"].solved_before.min() > 0
    assert names["points"].after_stage.max() == 2


def run_cells(
    name: str, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """Run a notebook's cells, compare what comes out with what is kept, and give its names."""
    matplotlib.use("Agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    capsys.readouterr()
    names: dict[str, Any] = {"__name__": "__main__"}
    with plt.rc_context():
        for cell in code(NOTEBOOKS[name]):
            source = "".join(cell["source"])
            for old, new in changes.items():
                source = source.replace(old, new)
            last = run_cell(source, names)
            columns = [] if last is None else [*map(str, last.columns)]
            assert (bool(capsys.readouterr().out), len(plt.get_fignums()), columns) == kept(cell), source
            plt.close("all")
    return names


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does: the value of a last expression comes back."""
    tree = ast.parse(source)
    shown = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(shown, "cell", "eval"), names) if shown else None


def kept(cell: dict[str, Any]) -> Shape:
    """The shape of the outputs that a cell was committed with."""
    tables = [output["data"]["text/html"] for output in cell["outputs"] if output["output_type"] == "execute_result"]
    (heading,) = re.findall(r"<thead>(.*?)</thead>", "".join(tables[0]), re.DOTALL) if tables else [""]
    has_text = any(output["output_type"] == "stream" for output in cell["outputs"])
    return has_text, sum(map(_is_picture, cell["outputs"])), re.findall(r"<th>(.+?)</th>", heading)


def _is_picture(output: dict[str, Any]) -> bool:
    return output["output_type"] == "display_data" and "image/png" in output["data"]
