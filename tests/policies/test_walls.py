from __future__ import annotations

import json
import subprocess
import sys

import pytest

IMPORT_ALL = """
import importlib, json, pkgutil, sys
import policies
for module in pkgutil.walk_packages(policies.__path__, "policies."):
    importlib.import_module(module.name)
print(json.dumps(sorted(sys.modules)))
"""

IMPORT_OPTIONS = """
import json, sys
import policies.config, policies.samplers.transformers, policies.samplers.vllm, policies.objectives.contracts
import policies.samplers.vllm_server, policies.samplers.serving.worker_extension, policies.samplers.serving.supervisor
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_by(script: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_no_module_of_the_package_imports_another_package_or_the_store_of_a_run() -> None:
    modules = loaded_by(IMPORT_ALL)
    found = {name.partition(".")[0] for name in modules}
    assert "torch" in found
    # scikit-learn is not on the list: transformers loads it where it is installed
    assert not found & {"orchestrator", "store", "sqlalchemy", "mlflow", "alembic", "vllm"}
    plugins = {
        "environments",
        "environments.plugins",
        "environments.user_code",
    }  # how a user's own code is found
    assert {name for name in modules if name.partition(".")[0] == "environments"} <= plugins


def test_reading_options_does_not_load_torch() -> None:
    found = loaded_by(IMPORT_OPTIONS)
    assert "pydantic" in found
    assert not found & {"torch", "transformers", "aiohttp"}
