"""Passwords, tokens and logins in URLs are hidden, whatever characters they have; and passwords come from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.checkpoint_copies import CopyPlace
from store.errors import HomeError, LedgerError, SecretError
from store.ledger.engine import make_engine
from store.logins import remember, with_login
from store.records import EventRecord
from store.secrets import (
    holds_secret,
    url_without_logins,
    values_without_logins,
    without_logins,
    without_passwords,
)
from store.tracker.record import Target

KEPT = {
    "postgresql://me:hush@h:5432/db": "postgresql://me:***@h:5432/db",
    "postgresql://me:hu/sh@h:5432/db": "postgresql://me:***@h:5432/db",
    "postgresql://me:hu@sh@h/db": "postgresql://me:***@h/db",
    "postgresql://me:hu#s?h@h/db": "postgresql://me:***@h/db",
    "postgresql://me:hu:sh@h/db": "postgresql://me:***@h/db",
    "postgresql://me:hu sh'\"@h/db": "postgresql://me:***@h/db",
    "postgresql://me:hu%2Fsh%40@h/db": "postgresql://me:***@h/db",
    "postgresql://me:hush@h/db?application_name=a@b": "postgresql://me:***@h/db?application_name=a@b",
    "postgresql://me@h/db?password=hu/sh@x&sslmode=require": "postgresql://me@h/db?password=***&sslmode=require",
    "postgresql://h/db?user=me&password=hu%2Fsh&sslpassword=hush": "postgresql://h/db?user=me&password=***&sslpassword=***",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3Dhush": "mssql+pyodbc:///?odbc_connect=***",
    "https://me:hush@host:5000/team": "https://me:***@host:5000/team",
    "https://hush@host/team": "https://***@host/team",
    "https://host/mlflow?token=hush&x=1": "https://host/mlflow?token=***&x=1",
}
HARMLESS = [
    "sqlite:////data/a@b.db",
    "postgresql://me@h/db",
    "postgresql:///db?host=/run/postgresql&passfile=/f",
    "http://localhost:5000",
    "https://host/team@home",
    "https://host:5000/team@home",
    "databricks://profile",
    "databricks",
]


@pytest.mark.parametrize("url", KEPT)
def test_what_is_kept_of_a_url_has_its_user_and_no_secret(url: str) -> None:
    assert without_passwords(url) == KEPT[url]
    assert holds_secret(url)
    assert not holds_secret(KEPT[url])
    assert without_passwords(KEPT[url]) == KEPT[url], "once is enough"
    shown = values_without_logins({"ledger": {"urls": [url]}})["ledger"]["urls"][0]
    for secret in ("hu", "sh", "me:", "me@"):
        assert secret not in shown.replace("***", "").partition("application_name")[0]


@pytest.mark.parametrize("url", HARMLESS)
def test_a_url_without_a_secret_stays_as_it_is(url: str) -> None:
    assert without_passwords(url) == url
    assert not holds_secret(url)
    if "me@" not in url:
        assert without_logins(url) == url


@pytest.mark.parametrize("mark", [*"'\"<>` "])
def test_a_url_that_is_told_is_hidden_to_its_end(mark: str) -> None:
    url = f"memory://me:it{mark}hush@h/x"
    assert url_without_logins(url) == "memory://***@h/x"
    assert CopyPlace(url, "run").url == "memory://***@h/x"
    assert str(Target(url, "experiment", None)) == "memory://***@h/x"
    with pytest.raises(HomeError) as refused:
        CopyPlace(url.replace("memory", "nowhere"), "run")
    assert "hush" not in str(refused.value)


def test_all_urls_of_a_text_are_covered_and_the_rest_stays() -> None:
    text = 'went from "postgresql://me:hu/sh@a:1/db" to http://token@b/x (http://c); num_tokens=3, at 5:30'
    assert without_logins(text) == (
        'went from "postgresql://***@a:1/db" to http://***@b/x (http://c); num_tokens=3, at 5:30'
    )
    words = "connection to host=h user=me password='hu sh' sslpassword=hush failed"
    assert without_logins(words) == "connection to host=h user=me password=*** sslpassword=*** failed"


def test_errors_and_events_quote_no_secret() -> None:
    assert "hush" not in str(LedgerError("postgresql://me:hu/hush@h/db is away"))
    assert "hush" not in EventRecord("failed", "postgresql://h/db?password=hush").text


def test_the_driver_is_given_the_whole_password() -> None:
    pytest.importorskip("psycopg")
    url = make_engine("postgresql://me:hu@sh@h/db").url
    assert (url.password, url.host) == ("hu@sh", "h")


def test_a_password_comes_from_a_file_the_environment_or_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOGIN", raising=False)
    file = tmp_path / "password"
    file.write_text("hu/s@h\n")
    written = "postgresql://me:hu%2Fs%40h@h/db"
    for kept in ("postgresql://me@h/db", "postgresql://me:***@h/db"):
        assert with_login(kept, str(file), "LOGIN") == written
        monkeypatch.setenv("LOGIN", "hu/s@h")
        assert with_login(kept, None, "LOGIN") == written
        monkeypatch.delenv("LOGIN")
        assert with_login(kept, None, "LOGIN") == "postgresql://me@h/db", "libpq looks for itself"
    assert with_login("postgresql://h/db?user=me&password=***", str(file), "LOGIN").endswith("password=hu%2Fs%40h")
    assert with_login("https://me:***@h/team", str(file), "LOGIN") == "https://me:hu%2Fs%40h@h/team"
    assert with_login("https://me:***@h/team", None, "LOGIN") == "https://h/team", "MLflow looks for itself"
    assert with_login("postgresql://me:inline@h/db", str(file), "LOGIN") == "postgresql://me:inline@h/db"
    monkeypatch.setenv("LOGIN", "hush")
    for other in ("sqlite:////data/a@b.db", "http://localhost:5000", "databricks"):
        assert with_login(other, None, "LOGIN") == other
    monkeypatch.delenv("LOGIN")
    remember("mysql://me:hush@h/db")
    assert with_login("mysql://me:***@h/db", None, "LOGIN") == "mysql://me:hush@h/db"


def test_a_password_that_is_nowhere_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOGIN", raising=False)
    with pytest.raises(SecretError, match=r"Set LOGIN to it \(for runs on Ray: on every node, where"):
        with_login("mysql://you:***@h/db", None, "LOGIN")
    with pytest.raises(SecretError, match=r"password_file /no/such/file cannot be read: .*No such file"):
        with_login("mysql://you:***@h/db", "/no/such/file", "LOGIN")
    (tmp_path / "empty").touch()
    with pytest.raises(SecretError, match="is empty"):
        with_login("mysql://you:***@h/db", str(tmp_path / "empty"), "LOGIN")
