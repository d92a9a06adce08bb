"""Homes that earlier schemas wrote are read, upgraded and gone on with (`tests/store/homes`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator import resume
from store.ledger import Ledger
from tests.conftest import Evergreen

HOMES = Path(__file__).parents[1] / "store" / "homes"
DIGESTS = {  # of the finished run, as the version that wrote it printed them
    "0001": (
        "9565edb524434777ff7a2d103c6554d11c2785661ee108174be0c3bfcf2aa9fa",
        "f0fca1a15055d5ec95448650370499eeb546ed4da01a78ea9b5a2a105a69faac",
    ),
}


@pytest.fixture(params=sorted(DIGESTS))
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    copy = tmp_path / request.param
    shutil.copytree(HOMES / request.param, copy)
    Ledger.upgrade(f"sqlite:///{copy / 'evergreen.db'}")
    return copy


def test_a_finished_run_of_an_earlier_home_is_told_with_its_digests(evergreen: Evergreen, home: Path) -> None:
    story = json.loads(evergreen("show", "finished", "--home", home, "--json").stdout)
    assert (story["digest"], story["digest_all"]) == DIGESTS[home.name]
    assert story["status"] == "finished"
    assert set(story["matrices"]["pass_1"]) == {"0", "1", "2"}


def test_a_stopped_run_of_an_earlier_home_goes_on_to_its_end(evergreen: Evergreen, home: Path) -> None:
    assert resume("stopped", home=home).status == "finished"
    story = json.loads(evergreen("show", "stopped", "--home", home, "--json").stdout)
    assert (story["num_steps"], story["num_boundaries"]) == (6, 3)


def test_weights_of_an_earlier_home_come_out(evergreen: Evergreen, home: Path, tmp_path: Path) -> None:
    result = evergreen("weights", "finished", tmp_path / "out", "--stage", "1", "--home", home)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "model.safetensors").is_file()
