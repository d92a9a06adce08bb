"""How samples of training are drawn, of which its entropy is: a boundary measures that of the policy itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PLAIN_SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}  # the policy's own distribution

Sampling = Mapping[str, Any]  # the same options


def sampling_of(spec: Mapping[str, Any]) -> Sampling:
    """Read it from a spec."""
    said = spec.get("sampler", {})
    return {option: said.get(option, plain) for option, plain in PLAIN_SAMPLING.items()}


def is_plain(ways: Sequence[Sampling]) -> bool:
    """Whether samples come from the policy itself, temperature 1 and nothing cut off, all the time."""
    return all(way == PLAIN_SAMPLING for way in ways)


def sampling_in_words(ways: Sequence[Sampling]) -> str:
    """Name ways in their order: temperature 0.7 and top_p 0.9, then temperature 1."""
    return ", then ".join(
        " and ".join(
            f"{option} {value:g}"
            for option, value in way.items()
            if option == "temperature" or value != PLAIN_SAMPLING[option]
        )
        for way in ways
    )
