"""From conversations to token ids: a tokenizer and a template, with no weights needed.

An episode of several turns is a list of ids that only grows. What its template would put between two completions is
read off a dummy conversation, which equals rendering the whole one only where the template appends. One that changes
earlier turns is refused: Qwen3's drops the reasoning of a turn once another follows, Mistral's moves the system message
to the last question, so a policy trained here would later read conversations that it has never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any, Literal

from jinja2 import Environment, TemplateError, meta, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser

from policies import tool_prompts
from policies.errors import PolicyError, UnreadablePrompt

SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION = {"role": "user", "content": "?"}
PLAIN = {"role": "assistant", "content": "42"}
REASONING = "Six times seven, let me see."
REASONED = {"role": "assistant", "content": f"<think>\n{REASONING}\n</think>\n\n 42 "}
KINDS = {"string", "none", "defined", "undefined", "mapping", "sequence", "iterable"}  # what a content may be at all
NO_ROW = "a token without a row in the policy's embedding"
MOST_KEPT = 4096  # replies in tokens; an environment's messages are often the same few
TEMPLATE_NONE = "`template: none` in the policy section"
REMEDY = (
    "Take a model whose template keeps every turn as it is (ChatML, as Qwen2.5 has it), save this one's tokenizer with "
    f"such a template, or say {TEMPLATE_NONE}"
)

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": text}


@dataclass(frozen=True)
class Example:
    """One conversation and the answer to learn."""

    messages: Sequence[Message]
    answer: str
    ends: bool = True  # whether the end-of-turn token belongs to it; not where a reply is one token long


@dataclass(frozen=True)
class Opening:
    """What stands before the question of a conversation as a chat template gets it."""

    has_tools: bool = False
    has_system: bool = False


@dataclass(frozen=True)
class Encoder:
    """What reads prompts for a policy. The chat template is applied here and nowhere else."""

    tokenizer: Any  # of the transformers library
    template: Literal["chat", "none"]
    check_text: Callable[[str], None] | None = None  # raises for text that the tokenizer would drop
    num_rows: int | None = None  # of the policy's embedding, one for each token id; None: not known

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Give the token ids of a conversation, up to where the policy's next answer begins.

        A first message of the role `tools` is what the template gets as `tools=`; told in words where it knows none.
        Raises UnreadablePrompt where the template does not take it, or the embedding has no row for one of its tokens.
        """
        given, (schemas, messages) = messages, self.parted(messages)
        if self.check_text is not None:
            for message in messages:
                self.check_text(message["content"])
        if self.template == "none":
            text = "\n\n".join(message["content"] for message in messages)
            return self.within(self.tokenizer(text).input_ids)
        turns = [dict(message) for message in messages]
        try:
            ids = self._render(turns, schemas, add_generation_prompt=True)
        except TemplateError as error:  # as templates say that they have no system messages
            roles = [message["role"] for message in messages]
            remedy = "ask by other roles"
            if "system" in roles:
                remedy = 'leave the system message out (`system: ""`) and say in the prompt what it says'
            if not schemas and tool_prompts.split(given)[0]:
                remedy = "take a model whose chat template knows tools, which are told in a system message otherwise"
            kind = f"the policy's chat template refuses a conversation of {', '.join(roles)}"
            raise UnreadablePrompt(kind, str(error), f"{remedy}, or say {TEMPLATE_NONE}") from error
        return self.within(ids)

    def parted(self, messages: Sequence[Message]) -> tuple[Sequence[Mapping[str, Any]], Sequence[Message]]:
        """Part a conversation into tools that the template gets, and what is said, with those that it does not know."""
        schemas, said = tool_prompts.split(messages)
        return ([], tool_prompts.told(messages)) if schemas and not self.takes_tools() else (schemas, said)

    def opening(self, messages: Sequence[Message]) -> Opening:
        """Say what stands before the question of a conversation as the template gets it."""
        schemas, said = self.parted(messages)
        return Opening(bool(schemas), any(message["role"] == "system" for message in said))

    def takes_tools(self) -> bool:
        """Whether tools are given to the chat template, which writes them as its model knows them."""
        return self.template == "chat" and _asks_for_tools(
            self.tokenizer.get_chat_template(tools=[tool_prompts.PROBED])
        )

    def probed_call(self) -> str | None:
        """Give the call `tool_prompts.PROBE` as the template writes it in an answer, read as completions are.

        None where it takes no tools; raises UnreadablePrompt where it writes no calls.
        """
        if not self.takes_tools():
            return None
        schemas = [tool_prompts.PROBED]
        try:
            asked = self._render([QUESTION], schemas, add_generation_prompt=True)
            answered = self._render([QUESTION, tool_prompts.CALLING], schemas, add_generation_prompt=False)
        except TemplateError as error:
            remedy = f"say {TEMPLATE_NONE}"
            raise UnreadablePrompt("the policy's chat template refuses a call of a tool", str(error), remedy) from error
        text: str = self.tokenizer.decode(answered[len(_common(asked, answered)) :], skip_special_tokens=True)
        return text

    def _render(
        self, turns: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool
    ) -> tuple[int, ...]:
        options: dict[str, Any] = {"add_generation_prompt": add_generation_prompt, "return_dict": False}
        if tools:
            options["tools"] = list(tools)
        return tuple(self.tokenizer.apply_chat_template(list(turns), **options))

    def within(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Give token ids back; UnreadablePrompt where the embedding has no row for one: a special token written out."""
        last = max(ids, default=0)
        if self.num_rows is not None and last >= self.num_rows:
            token = self.tokenizer.convert_ids_to_tokens(last)
            detail = f"{token!r} has the id {last}, and its rows are for ids up to {self.num_rows - 1}"
            remedy = "take it out of the text, or call `model.resize_token_embeddings` and save the model again"
            raise UnreadablePrompt(NO_ROW, detail, remedy)
        return tuple(ids)

    def may_refuse_content(self) -> bool:
        """Whether the template can refuse a conversation for what is said in it, and not only for who says it.

        That is so where it raises below a condition on `content`, or on what is set by it, other than whether that is
        a text at all.
        """
        if self.template == "none":
            return False
        template = SYNTAX.parse(self.tokenizer.get_chat_template())
        asked_of = {"content"}
        for assignment in template.find_all(nodes.Assign):
            if _asks(assignment.node, asked_of):
                asked_of |= {name.name for name in assignment.find_all(nodes.Name) if name.ctx == "store"}
        return _raises(template, asked_of, is_asked=False)

    def without_row(self) -> tuple[str, ...]:
        """List the tokens for which the embedding has no row, as they stand in texts."""
        num_rows = self.num_rows
        return () if num_rows is None else tuple(t for t, i in self.tokenizer.get_vocab().items() if i >= num_rows)

    def num_tokens(self, text: str) -> int:
        """Count the tokens of a text, without what a template puts around it."""
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)


def require_template(tokenizer: Any, template: str, name: str) -> None:
    """Refuse a chat without a chat template."""
    if template == "chat" and tokenizer.chat_template is None:
        raise PolicyError(
            f"{name}: its tokenizer has no chat template (it is a base model, perhaps). "
            f"Say {TEMPLATE_NONE} to give it plain text"
        )


class TurnTokens:
    """The token ids between the end of one completion (`end_id`) and the beginning of the next, by a chat template."""

    def __init__(self, tokenizer: Any, end_id: int | None, name: str) -> None:
        self._tokenizer, self._end_id, self._name = tokenizer, end_id, name
        self._heads: dict[Opening, tuple[int, ...]] = {}  # up to the end of a first answer
        self._appends: set[tuple[Opening, tuple[str, ...]]] = set()  # roles of replies found to change nothing
        self._tokens = lru_cache(MOST_KEPT)(self._read_off)

    def __call__(self, replies: Sequence[Message], opening: Opening) -> tuple[int, ...]:
        """Give the ids from behind an end-of-turn token to where the next completion begins.

        Raises `PolicyError`: the template changes earlier turns when these replies follow, or does not take them.
        """
        return self._tokens(tuple((reply["role"], reply["content"]) for reply in replies), opening)

    def _read_off(self, replies: tuple[tuple[str, str], ...], opening: Opening) -> tuple[int, ...]:
        roles = tuple(role for role, _ in replies)
        if (opening, roles) not in self._appends:
            # a turn with reasoning and with white space at its ends, which templates like to tidy up
            ids = self._render(opening, [REASONED, *({"role": role, "content": "!"} for role in roles)])
            asked = _common(*(self._render(opening, [], add_generation_prompt=goes_on) for goes_on in (True, False)))
            is_kept = _begins(ids, asked) and _begins(ids, self._ends_with(opening, REASONED))
            if not is_kept or REASONING not in self._tokenizer.decode(ids):
                raise self._rewrites(opening)
            self._appends.add((opening, roles))
        ids = self._render(opening, [PLAIN, *({"role": role, "content": text} for role, text in replies)])
        if opening not in self._heads or not _begins(ids, self._heads[opening]):
            self._heads[opening] = self._ends_with(opening, PLAIN)  # again: a template may tell the date
        if not _begins(ids, self._heads[opening]):
            raise self._rewrites(opening)
        return ids[len(self._heads[opening]) :]

    def _ends_with(self, opening: Opening, answer: Message) -> tuple[int, ...]:
        """Render a conversation up to and with the end-of-turn token of an answer."""
        ids = self._render(opening, [answer], add_generation_prompt=False)
        if self._end_id not in ids:
            raise PolicyError(
                f"{self._name}: its chat template puts no token behind an answer that ends it, so nothing tells where "
                f"an environment's reply belongs. {REMEDY}"
            )
        return ids[: len(ids) - ids[::-1].index(self._end_id)]

    def _render(
        self, opening: Opening, turns: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> tuple[int, ...]:
        said = [*([SYSTEM] if opening.has_system else []), QUESTION, *turns]
        options: dict[str, Any] = {"add_generation_prompt": add_generation_prompt, "return_dict": False}
        if opening.has_tools:
            options["tools"] = [tool_prompts.PROBED]
        try:
            return tuple(self._tokenizer.apply_chat_template([dict(turn) for turn in said], **options))
        except TemplateError as error:
            roles = ", ".join(turn["role"] for turn in said)
            raise PolicyError(
                f"{self._name}: its chat template does not take a conversation of these roles: {roles} ({error}). "
                f"{REMEDY}"
            ) from error

    def _rewrites(self, opening: Opening) -> PolicyError:
        leaves_out = 'Leave the system message out (`system: ""`) if it is what moves. ' if opening.has_system else ""
        return PolicyError(
            f"{self._name}: its chat template is not append-only: it changes what came before (drops the reasoning of "
            "an answer, moves the system message or tools to the last question, say) once another turn follows, so "
            f"episodes of several turns cannot be trained on with it. {leaves_out}{REMEDY}"
        )


def plain_turn_tokens(tokenizer: Any, replies: Sequence[Message]) -> tuple[int, ...]:
    """Go on without a template as the prompt began: a blank line before every reply, the answer behind the last."""
    text = "".join(f"\n\n{reply['content']}" for reply in replies)
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)


class GenerationTag(Extension):
    """`{% generation %}`, by which templates mark what the policy wrote; the Transformers library adds it to Jinja."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """Take the statement as what stands inside it."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


@lru_cache(16)
def _asks_for_tools(template: str) -> bool:
    return "tools" in meta.find_undeclared_variables(SYNTAX.parse(template))


SYNTAX = Environment(extensions=[LoopControlExtension, GenerationTag])  # parses chat templates, renders none


def _raises(node: nodes.Node, asked_of: Set[str], *, is_asked: bool) -> bool:
    """Whether a part of a template raises below a condition on what some names stand for, or itself stands there."""
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "raise_exception":
        return is_asked
    if isinstance(node, nodes.If):  # a branch depends on the conditions before it too
        for branch in (node, *node.elif_):
            is_asked = is_asked or _asks(branch.test, asked_of)
            if any(_raises(child, asked_of, is_asked=is_asked) for child in branch.body):
                return True
        return any(_raises(child, asked_of, is_asked=is_asked) for child in node.else_)
    if isinstance(node, nodes.CondExpr):
        is_asked = is_asked or _asks(node.test, asked_of)
    elif isinstance(node, nodes.For):
        is_asked = is_asked or _asks(node.iter, asked_of)
    return any(_raises(child, asked_of, is_asked=is_asked) for child in node.iter_child_nodes())


def _asks(node: nodes.Node, names: Set[str]) -> bool:
    """Whether an expression depends on something of these names, other than on what kind of thing it is."""
    if isinstance(node, nodes.Test) and node.name in KINDS:
        return False
    match node:
        case nodes.Name(name=name) | nodes.Getattr(attr=name) | nodes.Const(value=name) if name in names:
            return True
    return any(_asks(child, names) for child in node.iter_child_nodes())


def _common(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """Give the ids with which both begin."""
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _begins(ids: Sequence[int], head: Sequence[int]) -> bool:
    return tuple(ids[: len(head)]) == tuple(head)
