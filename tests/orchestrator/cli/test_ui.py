from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli import ui
from store.home import Home
from store.ledger import Ledger
from store.tracker import mlflow_ui
from store.tracker.outlets import Link
from store.tracker.record import Target
from tests.conftest import Evergreen
from tests.store.tracker.content import names
from tests.store.tracker.databases import empty

EVERGREEN = [sys.executable, "-c", "from orchestrator.cli import main; main()"]


@pytest.fixture(scope="module")
def tracked(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home with `small` and `flat`, as if their specs had said mlflow; and MLflow's empty tables."""
    home = tmp_path_factory.mktemp("tracked")
    for path in finished.glob("evergreen.db*"):
        shutil.copy(path, home)
    for name in ("small", "flat"):
        (home / name).mkdir()
        shutil.copy(finished / name / "spec.yaml", home / name)
        tell(home, name, "tracker", type="mlflow")
    empty(home)
    return home


@pytest.fixture
def home(tracked: Path, tmp_path: Path) -> Path:
    shutil.copytree(tracked, tmp_path / "home")
    return tmp_path / "home"


def target_in(home: Path) -> Target:
    place = Home(home)
    return Target(place.mlflow_uri, "evergreen", place.mlflow_artifacts.as_uri())


def tell(home: Path, name: str, section: str, **options: Any) -> None:
    """Change a run's spec where it is kept: in its folder, and in the ledger that knows it."""
    file = home / name / "spec.yaml"
    spec = yaml.safe_load(file.read_text())
    spec[section] |= options
    file.write_text(yaml.safe_dump(spec, sort_keys=False))
    with Ledger.open(Home(home).ledger_url, create=False) as ledger:
        ledger.set_spec(ledger.open_run(name), spec)


def set_uri(home: Path, name: str, uri: str) -> None:
    tell(home, name, "tracker", uri=uri)


@pytest.mark.slow
def test_an_edit_of_the_kept_spec_is_not_believed(home: Path, evergreen: Evergreen) -> None:
    """The ledger's spec holds, as everywhere."""
    spec = home / "small" / "spec.yaml"
    spec.write_text(spec.read_text().replace("type: mlflow", "type: none"))
    assert "small" in evergreen("ui", "small", "--catch-up-only", "--home", home).stdout


def test_a_run_that_no_ledger_of_the_home_knows_is_found_by_its_folder(home: Path, evergreen: Evergreen) -> None:
    away = home.parent / "away.db"
    for file in home.glob("evergreen.db*"):
        file.rename(away.with_name(file.name.replace("evergreen", "away")))
    for name in ("small", "flat"):
        file = home / name / "spec.yaml"
        spec = yaml.safe_load(file.read_text())
        spec["ledger"]["url"] = f"sqlite:///{away}"
        file.write_text(yaml.safe_dump(spec))
    result = evergreen("ui", "--catch-up-only", "--home", home)
    assert result.exit_code == 0
    assert re.search(r"small: \d+ values sent", result.stdout)


def test_catching_up_brings_every_run_of_the_home(home: Path, evergreen: Evergreen) -> None:
    result = evergreen("ui", "--catch-up-only", "--home", home)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.search(r"small: \d+ values sent", result.stdout)
    assert len(names(target_in(home))) == 8
    again = evergreen("ui", "--catch-up-only", "--home", home).stdout
    assert "flat, small: up to date" in again


def test_one_run_alone_can_be_named(home: Path, evergreen: Evergreen) -> None:
    assert evergreen("ui", "flat", "--catch-up-only", "--home", home).exit_code == 0
    assert names(target_in(home)) == ["01 all (flat)", "02 all (flat)", "03 all (flat)", "flat"]


def test_a_run_that_cannot_be_caught_up_is_named_and_does_not_stop_the_others(home: Path, evergreen: Evergreen) -> None:
    set_uri(home, "flat", "http://127.0.0.1:9")
    result = evergreen("ui", "--catch-up-only", "--home", home)
    assert result.exit_code == 1
    assert "flat: Bringing MLflow at http://127.0.0.1:9 up to date failed" in result.stderr
    assert len(names(target_in(home))) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ledger: [\n", "spec.yaml cannot be read"),
        ("tracker: mlflow\n", "it names no tracker"),
        ("tracker: {type: mlflow, uri: 5}\n", "it names no tracker"),
        ("tracker: {type: mlflow}\nledger: {url: 'postgresql://u@127.0.0.1:1/db', password_file: /gone}\n", "/gone"),
    ],
)
def test_a_run_whose_spec_cannot_be_used_is_named_and_does_not_stop_the_others(
    home: Path, evergreen: Evergreen, text: str, said: str
) -> None:
    (home / "odd").mkdir()
    (home / "odd" / "spec.yaml").write_text(text)
    set_uri(home, "small", "http://127.0.0.1:9")  # which is quick
    result = evergreen("ui", "--catch-up-only", "--home", home)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: odd: ")
    assert said in result.stderr
    assert "flat: " in result.stdout
    assert evergreen("ui", "odd", "--home", home).exit_code == 2


def test_of_a_server_the_address_is_told(home: Path, evergreen: Evergreen) -> None:
    set_uri(home, "flat", "http://127.0.0.1:9")
    result = evergreen("ui", "flat", "--home", home)
    assert result.exit_code == 0
    assert "MLflow's UI is at http://127.0.0.1:9" in result.stdout


def test_the_list_and_the_charts_are_told_by_experiment_and_the_newest_is_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(ui.webbrowser, "open", opened.append)
    monkeypatch.setattr(ui, "has_display", lambda: True)
    links = {name: Link(f"/{name}-runs", f"/{name}-charts", f"/{name}-run") for name in ("new", "old")}
    shown = {Target("sqlite:///x", name, None): link for name, link in links.items()}
    shown[Target("http://elsewhere", "other", None)] = links["old"]
    for is_one, no_open in ((False, False), (True, False), (False, True)):
        ui._show("http://here:5000", "sqlite:///x", shown, is_one, no_open)
    assert opened == ["http://here:5000/new-runs", "http://here:5000/new-run"]
    assert capsys.readouterr().out.splitlines()[:5] == [
        "MLflow's UI is at http://here:5000",
        "  new, list of runs  http://here:5000/new-runs",
        "  new, charts        http://here:5000/new-charts",
        "  old, list of runs  http://here:5000/old-runs",
        "  old, charts        http://here:5000/old-charts",
    ]


def test_the_address_is_a_name_of_this_machine_with_which_mlflow_opens_no_chat_panel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And where the name is not known, somebody asked for a host, or has rules for hosts, it is the number as ever."""
    for name in ("MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mlflow_ui.sys, "platform", "linux")
    assert mlflow_ui.address("127.0.0.1", 5000) == "http://evergreen.localhost:5000"
    assert (
        mlflow_ui._rules("127.0.0.1", 5000)["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == "http://evergreen.localhost:5000"
    )
    ui._show("http://evergreen.localhost:5000", "sqlite:///x", {}, False, True)
    assert "a browser that does not know this name finds it at http://127.0.0.1:5000" in capsys.readouterr().out
    assert mlflow_ui.address("0.0.0.0", 5000) == "http://127.0.0.1:5000"
    assert mlflow_ui.address("gpu-box", 5000) == "http://gpu-box:5000"
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "gpu-box")
    assert (mlflow_ui.address("127.0.0.1", 5000), mlflow_ui._rules("127.0.0.1", 5000)) == ("http://127.0.0.1:5000", {})
    monkeypatch.delenv("MLFLOW_SERVER_ALLOWED_HOSTS")
    monkeypatch.setattr(mlflow_ui.sys, "platform", "darwin")
    for known, expected in ((["::1"], "evergreen.localhost"), ([], "127.0.0.1")):
        monkeypatch.setattr(mlflow_ui.socket, "getaddrinfo", lambda *asked, known=known: known)
        assert mlflow_ui.address("127.0.0.1", 5000) == f"http://{expected}:5000"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"SSH_CONNECTION": "a b c d"}, False),
        ("darwin", {}, True),
        ("darwin", {"SSH_CONNECTION": "a b c d"}, False),
    ],
)
def test_a_browser_is_opened_before_a_screen_only(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: bool
) -> None:
    monkeypatch.setattr(ui.sys, "platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ui.sys.stdout, "isatty", lambda: True)
    assert ui.has_display() is expected
    monkeypatch.setattr(ui.sys.stdout, "isatty", lambda: False)
    assert not ui.has_display(), "in a pipe"


def test_runs_without_a_tracker_are_told_how_to_get_one(finished: Path, evergreen: Evergreen) -> None:
    for words in (["ui", "small"], ["ui"]):
        result = evergreen(*words, "--home", finished)
        assert result.exit_code == 2
        assert "has a tracker: `tracker: mlflow` in a spec" in result.stderr or "small has no tracker" in result.stderr
    assert evergreen("ui", "smal", "--home", finished).exit_code == 2


def test_a_port_in_use_is_told(home: Path, evergreen: Evergreen) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        result = evergreen("ui", "flat", "--home", home, "--port", other.getsockname()[1])
    assert result.exit_code == 2
    assert "Name another port with --port" in result.stderr


@pytest.mark.parametrize("host", ["nosuchhost.invalid", "::1", "192.0.2.1"])
def test_a_host_that_is_not_here_is_told(home: Path, evergreen: Evergreen, host: str) -> None:
    result = evergreen("ui", "flat", "--home", home, "--host", host)
    assert result.exit_code == 2
    assert "Name an IPv4 address of this machine with --host" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_ui_answers_until_it_is_asked_to_end_and_leaves_nobody_behind(home: Path, how: int) -> None:
    words = [*EVERGREEN, "ui", "small", "--home", str(home), "--port", "5123"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as ui:
        assert ui.stdout is not None
        line = next(line for line in ui.stdout if line.startswith("MLflow's UI is at "))
        url = line.split()[4]
        assert re.fullmatch(r"http://evergreen\.localhost:5123/#/experiments/1/runs/\w{32}\?workflowType=\w+", url)
        for host in ("evergreen.localhost:5123", "127.0.0.1:5123", "localhost:8080"):  # the last through a tunnel
            asked = urllib.request.Request("http://127.0.0.1:5123/", headers={"Host": host})
            with urllib.request.urlopen(asked) as page:
                assert b"<title>MLflow</title>" in page.read()
        with pytest.raises(urllib.error.HTTPError, match="403"):  # nobody else's name leads here
            urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:5123/", headers={"Host": "evil.com"}))
        ui.send_signal(how)
        assert ui.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen("http://127.0.0.1:5123/health")
