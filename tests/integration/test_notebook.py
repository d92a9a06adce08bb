"""examples/first_look.ipynb: its cells run one after another, and show what they are committed with.

Its outputs are made anew by `jupyter nbconvert --to notebook --execute --inplace
--ExecutePreprocessor.record_timing=False examples/first_look.ipynb`, where jupyter is installed.
"""

from __future__ import annotations

import ast
import json
import re
from base64 import b64decode
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest

from tests.orchestrator.specs import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
NOTEBOOK = json.loads((EXAMPLES / "first_look.ipynb").read_text())
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
QUICK = {'"steps": 20': '"steps": 3', "range(6)": "range(2)"}
MOST_CELLS, MOST_BYTES = 20, 150_000

Shape = tuple[bool, int, list[str]]  # whether something was printed, how many pictures, the columns of the table


def test_it_is_a_small_notebook_as_it_came_out_of_one_execution() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len(NOTEBOOK["cells"]) <= MOST_CELLS
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert all(cell["metadata"] == {} for cell in NOTEBOOK["cells"])
    assert "/" not in json.dumps([output.get("text", "") for cell in CODE for output in cell["outputs"]]), "no paths"
    text = "".join("".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")
    assert all((EXAMPLES / link).is_file() for link in re.findall(r"\]\((.*?)\)", text))
    pictures = [output["data"]["image/png"] for cell in CODE for output in cell["outputs"] if _is_picture(output)]
    assert sum(len(b64decode(picture)) for picture in pictures) < MOST_BYTES


@pytest.mark.parametrize("changes", [QUICK, pytest.param({}, marks=pytest.mark.slow)], ids=["quick", "whole"])
def test_its_cells_run_and_show_what_is_kept_of_them(
    changes: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    matplotlib.use("Agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    names: dict[str, Any] = {"__name__": "__main__"}
    with plt.rc_context():
        for cell in CODE:
            source = "".join(cell["source"])
            for old, new in changes.items():
                source = source.replace(old, new)
            last = run_cell(source, names)
            columns = [] if last is None else [*map(str, last.columns)]
            assert (bool(capsys.readouterr().out), len(plt.get_fignums()), columns) == kept(cell), source
            plt.close("all")
    assert all("".join(map(str, names["names"])).count(label) for label in ("rloo", "repo"))


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
