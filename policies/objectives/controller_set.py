"""The controllers of an objective: each moves one coefficient by one reading, once a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policies.objectives.config import ObjectiveConfig
from policies.objectives.entropy_reading import ENTROPY, ENTROPY_NATS, EntropyReading, logged
from policies.objectives.errors import ObjectiveError


class ControllerSet:
    """All controllers of a run; empty where nothing is controlled."""

    def __init__(self, config: ObjectiveConfig) -> None:
        self._config = config
        self._controllers = config.create_controllers()

    def __len__(self) -> int:
        return len(self._controllers)

    def values(self) -> dict[str, float]:
        """The coefficients as they act now, by the option that they are."""
        return {
            str(knob): controller.value
            for knob, controller in zip(self._config.knobs, self._controllers, strict=True)
        }

    def observe(
        self, reading: EntropyReading | float | None, measured: Mapping[str, float]
    ) -> dict[str, float]:
        """Move all coefficients for the next step, and return what to log about this one.

        Logged: the coefficients that acted in this step, whether they stood at a bound, targets and the reading; of a
        second controller with `_2` behind the name. A plain number for a reading is the fraction of the start.
        """
        read = logged(reading)
        log = dict(read)
        for number, controller in enumerate(self._controllers, start=1):
            suffix = "" if number == 1 else f"_{number}"
            log[f"coefficient{suffix}"] = controller.value
            log[f"coefficient_at_bound{suffix}"] = float(controller.is_at_bound)
            if controller.target is not None:
                kind = "entropy" if controller.reads in (ENTROPY, ENTROPY_NATS) else "control"
                log[f"{kind}_target{suffix}"] = controller.target
            controller.update({**measured, **read}.get(controller.reads or ""))
        return log

    def rescale(self) -> None:
        """Tell all controllers that readings are on another scale from now on; coefficients stay."""
        for controller in self._controllers:
            controller.rescale()

    def state(self) -> list[dict[str, Any]]:
        """All that is needed to go on identically, as JSON."""
        return [controller.state() for controller in self._controllers]

    def load_state(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Go on from a saved state; `ObjectiveError` when it is another objective's."""
        if len(state) != len(self._controllers):
            raise ObjectiveError(
                f"the saved objective had {len(state)} controllers and this one has {len(self._controllers)}: resume "
                "with the spec of the run"
            )
        for controller, saved in zip(self._controllers, state, strict=True):
            controller.load_state(saved)

    def describe(self) -> list[dict[str, Any]]:
        """What controls what, as plain data."""
        return [
            {"type": config.type, "source": config.method.source, "knob": knob} | config.options
            for config, knob in zip(self._config.controllers, self._config.knobs, strict=True)
        ]
