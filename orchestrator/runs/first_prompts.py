"""An environment's first tasks, before a run: made in time, taken by the policy's chat template, how long to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean

from environments import Environment, Message, make_task
from environments.contracts import TOOLS, is_whole
from environments.display import brief
from environments.tools import read_calls
from orchestrator.errors import UserError
from orchestrator.os_signals import OutOfTime, within
from policies.encoder import Encoder
from policies.errors import PolicyError, UnreadablePrompt
from policies.tool_prompts import PROBE

LOOKED_AT = 64  # tasks of an environment whose tasks are at hand; of one that makes them, one a category
LONGEST_S = 10.0  # for one task: a batch of them would take minutes


@dataclass(frozen=True)
class PromptLengths:
    """Tokens of an environment's first prompts."""

    mean: float
    longest: int


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
                if roles[0] == TOOLS:
                    _require_calls(encoder)
                encoder.encode(messages)
                readable.add(roles)
            except UnreadablePrompt as error:
                refused = refused or error
            except PolicyError as error:
                raise type(error)(f"{name}: {error}") from error
        if refused is not None and not readable:
            raise PolicyError(f"{name}: {refused}") from refused


def prompt_lengths(
    environments: Mapping[str, Environment], encoder: Encoder, limits: Mapping[str, int | None]
) -> dict[str, PromptLengths]:
    """Measure each environment's first prompts, without those above its limit, which no run reads."""
    found = {}
    for name, environment in environments.items():
        limit, lengths = limits[name], _readable_lengths(environment, encoder)
        if read := [length for length in lengths if limit is None or length <= limit]:
            found[name] = PromptLengths(fmean(read), max(read))
    return found


def _readable_lengths(environment: Environment, encoder: Encoder) -> Iterator[int]:
    for messages in _first_conversations(environment):
        if is_whole(messages):
            with suppress(UnreadablePrompt):
                yield len(encoder.encode(messages))


def _require_calls(encoder: Encoder) -> None:
    """Refuse a chat template that writes calls of tools in a form in which they are not read."""
    written = encoder.probed_call()
    if written is None:
        return
    found = [{"name": call.name, "arguments": call.arguments} for call in read_calls(written)]
    if found != [PROBE]:
        raise PolicyError(
            "the policy's chat template writes a call of a tool in a form that is not read here, "
            f"{brief(written, 160)!r}: take a model that calls tools as Hermes, Qwen2.5, Llama 3 or Mistral 7B do, or "
            "say `template: none` in the policy section, which tells tools in the words of Hermes"
        )


def _first_conversations(environment: Environment) -> Iterator[Sequence[Message]]:
    categories = environment.categories[:LOOKED_AT]
    for category in categories:
        size = environment.size(category.name)
        for index in range(1 if size is None else min(size, LOOKED_AT // len(categories))):
            yield make_task(environment, category.name, index).messages
