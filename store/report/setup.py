"""What was run: the main facts, the objective as it was composed, versions, and the whole spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.objective_summary import PARTS, composed, scalar
from store.report.report_data import ReportData
from store.report.safe_text import clipped

LONGEST = 200  # characters of a value in the spec

OBJECTIVE_FIELDS = (*PARTS, "preset")


def objective_parts(material: ReportData) -> list[tuple[str, str]]:
    """The parts of the objective in the order in which they act; those that are off are left out."""
    return composed(material.spec.get("objective") or {})


def objective_options(material: ReportData) -> list[tuple[str, str]]:
    """The options of those parts."""
    section = material.spec.get("objective") or {}
    return [(k, scalar(v)) for k, v in section.items() if k not in OBJECTIVE_FIELDS and v is not None]


def versions(material: ReportData) -> list[tuple[str, str]]:
    """What the run was made on."""
    return [(name, clipped(str(value), LONGEST)) for name, value in material.host.items()]


def spec_outline(material: ReportData) -> list[str]:
    """The resolved spec, as the lines of an indented outline."""
    return _outline(material.spec, 0)


def _outline(value: Mapping[str, Any], depth: int) -> list[str]:
    lines = []
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            lines += [f"{'  ' * depth}{key}:", *_outline(inner, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{key}: {clipped(scalar(inner), LONGEST)}")
    return lines
