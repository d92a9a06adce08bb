"""What a run lacks whose policy has no token that ends an answer: said by a plan, and before a run begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from environments import Environment
from policies.config import WarmStartConfig
from policies.model_facts import END_REMEDY, Endings
from policies.samplers.contracts import SamplerOptions
from store.sentences import listed


def endless_answers(
    environments: Iterable[Environment], endings: Endings | None, options: SamplerOptions, model: str
) -> list[str]:
    """Name the environments whose answers only a budget can end; an answer of one token is ended by filling it."""
    if endings is None or endings.stop_ids:
        return []
    names = [one.name for one in environments if (one.max_tokens or options.max_tokens) > 1]
    if not names:
        return []
    return [
        f"{model} has no token that ends an answer: every answer to {listed(names)} goes on to its `max_tokens` and "
        f"counts as cut off. {END_REMEDY}"
    ]


def require_end(
    config: WarmStartConfig | None, environments: Mapping[str, Environment], endings: Endings | None, model: str
) -> None:
    """Refuse a warm start on answers that need a token that ends them where there is none."""
    if config is None or endings is None:
        return
    if any(environments[name].max_tokens != 1 for name in config.shares()):
        endings.require_end(model)
