"""Where something stands in the source, as reasons and errors name it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any


def place(function: Callable[..., Any], words: str = "raise ") -> str:
    """Name the first line of a function that has these words: ", in fakes.py:65"."""
    lines, first = inspect.getsourcelines(function)
    number = next(number for number, line in enumerate(lines, first) if words in line)
    return f", in {Path(inspect.getsourcefile(function) or '').name}:{number}"
