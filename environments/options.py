"""Options that environments share, and how a text answer is asked for and read back."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from environments.contracts import Message

OPEN, CLOSE = "<answer>", "</answer>"
ASK_FOR_TAGS = f"Give your final answer between {OPEN} and {CLOSE}."
ASK_FOR_BOX = r"Put your final answer into \boxed{}."
BOX = ("\\boxed{", "}")
FENCE = "```"  # of a code block in Markdown: with a language on the line, up to the next fence
FRAMES = {"tag": (OPEN, CLOSE), "boxed": BOX}  # what an answer stands between
ASKING = {"tag": ASK_FOR_TAGS, "boxed": ASK_FOR_BOX}
# What opens and closes in LaTeX; a brace after a backslash is a character like any other.
BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


class Options(BaseModel):
    """Base of every environment's `Config`: unknown keys are errors, numbers may stand for names (`{3: ...}`)."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        coerce_numbers_to_str=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    _folder: str | None = PrivateAttr(default=None)

    def within(self, folder: str | None) -> Self:
        """Take relative paths, and functions of the user's own, from the spec's folder."""
        inside = self.model_copy()
        inside._folder = folder
        return inside

    @property
    def folder(self) -> str | None:
        """Where relative paths begin; None: the current folder."""
        return self._folder

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables that the options name, as that of a token; the checker's scoring processes see them."""
        return ()


class TextOptions(Options):
    """What every environment of text answers takes."""

    answer: Literal["raw", "tag", "boxed"] = "raw"
    """`raw`: the whole reply is the answer; `tag`: what stands inside the last <answer>...</answer>; `boxed`: inside
    the last whole \\boxed{...}."""
    system: str | None = None
    """System prompt; null under `tag` or `boxed`: one line that asks for the tags or the box."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Reply budget in tokens; null: the sampler's."""
    # while it is None it is as if the option did not exist, in versions and fingerprints too
    max_prompt_tokens: int | None = Field(default=None, ge=1, exclude_if=lambda value: value is None)
    """Tasks with longer prompts are left out; null: the sampler's, or what the policy's context leaves."""

    def conversation(self, question: str) -> tuple[Message, ...]:
        """Put a question to the policy, after the system prompt if there is one."""
        system = ASKING.get(self.answer) if self.system is None else self.system
        user: Message = {"role": "user", "content": question}
        return ({"role": "system", "content": system}, user) if system else (user,)

    def read(self, completion: str) -> str | None:
        """Find the answer in a completion, outer white space removed; None where tags or box are missing."""
        if self.answer == "raw":
            return completion.strip()
        if self.answer == "boxed":
            return last_boxed(completion)
        end = completion.rfind(CLOSE)
        start = completion.rfind(OPEN, 0, max(end, 0))
        return completion[start + len(OPEN) : end].strip() if start >= 0 else None

    def write(self, answer: str) -> str:
        """Give the shortest reply that `read` reads as this answer."""
        begin, end = FRAMES.get(self.answer, ("", ""))
        return f"{begin}{answer}{end}"


def last_boxed(completion: str) -> str | None:
    r"""Find what stands in the \boxed{...} that begins last and is closed; in time linear in the text."""
    found: tuple[int, int] | None = None
    opened: list[int | None] = []  # where the content of a box begins; None for any other brace
    for match in BRACES.finditer(completion):
        brace = match[0]
        if brace == "}":
            begin = opened.pop() if opened else None
            if begin is not None and (found is None or begin > found[0]):
                found = begin, match.start()
        elif brace.endswith("{") and (brace == "{" or brace.startswith(r"\boxed")):
            opened.append(match.end() if len(brace) > 1 else None)
    return completion[slice(*found)].strip() if found else None


def last_block(text: str, languages: Collection[str]) -> str | None:
    """Give the last code block in one of the languages or in none that is named, in linear time; one cut off counts."""
    for piece in reversed(text.split(FENCE)[1::2]):  # what stands after the first, third, ... fence
        language, newline, body = piece.partition("\n")
        if newline and language.strip().lower() in {"", *languages}:
            return body
    return None
