"""What a vLLM server's worker learns from us: to read other weights from a directory, tied heads included.

A server is started with `--worker-extension-cls policies.samplers.serving.worker_extension.Reload`, so this is
imported in its worker, where Evergreen has to be installed too. It must stay light, and load vLLM only through what
is there already.
"""

from __future__ import annotations

from typing import Any


class Reload:
    """Mixed into vLLM's worker; `/collective_rpc` then knows its method."""

    def reload_from(self: Any, path: str) -> None:
        """Load the weights of a directory in place.

        A tied head shares the parameter of the embeddings, but on a CPU it multiplies by a packed copy of its own.
        The checkpoint does not name the head, so that vLLM's reload leaves the copy as it was: layers new, head
        old, no error. Packing it again is what its own loading did; on a GPU there is no copy and this does nothing.
        """
        self.reload_weights(weights_path=path)
        head = getattr(self.get_model(), "lm_head", None)
        if head is not None and hasattr(head, "cpu_linear"):
            head.quant_method.process_weights_after_loading(head)
