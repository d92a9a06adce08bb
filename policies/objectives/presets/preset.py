"""What a named objective is: a line of data over the defaults of `ObjectiveConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One named objective. Texts are sentences for people, without a full stop at the end."""

    about: str  # what it is, in one line
    source: str
    overrides: Mapping[str, Any] = field(default_factory=dict)  # of the defaults of `ObjectiveConfig`
    missing: str | None = (
        None  # what is not verified; None: checked against the authors' or a maintained code
    )
    differs: str | None = None  # where the composition departs from that code on purpose; parts say their own
    entropy: str = "neutral"  # its expected effect on entropy against plain GRPO
    use: str = ""  # when it is the right choice
    beware: str = ""  # its main hazard

    @property
    def verified(self) -> bool:
        """Whether formula and constants were checked against the authors' or a maintained implementation."""
        return self.missing is None
