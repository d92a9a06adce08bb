from __future__ import annotations

import shutil
from pathlib import Path

from tests.conftest import Evergreen

EARLIER = Path(__file__).parents[2] / "store" / "homes" / "0001"


def test_an_earlier_home_names_the_command_that_upgrades_it_and_it_does(evergreen: Evergreen, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(EARLIER, home)
    refused = evergreen("ls", "--home", home)
    assert refused.exit_code == 2
    assert f"`evergreen upgrade --home {tmp_path / 'home'}`" in refused.stderr
    assert evergreen("upgrade", "--home", home).exit_code == 0
    assert "finished" in evergreen("ls", "--home", home).stdout
    again = evergreen("upgrade", "--home", home)
    assert (again.exit_code, "is up to date" in again.stdout) == (0, True)


def test_of_ledgers_elsewhere_those_that_are_there_are_upgraded(evergreen: Evergreen, tmp_path: Path) -> None:
    """The home's own, which no run of it has, was looked for first, and not found."""
    home, ledger = tmp_path / "home", tmp_path / "ledger.db"
    shutil.copytree(EARLIER, home)
    (home / "evergreen.db").rename(ledger)
    (home / "away").mkdir()
    for run, file in {"away": tmp_path / "away.db", "finished": ledger, "stopped": ledger}.items():
        (home / run / "spec.yaml").write_text(f"ledger: {{url: 'sqlite:///{file}'}}\n")
    done = evergreen("upgrade", "--home", home)
    assert done.stdout == f"sqlite:///{ledger} is up to date\n"
    assert (done.exit_code, done.stderr.count("error:")) == (2, 1)
    assert "away.db" in done.stderr
    shutil.rmtree(home / "away")
    assert evergreen("upgrade", "--home", home).exit_code == 0
    assert not (home / "evergreen.db").exists()
