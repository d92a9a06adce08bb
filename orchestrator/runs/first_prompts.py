"""Whether the policy's chat template takes what environments ask, tried before a run begins."""

from __future__ import annotations

from collections.abc import Mapping

from environments import Environment, make_task
from policies.encoder import Encoder
from policies.errors import PolicyError

LOOKED_AT = 64  # tasks of an environment whose tasks are at hand; of one that makes them, one a category


def require_readable(environments: Mapping[str, Environment], encoder: Encoder) -> None:
    """Refuse an environment whose first tasks are conversations that the template does not take.

    One conversation of each sequence of roles is tried. Raises PolicyError, with the environment's name.
    """
    for name, environment in environments.items():
        tried: set[tuple[str, ...]] = set()
        categories = environment.categories[:LOOKED_AT]
        for category in categories:
            size = environment.size(category.name)
            for index in range(1 if size is None else min(size, LOOKED_AT // len(categories))):
                messages = make_task(environment, category.name, index).messages
                roles = tuple(message["role"] for message in messages)
                if roles in tried:
                    continue
                tried.add(roles)
                try:
                    encoder.encode(messages)
                except PolicyError as error:
                    raise type(error)(f"{name}: {error}") from error
