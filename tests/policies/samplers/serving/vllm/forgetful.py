"""A worker that reloads as vLLM itself does: on a CPU, a head tied to the embeddings stays as it was."""

from __future__ import annotations

from typing import Any


class Reload:
    def reload_from(self: Any, path: str) -> None:
        self.reload_weights(weights_path=path)
