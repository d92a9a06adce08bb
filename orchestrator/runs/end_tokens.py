"""What a run lacks whose policy has no token that ends an answer: said by a plan, and before a run begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from environments import Environment
from orchestrator.episode_options import Budgets
from policies.config import WarmStartConfig
from policies.model_facts import END_REMEDY, Endings
from store.sentences import listed


def endless_answers(
    environments: Iterable[Environment], endings: Endings | None, budgets: Budgets, model: str
) -> list[str]:
    """Name the environments whose answers only a budget can end; an answer of one token is ended by filling it."""
    if endings is None or endings.stop_ids:
        return []
    names = [one.name for one in environments if budgets.tokens(one) > 1]
    if not names:
        return []
    return [
        f"{model} has no token that ends an answer: every answer to {listed(names)} goes on to its `max_tokens` and "
        f"counts as cut off. {END_REMEDY}"
    ]


def require_end(
    config: WarmStartConfig | None,
    environments: Mapping[str, Environment],
    endings: Endings | None,
    budgets: Budgets,
    model: str,
) -> None:
    """Refuse a warm start on answers that need a token that ends them where there is none."""
    if config is None or endings is None:
        return
    if any(budgets.own_tokens(environments[name]) != 1 for name in config.shares()):
        endings.require_end(model)
