"""The cache of warm starts: a whole entry is taken, any other is made again, and the run is the same either way."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.callbacks import Callback
from orchestrator.runs.catalog import opened
from orchestrator.runs.pruning import prune
from policies.policy import Policy
from store.home import Home
from store.ledger import Ledger
from store.lock import request_stop
from store.run_summary import facts
from store.sentences import how_it_began
from tests.environments.rows.making import write_jsonl
from tests.integration.runs import ending
from tests.orchestrator.specs import small
from tests.shares import share

CURRICULUM = {"stages": 1, "scheduler": "uniform", "stage": {"steps": 1}}


class Listening(Callback):
    """Keeps what it is told of warm starts."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.losses: list[tuple[float, float] | None] = []
        self.events: list[str] = []

    def phase(self, text: str) -> None:
        self.phases += [text] if text.startswith("warm start") else []

    def warm_started(self, losses: tuple[float, float] | None) -> None:
        self.losses.append(losses)

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


def test_a_run_says_how_well_its_warm_start_taught_also_when_it_is_taken_from_the_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Losses as it goes, kept beside the weights; held-out accuracy from the boundary before the first step."""
    spec = small(curriculum=CURRICULUM, scoring={"isolation": "none"})
    said = []
    for _ in range(2):
        orchestrator.run(spec, home=tmp_path, watcher=orchestrator.Screen())
        said.append(" ".join(capsys.readouterr().out.split()))  # lines break where the terminal ends
    losses = [
        re.findall(r"warm start: loss (\S+) nats a token in its first batch, (\S+) in its last", one) for one in said
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 1
    assert all(float(loss) > 0 for loss in losses[0][0])
    assert all("before training, after the warm start: accuracy (entropy) " in one for one in said)
    with Ledger.open(Home(tmp_path).ledger_url) as ledger:
        began = how_it_began(facts(ledger, tmp_path / "small", "small"))
    assert began is not None
    assert began.startswith("After the warm start (24 supervised batches on book and numbers), before the first step,")
    (entry,) = (tmp_path / "warm_starts").iterdir()
    shutil.rmtree(entry / "losses")  # an entry of an earlier version has none
    manifest = json.loads((entry / "manifest.json").read_text())
    del manifest["components"]["losses"]
    (entry / "manifest.json").write_text(json.dumps(manifest))
    heard = again(tmp_path)
    assert (heard.phases, heard.losses) == (["warm start: taken from the cache"], [None])


def test_a_warm_start_is_neither_deleted_while_it_is_made_nor_while_it_is_taken(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for method in ("save", "load_weights"):
        real = getattr(Policy, method)

        def meanwhile(self: Policy, folder: Path, real: Any = real, **options: Any) -> Any:
            if "warm_starts" in folder.parts:
                said.append(prune(tmp_path, warm_starts=True)[-1].kept)
            return real(self, folder, **options)

        monkeypatch.setattr(Policy, method, meanwhile)
    assert [again(tmp_path).phases for _ in range(2)][1] == ["warm start: taken from the cache"]
    assert said == ["1 in use"] * 2
    assert ending(tmp_path, "small") == ending(tmp_path, "small-2") == ending(home, "small")


def test_an_interrupted_entry_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Policy, folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(Policy, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        again(tmp_path)
    assert not [path for path in (tmp_path / "warm_starts").iterdir() if path.is_dir()]


class Stopping(Callback):
    """Ends the run in its warm start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def warm_start(self, batch: int, num_batches: int, loss: float) -> None:
        request_stop(self.folder)


def test_a_run_that_ended_in_its_warm_start_says_what_it_left_out_when_it_is_resumed(tmp_path: Path) -> None:
    rows = [{"question": f"{a}+{b}", "answer": f"{a + b}"} for a in range(6) for b in range(6)]
    write_jsonl(tmp_path / "sums.jsonl", [*rows, "{", {"question": "1+1", "answer": "3"}])
    sums = {"type": "rows", "train": "sums.jsonl", "prompt": "question", "truth": "answer", "reward": "exact"}
    spec = small(
        environments={"sums": sums},
        warm_start={"environments": ["sums"], "batches": 3},
        curriculum=CURRICULUM,
        learner={"updates": 2},
        resources={"search_path": str(tmp_path)},
    )
    told = {}
    for home in ("whole", "stopped"):
        watcher = Stopping(tmp_path / home / "small") if home == "stopped" else None
        orchestrator.run(spec, home=tmp_path / home, watcher=watcher)
        if watcher is not None:
            assert orchestrator.resume("small", home=tmp_path / home).status == "finished"
        with opened(tmp_path / home) as (_, ledger):
            told[home] = [(event.kind, event.text) for event in ledger.reading.events("small")]
    said = [event for event in told["whole"] if event[0] in ("left out", "warning")]
    assert len(said) >= 2
    assert [event for event in told["stopped"] if event in said] == said
