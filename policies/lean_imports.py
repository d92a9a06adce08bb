"""transformers' models are imported without scikit-learn, which they want for assisted decoding alone.

`transformers.generation.candidate_generator` imports `sklearn.metrics` wherever it is installed, for the `roc_curve` of
a draft model's confidence. With pandas and pyarrow, which that brings, it is a fifth of importing a model, and pyarrow
starts a thread, beside which a process is not safely forked. Nothing here decodes with a draft model; whoever does in
the same process has its threshold stay where it was set, as on a machine without scikit-learn.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

MODULE = "transformers.generation.candidate_generator"


class WithoutSklearn(SourceFileLoader):
    """Loads a module that finds scikit-learn not installed; what is imported after it finds what there is."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        import transformers.utils as library

        is_available, library.is_sklearn_available = library.is_sklearn_available, lambda: False
        try:
            super().exec_module(module)
        finally:
            library.is_sklearn_available = is_available


class LeanImports(MetaPathFinder):
    """Finds that one module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find it as Python does, to be loaded in this way; None: another module, or one that is not a source file."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == MODULE else None
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = WithoutSklearn(fullname, spec.loader.path)
            return spec
        return None


def install() -> None:
    """Have models that are imported from now on imported so."""
    sys.meta_path.insert(0, LeanImports())
