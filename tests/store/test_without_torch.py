from __future__ import annotations

import pkgutil
import subprocess
import sys

import store

BLOCKED = ("torch", "transformers", "mlflow", "orchestrator", "environments", "policies")
CODE = """
import importlib, sys
for name in {blocked}: sys.modules[name] = None
for name in {modules}: importlib.import_module(name)
"""


def test_all_of_the_store_imports_without_torch_and_the_other_packages() -> None:
    found = (module.name for module in pkgutil.walk_packages(store.__path__, "store."))
    modules = [name for name in found if not name.startswith("store.ledger.migrations.")]  # Alembic's own
    assert "store.ledger.queries" in modules
    subprocess.run([sys.executable, "-c", CODE.format(blocked=BLOCKED, modules=modules)], check=True)
