"""transformers' models are imported without SciPy's optimisers and scikit-learn, which hardly anybody calls there.

`transformers.generation` takes one function of scikit-learn's for assisted decoding, `transformers.loss` one of SciPy's
for object detection, and both are imported with any model. They and the pandas and pyarrow that come with them are a
quarter of that import (`python -X importtime`), and pyarrow starts a thread, beside which a process is not safely
forked. Here each function is imported when it is first called, and nothing else changes.

The library also reads the sources of all its models for what they define, twice over: its cache of that has room for
128 folders, and there are some 450. Here it has room for all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class LateFunction:
    """What modules import where a function of the library's, `available`, says that the package is there."""

    modules: str  # all whose names begin so
    available: str
    package: str
    name: str

    def called(self, *given: Any, **options: Any) -> Any:
        """Import it, and call it."""
        return getattr(import_module(self.package), self.name)(*given, **options)


LATE_FUNCTIONS = (
    LateFunction("transformers.generation.candidate_generator", "is_sklearn_available", "sklearn.metrics", "roc_curve"),
    LateFunction("transformers.loss.loss_", "is_scipy_available", "scipy.optimize", "linear_sum_assignment"),
)


class LateLoader(SourceFileLoader):
    """Runs a module as if the package were not there, and then gives it what it would have had."""

    def __init__(self, fullname: str, path: str, late: LateFunction) -> None:
        super().__init__(fullname, path)
        self.late = late

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        from transformers import utils as library
        from transformers.utils import import_utils

        late = self.late
        is_there: Callable[[], bool] | None = getattr(import_utils, late.available, None)
        if is_there is None or not hasattr(library, late.available):  # another version of the library
            super().exec_module(module)
            return
        before = getattr(library, late.available)  # not that one, where another of these modules imports this one
        setattr(library, late.available, lambda: False)
        try:
            super().exec_module(module)
        finally:
            setattr(library, late.available, before)
        if late.available in vars(module):
            setattr(module, late.available, is_there)
            if is_there():
                setattr(module, late.name, late.called)


class FoldersOnce(SourceFileLoader):
    """Runs the module that reads folders of models, and has it keep what it read of all of them."""

    READER = "create_import_structure_from_path"
    MODULE = "transformers.utils.import_utils"

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        super().exec_module(module)
        read = getattr(vars(module).get(self.READER), "__wrapped__", None)
        if read is not None:  # else another version of the library, without a cache
            setattr(module, self.READER, lru_cache(maxsize=None)(read))


class LateFinder(MetaPathFinder):
    """Finds those modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one as Python does, to be loaded in this way; None: another module, or one that is not a source file."""
        late = next((one for one in LATE_FUNCTIONS if fullname.startswith(one.modules)), None)
        if late is None and fullname != FoldersOnce.MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        where = spec.loader.path
        spec.loader = FoldersOnce(fullname, where) if late is None else LateLoader(fullname, where, late)
        return spec


def install() -> None:
    """Have models that are imported from now on imported so."""
    sys.meta_path.insert(0, LateFinder())
