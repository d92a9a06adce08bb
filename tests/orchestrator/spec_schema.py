"""What a spec may say, as JSON schemas: of the whole, and of the options of every method that a spec can name.

A field that is renamed, or whose default moves, shows here. After a change that is meant, write the file anew with

    python -m tests.orchestrator.spec_schema --write
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from orchestrator import registry
from orchestrator.spec import Spec
from policies.objectives import registry as parts
from policies.objectives.config import ObjectiveConfig

FILE = Path(__file__).with_name("spec_schema.json")


def schemas() -> dict[str, Any]:
    """Collect the schemas, by the name of the model or `kind/name` of the method."""
    found = {
        f"{kind}/{method.name}": registry.config_class(kind, method.name).model_json_schema()
        for kind in registry.KINDS
        for method in registry.listing(kind)
        if method.module.startswith(registry.KINDS[kind].package)  # ours, not an installed package's
    }
    for kind, name in parts.every():
        found[f"objectives/{kind}/{name}"] = parts.load(kind, name).Config.model_json_schema()
    return {"Spec": Spec.model_json_schema(), "objectives": ObjectiveConfig.model_json_schema(), **found}


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit(__doc__)
    FILE.write_text(json.dumps(schemas(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    print(f"wrote {FILE}")
