"""docker-compose.yml, where there is no Docker: its shape, and what containers are told, up to a real PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import pytest
import yaml
from sqlalchemy import create_engine, make_url, text

from store.logins import with_login
from tests.services import PROGRAMS, Postgres, free_port

REPOSITORY = Path(__file__).parents[1]
PASSWORDS = ("evergreen", "p@ss:w/o?r#d", "100%25 'quoted' \"twice\"", "$HOME ${x} $$ \\", "schlüssel")

# Of the Compose Specification's schema, what our file uses; there too, a key that is not listed is refused.
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1}
_DURATION = {"type": "string", "pattern": r"^(\d+(us|ms|s|m|h))+$"}


def _map(properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> Mapping[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


_CONDITIONS = {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}
_SERVICE = _map(
    {
        "image": _TEXT,
        "build": _map({"dockerfile_inline": _TEXT}, ("dockerfile_inline",)),
        "environment": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
        "command": _TEXTS,
        "ports": _TEXTS,
        "volumes": _TEXTS,
        "depends_on": {"type": "object", "additionalProperties": _map({"condition": _CONDITIONS}, ("condition",))},
        "healthcheck": _map(
            {
                "test": {**_TEXTS, "contains": {"enum": ["CMD", "CMD-SHELL"]}},
                **dict.fromkeys(("interval", "timeout", "start_period"), _DURATION),
                "retries": {"type": "integer"},
            },
            ("test",),
        ),
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
    }
)
SCHEMA = _map(
    {
        "services": {"type": "object", "additionalProperties": _SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
    },
    ("services",),
)

File = dict[str, Any]


@pytest.fixture(scope="module")
def written() -> File:
    return dict(yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text()))


def read(written: Any, variables: Mapping[str, str]) -> Any:
    """Fill in variables as Compose does: a value is put in as it is, and not read again."""
    if isinstance(written, str):
        given = re.compile(r"\$(?:(\$)|\{(\w+):-([^}]*)\})")
        assert "$" not in given.sub("", written), "a form that this reading does not know"
        return given.sub(lambda m: "$" if m[1] else variables.get(m[2]) or m[3], written)
    if isinstance(written, dict):
        return {key: read(value, variables) for key, value in written.items()}
    return [read(value, variables) for value in written] if isinstance(written, list) else written


def test_it_is_a_compose_file(written: File) -> None:
    jsonschema.validate(written, SCHEMA)
    services, volumes = written["services"], written["volumes"]
    assert all(("image" in service) != ("build" in service) for service in services.values())
    used = {volume.partition(":")[0] for service in services.values() for volume in service["volumes"]}
    assert used == set(volumes)
    assert all(name in services for service in services.values() for name in service.get("depends_on", ()))


def test_everyone_waits_for_health(written: File) -> None:
    services = written["services"]
    assert all("healthcheck" in service for service in services.values())
    assert services["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    kind, python, flag, code = services["mlflow"]["healthcheck"]["test"]
    assert (kind, python, flag) == ("CMD", "python", "-c")  # the image has no curl
    compile(code, "healthcheck", "exec")


def test_mlflow_is_the_version_that_is_tested(written: File) -> None:
    pins = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().split() if "==" in line)
    dockerfile = written["services"]["mlflow"]["build"]["dockerfile_inline"]
    assert f" mlflow=={pins['mlflow']} " in dockerfile


@pytest.mark.parametrize("password", PASSWORDS)
def test_any_password_reaches_both_and_no_url(written: File, password: str) -> None:
    services = read(written, {"EVERGREEN_LEDGER_PASSWORD": password})["services"]
    database, mlflow = (services[name]["environment"] for name in ("postgres", "mlflow"))
    url = make_url(mlflow["MLFLOW_BACKEND_STORE_URI"])
    assert (database["POSTGRES_PASSWORD"], mlflow["PGPASSWORD"], url.password) == (password, password, None)
    assert (url.username, url.database) == (database["POSTGRES_USER"], database["POSTGRES_DB"])
    assert (url.host, url.port) == ("postgres", 5432)


def test_the_head_says_what_works(written: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its URL names the user and the database that are made, and the variable is the one that the ledger reads."""
    head = (REPOSITORY / "docker-compose.yml").read_text().partition("services:")[0]
    (url,) = re.findall(r"ledger\.url=(\S+)", head)
    database = read(written, {})["services"]["postgres"]["environment"]
    assert (make_url(url).username, make_url(url).database) == (database["POSTGRES_USER"], database["POSTGRES_DB"])
    assert database["POSTGRES_PASSWORD"] == "evergreen"
    (variable,) = set(re.findall(r"export (\w+)=", head))
    monkeypatch.setenv(variable, PASSWORDS[1])
    assert make_url(with_login(url, None, "EVERGREEN_LEDGER_PASSWORD")).password == PASSWORDS[1]


def test_nobody_else_on_the_network_is_served_unless_asked(written: File) -> None:
    for variables, address in (({}, "127.0.0.1"), ({"EVERGREEN_LISTEN": "0.0.0.0"}, "0.0.0.0")):
        services = read(written, variables)["services"]
        assert [service["ports"] for service in services.values()] == [
            [f"{address}:5432:5432"],
            [f"{address}:5000:5000"],
        ]


# --- a PostgreSQL that asks for its password ---


@pytest.fixture(params=PASSWORDS[1:])
def postgres(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A server with one of the passwords, made as the image makes it: from a file. Its password and its port."""
    pytest.importorskip("psycopg")
    with TemporaryDirectory() as folder:  # not pytest's own, which another pytest shuts to the server's user
        server = Postgres(Path(folder) / "postgres", free_port(), request.param)
        server.start()
        yield server.password, server.port
        server.stop()


@pytest.mark.slow
@pytest.mark.skipif(PROGRAMS is None, reason="no PostgreSQL server is installed")
def test_mlflow_s_url_and_environment_open_the_database(
    written: File, postgres: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    password, port = postgres
    mlflow = read(written, {"EVERGREEN_LEDGER_PASSWORD": password})["services"]["mlflow"]["environment"]
    named = make_url(mlflow["MLFLOW_BACKEND_STORE_URI"])
    url = named.set(drivername="postgresql+psycopg", host="127.0.0.1", port=port, database="postgres")
    for given, is_let_in in ((mlflow["PGPASSWORD"], True), (password + "x", False)):
        monkeypatch.setenv("PGPASSWORD", given)
        engine = create_engine(url)
        if is_let_in:
            with engine.connect() as connection:
                assert connection.execute(text("SELECT current_user")).scalar_one() == "evergreen"
        else:
            with pytest.raises(Exception, match="password authentication failed"):
                engine.connect()
        engine.dispose()
