"""Whether environments make their tasks in time, and the policy's chat template takes them, tried before a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from environments import Environment, Message, make_task
from environments.contracts import is_whole
from orchestrator.errors import UserError
from orchestrator.os_signals import OutOfTime, within
from policies.encoder import Encoder
from policies.errors import PolicyError, UnreadablePrompt

LOOKED_AT = 64  # tasks of an environment whose tasks are at hand; of one that makes them, one a category
LONGEST_S = 10.0  # for one task: a batch of them would take minutes


def require_quick(environments: Mapping[str, Environment]) -> None:
    """Refuse an environment that makes its tasks, if the first of a category is not there in time. Raises UserError."""
    for name, environment in environments.items():
        for category in environment.categories[:LOOKED_AT]:
            if environment.size(category.name) is not None:
                continue
            try:
                with within(LONGEST_S):
                    make_task(environment, category.name, 0)
            except OutOfTime as late:
                raise UserError(
                    f"{name}: the first task of category {category.name} is not made after {LONGEST_S:g} s, and every "
                    "step needs several: make its options smaller; what is loaded once belongs into the environment's "
                    "`open`, which may take long"
                ) from late


def require_readable(environments: Mapping[str, Environment], encoder: Encoder) -> None:
    """Refuse an environment of whose first tasks the policy can read none, because of how they are asked.

    One conversation of each sequence of roles is tried. Where others can be read, those that cannot are left out, as
    too long ones are. Raises PolicyError, with the environment's name.
    """
    for name, environment in environments.items():
        readable: set[tuple[str, ...]] = set()
        refused: UnreadablePrompt | None = None
        for messages in _first_conversations(environment):
            roles = tuple(message["role"] for message in messages)
            if roles in readable or not is_whole(messages):
                continue
            try:
                encoder.encode(messages)
                readable.add(roles)
            except UnreadablePrompt as error:
                refused = refused or error
            except PolicyError as error:
                raise type(error)(f"{name}: {error}") from error
        if refused is not None and not readable:
            raise PolicyError(f"{name}: {refused}") from refused


def _first_conversations(environment: Environment) -> Iterator[Sequence[Message]]:
    categories = environment.categories[:LOOKED_AT]
    for category in categories:
        size = environment.size(category.name)
        for index in range(1 if size is None else min(size, LOOKED_AT // len(categories))):
            yield make_task(environment, category.name, index).messages
