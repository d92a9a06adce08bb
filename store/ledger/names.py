"""From the names in records to the keys of the tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy.exc import IntegrityError

from store.errors import LedgerError
from store.ledger.tables import category, environment, holdout, metric_def
from store.metrics import METRICS, Metric, metric
from store.records import EnvironmentRecord, HoldoutRecord

Keys = dict[tuple[str, ...], int]


class RunHandle:
    """A run open for writing: its key, and the keys of the names that it uses. Made by `Ledger`."""

    def __init__(self, run_id: int, name: str, keys: Keys) -> None:
        self.run_id, self.name = run_id, name
        self._keys: Keys = dict(keys)

    def learn(self, keys: Keys) -> None:
        """Add the keys of names that have just been entered."""
        self._keys.update(keys)

    def metric(self, name: str) -> int:
        """Return a metric's key. Raises `UnknownMetric`."""
        return self._keys["metric", metric(name).name]

    def new_metrics(self, names: Iterable[str]) -> list[str]:
        """List those without a row yet: members of a family, which are entered when they are first used."""
        return [name for name in names if ("metric", metric(name).name) not in self._keys]

    def environment(self, name: str | None) -> int:
        """Return an environment's key; None: all of them."""
        return 0 if name is None else self._find("environment", name)

    def category(self, environment: str | None, name: str | None) -> int:
        """Return a category's key; None: all of them."""
        return 0 if environment is None or name is None else self._find("category", environment, name)

    def holdout(self, environment: str, category: str | None, split: str) -> int:
        """Return the key of the tasks behind a cell; a mean over categories has none of its own."""
        if category is None:
            return 0
        if split == "intervened":  # measured once more, on the same tasks
            split = "anchor" if ("holdout", environment, category, "anchor") in self._keys else "own"
        return self._find("holdout", environment, category, split)

    def _find(self, *words: str) -> int:
        if words in self._keys:
            return self._keys[words]
        known = sorted(" / ".join(key[1:]) for key in self._keys if key[0] == words[0])
        asked = " / ".join(words[1:])
        near = get_close_matches(asked, known, 1)
        raise LedgerError(
            f"The run {self.name!r} has no {words[0]} {asked!r}{f', but {near[0]!r}' if near else ''}. "
            f"It has: {', '.join(known) or 'none'}. Tell the ledger of a new one before using it."
        )


def fingerprint(content: Any) -> str:
    """Hash plain data, in hex: the same for the same content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def get_or_create(connection: Connection, table: Table, key: Mapping[str, Any], rest: Mapping[str, Any]) -> int:
    """Return the key of the row with these unique values; make it if need be, also against other writers."""
    id_column = next(iter(table.primary_key.columns))
    query = select(id_column).where(*(table.c[name] == value for name, value in key.items()))
    found = connection.scalar(query)
    if found is None:
        try:
            with connection.begin_nested():
                connection.execute(insert(table).values(**key, **rest))
        except IntegrityError:
            pass  # another process was faster
        found = connection.execute(query).scalar_one()
    return int(found)


def declare_metrics(connection: Connection) -> Keys:
    """Bring `metric_def` up to `store.metrics`; return their keys."""
    known = _metric_rows(connection)
    if missing := [definition for name, definition in METRICS.items() if name not in known]:
        try:
            with connection.begin_nested():
                connection.execute(insert(metric_def), [_columns(definition) for definition in missing])
        except IntegrityError:  # another process enters them too: one by one
            for definition in missing:
                declare_metric(connection, definition.name)
        known = _metric_rows(connection)
    keys: Keys = {}
    for name, definition in METRICS.items():
        values = _columns(definition)
        key = keys["metric", name] = int(known[name].pop("metric_id"))
        if known[name] != values:
            connection.execute(update(metric_def).where(metric_def.c.metric_id == key).values(values))
    return keys


def _metric_rows(connection: Connection) -> dict[str, dict[str, Any]]:
    return {row["name"]: dict(row) for row in connection.execute(select(metric_def)).mappings()}


def declare_metric(connection: Connection, name: str) -> Keys:
    """Make sure that a metric has a row; return its key. Raises `UnknownMetric`."""
    values = _columns(metric(name))
    return {("metric", name): get_or_create(connection, metric_def, {"name": values.pop("name")}, values)}


def _columns(definition: Metric) -> dict[str, Any]:
    values = asdict(definition)
    values["metric_group"] = values.pop("group")
    return values


def declare_environments(connection: Connection, records: Iterable[EnvironmentRecord]) -> Keys:
    """Make sure that environments and their categories have rows; return their keys."""
    keys: Keys = {}
    content: dict[str, Any]
    unique: dict[str, Any]
    for record in records:
        content = {"type": record.type, "closed": record.closed, "options": dict(record.options)}
        unique = {"name": record.name, "version": record.version, "fingerprint": fingerprint(content)}
        parent = get_or_create(connection, environment, unique, content)
        keys["environment", record.name] = parent
        for child in record.categories:
            content = {"trainable": child.trainable, "parameters": dict(child.parameters)}
            unique = {"environment_id": parent, "name": child.name, "fingerprint": fingerprint(content)}
            key = get_or_create(connection, category, unique, content)
            keys["category", record.name, child.name] = key
    return keys


def declare_holdout(connection: Connection, run: RunHandle, record: HoldoutRecord) -> Keys:
    """Make sure that a set of held-out tasks has a row; return its key."""
    unique = {
        "environment_id": run.environment(record.environment),
        "category_id": run.category(record.environment, record.category),
        "purpose": record.purpose,
        "sha256": record.sha256,
    }
    key = get_or_create(connection, holdout, unique, {"num_items": record.num_items})
    return {("holdout", record.environment, record.category, record.purpose): key}
