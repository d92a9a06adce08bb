"""Bridges: the token ids between the end of one completion and the beginning of the next.

An episode is a list of ids that only grows, so a conversation is never rendered again as it goes on. What its template
would put between two completions is read off a dummy conversation instead: the environment's messages, the marks around
them, and the white space behind the policy's own end-of-turn token, which it did not write.

That is the same as rendering the whole conversation only where the template appends. One that goes back and changes
earlier turns is refused: Qwen3's drops the reasoning of a turn once another follows, so a policy trained here would
later read conversations that it has never seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from policies.errors import PolicyError

QUESTION = {"role": "user", "content": "?"}
PLAIN = {"role": "assistant", "content": "42"}
REASONING = "Six times seven, let me see."
REASONED = {"role": "assistant", "content": f"<think>\n{REASONING}\n</think>\n\n 42 "}
MOST_KEPT = 4096  # bridges; an environment's messages are often the same few

Reply = tuple[str, str]  # role and content, to look bridges up by


class TurnTokens:
    """The bridges of one chat template.

    Args:
        tokenizer: has the template.
        end_id: the token that ends an answer.
        name: of the policy, for messages.
    """

    def __init__(self, tokenizer: Any, end_id: int | None, name: str) -> None:
        self._tokenizer, self._end_id, self._name = tokenizer, end_id, name
        self._head = self._ends_with(PLAIN)
        self._appends: set[tuple[str, ...]] = (
            set()
        )  # roles of replies that were found to change nothing before them
        self._bridge = lru_cache(MOST_KEPT)(self._read_off)

    def __call__(self, replies: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """Give the ids from behind an end-of-turn token to where the next completion begins.

        Raises:
            PolicyError: the template changes earlier turns when these replies follow, or does not take them.
        """
        return self._bridge(tuple((reply["role"], reply["content"]) for reply in replies))

    def _read_off(self, replies: tuple[Reply, ...]) -> tuple[int, ...]:
        roles = tuple(role for role, _ in replies)
        if roles not in self._appends:
            self._require_appending(roles)
        ids = self._render([QUESTION, PLAIN, *_messages(replies)])
        if not _begins(ids, self._head):
            self._head = self._ends_with(PLAIN)  # a template may tell the date
        if not _begins(ids, self._head):
            raise self._rewrites()
        return ids[len(self._head) :]

    def _require_appending(self, roles: tuple[str, ...]) -> None:
        """Look at a turn with reasoning and with white space at its ends, which templates like to tidy up."""
        conversation = [QUESTION, REASONED, *_messages([(role, "!") for role in roles])]
        ids = self._render(conversation)
        if not _begins(ids, self._ends_with(REASONED)) or REASONING not in self._tokenizer.decode(ids):
            raise self._rewrites()
        self._appends.add(roles)

    def _ends_with(self, answer: Mapping[str, str]) -> tuple[int, ...]:
        """Render a conversation up to and with the end-of-turn token of an answer."""
        ids = self._render([QUESTION, answer], add_generation_prompt=False)
        if self._end_id not in ids:
            raise PolicyError(
                f"{self._name}: its chat template puts no token behind an answer that ends it, so nothing tells where "
                f"an environment's reply belongs. {REMEDY}"
            )
        return ids[: len(ids) - ids[::-1].index(self._end_id)]

    def _render(
        self, conversation: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> tuple[int, ...]:
        from jinja2 import TemplateError  # templates are Jinja's, and rendering them is transformers' matter

        try:
            return tuple(
                self._tokenizer.apply_chat_template(
                    [dict(message) for message in conversation],
                    add_generation_prompt=add_generation_prompt,
                    return_dict=False,
                )
            )
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in conversation)
            raise PolicyError(
                f"{self._name}: its chat template does not take a conversation of these roles: {roles} ({error}). "
                f"{REMEDY}"
            ) from error

    def _rewrites(self) -> PolicyError:
        return PolicyError(
            f"{self._name}: its chat template is not append-only: it changes an answer (drops its reasoning, say) once "
            f"another turn follows, so episodes of several turns cannot be trained on with it. {REMEDY}"
        )


REMEDY = (
    "Take a model whose template keeps every turn as it is (ChatML, as Qwen2.5 has it), save this one's tokenizer with "
    "such a template, or say `template: none` in the policy section"
)


def plain_bridge(tokenizer: Any, replies: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
    """Go on without a template as the prompt began: a blank line before every reply, the answer behind the last."""
    text = "".join(f"\n\n{reply['content']}" for reply in replies)
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)


def _messages(replies: Sequence[Reply]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in replies]


def _begins(ids: Sequence[int], head: Sequence[int]) -> bool:
    return tuple(ids[: len(head)]) == tuple(head)
