"""An SQLite database that can be read and not written to: on a read-only mount, or in a folder of somebody else."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from store.errors import LedgerError


def read_only_uri(path: Path) -> str | None:
    """Return the URI that SQLite opens such a database by; None: it can be written to, or is not there.

    The newest transactions of a database may lie beside it, in its WAL. SQLite reads those with the help of a third
    file, which it could not make here; without a WAL it is told that nobody writes. Raises `LedgerError`.
    """
    if not path.exists() or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return None
    wal, shm = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    if not wal.exists() or not wal.stat().st_size:
        return f"{uri}&immutable=1"
    if not shm.exists():
        raise LedgerError(
            f"The newest rows of the ledger {path} are in {wal.name}, which SQLite cannot read without {shm.name}, nor "
            "make that in a folder it cannot write to. Copy both files to a folder that can be written to."
        )
    return uri
