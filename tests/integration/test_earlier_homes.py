"""Homes that earlier schemas wrote are read, upgraded and gone on with (`tests/store/homes`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator import fork, resume
from store.ledger import Ledger
from tests.conftest import Evergreen

HOMES = Path(__file__).parents[1] / "store" / "homes"
DIGESTS = {  # of the finished run, as the version that wrote it printed them
    "0001": (
        "9565edb524434777ff7a2d103c6554d11c2785661ee108174be0c3bfcf2aa9fa",
        "f0fca1a15055d5ec95448650370499eeb546ed4da01a78ea9b5a2a105a69faac",
    ),
    "0003": (
        "fa60d0a8b269da607891a55df19e1e0cd9a09a9e66abef9bac80a32ee7f32644",
        "462b11667780ffa07f9318e9811f15a5e4bb707f12cf14e247669b84ae21cb5e",
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
    assert set(story["matrices"]["pass_1"]) == {str(boundary) for boundary in range(story["num_boundaries"])}


def test_a_stopped_run_of_an_earlier_home_goes_on_to_its_end(evergreen: Evergreen, home: Path) -> None:
    assert resume("stopped", home=home).status == "finished"
    story = json.loads(evergreen("show", "stopped", "--home", home, "--json").stdout)
    finished = json.loads(evergreen("show", "finished", "--home", home, "--json").stdout)
    assert (story["num_steps"], story["num_boundaries"]) == (6, finished["num_boundaries"])


def test_weights_of_an_earlier_home_come_out(evergreen: Evergreen, home: Path, tmp_path: Path) -> None:
    result = evergreen("weights", "finished", tmp_path / "out", "--stage", "1", "--home", home)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_runs_of_the_last_version_before_the_renaming_are_forked_and_compared(
    evergreen: Evergreen, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(HOMES / "0003", home)
    Ledger.upgrade(f"sqlite:///{home / 'evergreen.db'}")
    assert fork("forked", 2, home=home, overrides=["name=again", "learner.lr=0.001"]).status == "finished"
    for words in (["diff", "finished", "forked"], ["compare", "finished", "again"], ["report", "forked"]):
        told = evergreen(*words, "--home", home)
        assert told.exit_code == 0, told.stderr
