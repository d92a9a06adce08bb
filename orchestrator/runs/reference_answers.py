"""Reference answers that the policy could not give, because its budget of tokens ends before: for a plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from environments import Environment, make_task
from environments.contracts import is_whole
from environments.rewards.contracts import RESULT_ALONE, SOLUTION_MARK
from orchestrator.episode_options import Budgets
from policies.encoder import Encoder

LOOKED_AT = 64  # tasks of an environment
MOST = 0.5  # share of the answers that were looked at: shorter ones may be as good as the others


def too_long_answers(environments: Iterable[Environment], encoder: Encoder | None, budgets: Budgets) -> list[str]:
    """Name the environments whose reference answers are too long; without a tokenizer nothing is known of them."""
    if encoder is None:
        return []
    told = (_told(one, encoder, budgets.tokens(one)) for one in environments)
    return [text for text in told if text is not None]


def _told(environment: Environment, encoder: Encoder, max_tokens: int) -> str | None:
    """Say how many of the first tasks' reference answers have more tokens than an answer may; None: not most."""
    answers = [*_answers(environment)]
    longer = [text for text in answers if encoder.num_tokens(text) > max_tokens]
    if len(longer) <= MOST * len(answers):
        return None
    said = (
        f"{environment.name}: {len(longer) / len(answers):.0%} of the reference answers are longer than max_tokens "
        f"{max_tokens} (of {len(answers)} looked at), so the policy cannot give them: raise it"
    )
    if not any(SOLUTION_MARK in text for text in longer):
        return said
    return f"{said}, or take only what is behind {SOLUTION_MARK}: {RESULT_ALONE}"


def _answers(environment: Environment) -> Iterator[str]:
    """Give the reference answers of the first tasks, of as many categories as can be."""
    categories = environment.categories[:LOOKED_AT]
    each = LOOKED_AT // len(categories)
    for category in categories:
        size = environment.size(category.name)
        for index in range(each if size is None else min(each, size)):
            answer = make_task(environment, category.name, index).answer
            if answer is not None and is_whole(answer):
                yield answer
