"""Options that environments share, and how a text answer is asked for and read back.

Here are only pydantic bases; the options of one environment are the `Config` of its own file.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from environments.contracts import Message

OPEN, CLOSE = "<answer>", "</answer>"
ASK_FOR_TAGS = f"Give your final answer between {OPEN} and {CLOSE}."


class Options(BaseModel):
    """Base of every environment's `Config`: unknown keys are errors, numbers may stand for names (`{3: ...}`)."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, coerce_numbers_to_str=True, use_attribute_docstrings=True
    )

    def within(self, folder: str | None) -> Self:
        """Take relative paths as seen from the spec's folder; most options have none."""
        return self


class TextOptions(Options):
    """What every environment of text answers takes."""

    answer: Literal["raw", "tag"] = "raw"
    """`raw`: the whole reply is the answer; `tag`: what stands inside the last <answer>...</answer>."""
    system: str | None = None
    """System prompt; none given under `tag`: one line that asks for the tags."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Reply budget in tokens; none given: the sampler's."""

    def conversation(self, question: str) -> tuple[Message, ...]:
        """Put a question to the policy, after the system prompt if there is one."""
        system = self.system if self.system is not None or self.answer == "raw" else ASK_FOR_TAGS
        user: Message = {"role": "user", "content": question}
        return ({"role": "system", "content": system}, user) if system else (user,)

    def read(self, completion: str) -> str | None:
        """Find the answer in a completion, outer white space removed; None where the tags are missing."""
        if self.answer == "raw":
            return completion.strip()
        end = completion.rfind(CLOSE)
        start = completion.rfind(OPEN, 0, max(end, 0))
        return completion[start + len(OPEN) : end].strip() if start >= 0 else None

    def write(self, answer: str) -> str:
        """Give the shortest reply that `read` reads as this answer."""
        return answer if self.answer == "raw" else f"{OPEN}{answer}{CLOSE}"
