"""What goes wrong with a policy, addressed to a person: what was expected, what was found, what to do."""

from __future__ import annotations


class PolicyError(Exception):
    """A policy cannot be made, read, played or updated as asked."""


class ModelNotFoundError(PolicyError):
    """A model folder is not there or not complete, or a hub name cannot be reached."""


class NoTokenizerError(ModelNotFoundError):
    """A model is there, and nothing that reads its prompts."""


class VocabularyError(PolicyError):
    """A text holds characters that a closed vocabulary has no token for."""


class UnreadablePrompt(PolicyError):
    """A conversation that this policy cannot be given: others it can. `kind` is what such conversations share."""

    def __init__(self, kind: str, detail: str, remedy: str) -> None:
        super().__init__(f"{kind}: {detail}; {remedy}")
        self.kind, self.detail = kind, detail


class NonFiniteLogits(PolicyError):
    """The policy has diverged: logits are NaN or infinite, and nothing can be drawn or learned from them."""

    def __init__(self, text: str, version: int) -> None:
        super().__init__(text)
        self.version = version  # of the weights that gave them


class CheckpointError(PolicyError):
    """Saved weights or optimiser state do not fit this policy."""


class RankLost(PolicyError):
    """Another process that updates the policy has ended in the middle of it."""
