"""The cache of warm starts: a whole entry is taken, any other is made again, and the run is the same either way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import orchestrator
from orchestrator.callbacks import Callback
from policies.policy import Policy
from tests.integration.runs import ending
from tests.orchestrator.specs import small
from tests.shares import share

CURRICULUM = {"stages": 1, "scheduler": "uniform", "stage": {"steps": 1}}


class Listening(Callback):
    """Keeps what it is told of warm starts."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.events: list[str] = []

    def phase(self, text: str) -> None:
        self.phases += [text] if text.startswith("warm start") else []

    def event(self, texts: Sequence[str]) -> None:
        self.events += texts


def again(home: Path) -> Listening:
    heard = Listening()
    orchestrator.run(small(curriculum=CURRICULUM, scoring={"isolation": "none"}), home=home, watcher=heard)
    return heard


def flip_a_bit(entry: Path) -> None:
    path = entry / "weights" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)


def truncate(entry: Path) -> None:
    path = entry / "weights" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lose_the_manifest(entry: Path) -> None:
    """As entries were that had none yet."""
    (entry / "manifest.json").unlink()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    heard = again(home)
    assert heard.phases == ["warm start: 24 supervised batches on book, numbers"]
    return home


@pytest.mark.parametrize("damage", share([flip_a_bit, truncate, lose_the_manifest], 1))
def test_a_broken_entry_is_made_again_and_the_run_is_the_same(home: Path, damage: Callable[[Path], None]) -> None:
    (entry,) = (home / "warm_starts").iterdir()
    damage(entry)
    heard = again(home)
    assert heard.phases == ["warm start: 24 supervised batches on book, numbers"]
    assert [text.partition(":")[0] for text in heard.events] == ["the cached warm start is made again"]
    names = sorted(path.parent.name for path in home.glob("small*/spec.yaml"))
    assert len({ending(home, name).digest for name in names}) == 1
    assert again(home).phases == ["warm start: taken from the cache"]
    assert list((home / "warm_starts").iterdir()) == [entry]


def test_an_interrupted_entry_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Policy, folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(Policy, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        again(tmp_path)
    assert not [path for path in (tmp_path / "warm_starts").iterdir() if path.is_dir()]
