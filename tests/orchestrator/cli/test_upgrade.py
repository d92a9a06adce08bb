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
