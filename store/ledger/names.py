"""From the names in records to the keys of the tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
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


def _get_or_create_all(
    connection: Connection,
    table: Table,
    environment_id: int,
    columns: Sequence[str],
    rest: Mapping[tuple[Any, ...], Mapping[str, Any]],
) -> dict[tuple[Any, ...], int]:
    """Do the same for many rows of an environment, in a few statements: by the values of the unique columns."""
    query = select(*table.primary_key.columns, *(table.c[name] for name in columns))
    query = query.where(table.c.environment_id == environment_id)

    def known() -> dict[tuple[Any, ...], int]:
        return {tuple(values): int(key) for key, *values in connection.execute(query)}

    found = known()
    missing = {values: own for values, own in rest.items() if values not in found}
    if missing:
        parent = {"environment_id": environment_id}
        rows = [{**parent, **dict(zip(columns, values, strict=True)), **own} for values, own in missing.items()]
        try:
            with connection.begin_nested():
                connection.execute(insert(table), rows)
        except IntegrityError:  # another process enters some of them too: one by one
            for values, own in missing.items():
                get_or_create(connection, table, parent | dict(zip(columns, values, strict=True)), own)
        found = known()
    return {values: found[values] for values in rest}


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
        contents = [{"trainable": child.trainable, "parameters": dict(child.parameters)} for child in record.categories]
        children = {(child.name, fingerprint(own)): own for child, own in zip(record.categories, contents, strict=True)}
        found = _get_or_create_all(connection, category, parent, ("name", "fingerprint"), children)
        keys |= {("category", record.name, name): key for (name, _), key in found.items()}
    return keys


def declare_holdouts(connection: Connection, run: RunHandle, records: Iterable[HoldoutRecord]) -> Keys:
    """Make sure that sets of held-out tasks have rows; return their keys."""
    keys: Keys = {}
    by_environment: dict[str, list[HoldoutRecord]] = {}
    for record in records:
        by_environment.setdefault(record.environment, []).append(record)
    for name, own in by_environment.items():
        uniques = [(run.category(name, record.category), record.purpose, record.sha256) for record in own]
        rest = {unique: {"num_items": record.num_items} for unique, record in zip(uniques, own, strict=True)}
        columns = ("category_id", "purpose", "sha256")
        found = _get_or_create_all(connection, holdout, run.environment(name), columns, rest)
        keys |= {
            ("holdout", name, record.category, record.purpose): found[unique]
            for unique, record in zip(uniques, own, strict=True)
        }
    return keys
