"""From conversations to token ids: a tokenizer and a template, with no weights needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import TemplateError

from policies.errors import PolicyError

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": text}


@dataclass(frozen=True)
class Encoder:
    """What reads prompts for a policy. The chat template is applied here and nowhere else."""

    tokenizer: Any  # of the transformers library
    template: Literal["chat", "none"]
    check_text: Callable[[str], None] | None = None  # raises for text that the tokenizer would drop

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Give the token ids of a conversation, up to where the policy's next answer begins."""
        if self.check_text is not None:
            for message in messages:
                self.check_text(message["content"])
        if self.template == "none":
            text = "\n\n".join(message["content"] for message in messages)
            return tuple(self.tokenizer(text).input_ids)
        conversation = [dict(message) for message in messages]
        try:
            ids = self.tokenizer.apply_chat_template(
                conversation, add_generation_prompt=True, return_dict=False
            )
        except TemplateError as error:  # as templates say that they have no system messages, say
            roles = ", ".join(message["role"] for message in messages)
            raise PolicyError(
                f"the policy's chat template refuses a conversation of {roles}: {error}; ask in another form "
                "(`system`, `answer`), or say `template: none` in the policy section"
            ) from error
        return tuple(ids)


def require_template(tokenizer: Any, template: str, name: str) -> None:
    """Refuse a chat without a chat template."""
    if template == "chat" and tokenizer.chat_template is None:
        raise PolicyError(
            f"{name}: its tokenizer has no chat template (it is a base model, perhaps). "
            "Say `template: none` in the policy section to give it plain text"
        )
