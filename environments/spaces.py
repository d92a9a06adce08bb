"""Gymnasium's spaces as text: what is observed written out, replies read as actions, and actions drawn as replies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from environments.games import NoAction
from environments.surroundings import import_apart

MOST_NUMBERS = 256  # of an observation that is written out: an image has more
DIGITS = 4  # significant ones of a number
MARKED = re.compile(r"\x1b\[[0-9;]*[1-9][0-9;]*m(.*?)\x1b\[0?m", re.DOTALL)  # coloured in a terminal
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SEPARATOR = re.compile(r"[\s,;\[\]()]+")


def library() -> Any:
    """Import `gymnasium`; raises EnvironmentFault if it is not installed."""
    return import_apart("gymnasium", "gymnasium", "gymnasium")


# --- observations -------------------------------------------------------------------------------------------


def shown(rendered: Any) -> str:
    """Write what an environment rendered as text: what is coloured in a terminal stands in brackets."""
    text = rendered if isinstance(rendered, str) else "\n".join(map(str, rendered or ()))
    return CONTROL.sub("", MARKED.sub(r"[\1]", text)).strip("\n")


def written(value: Any) -> str:
    """Write the values of an observation: four digits a number, commas in a tuple, a line for each key of a map."""
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {written(one)}" for key, one in value.items())
    if isinstance(value, str):
        return value
    if isinstance(value, tuple | list):
        return ", ".join(map(written, value))
    array = np.asarray(value)
    if array.ndim == 0:
        return _number(array.item())
    if array.ndim == 1:
        return " ".join(_number(one) for one in array.tolist())
    return "\n".join(written(row) for row in array)


def _number(value: Any) -> str:
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(int(value))


def require_writable(space: Any) -> None:
    """Raise ValueError where the values of a space are no text that could be read."""
    spaces = library().spaces
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for one in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
            require_writable(one)
    elif not isinstance(space, spaces.Discrete | spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Text):
        raise ValueError(f"they are a {type(space).__name__}")
    elif (num := int(np.prod(space.shape or ()))) > MOST_NUMBERS:
        raise ValueError(f"one has {num:,} numbers, of shape {'x'.join(map(str, space.shape))}")


# --- actions ---------------------------------------------------------------------------------------------


def asked(space: Any, names: list[str] | None) -> str:
    """Say what a reply is to look like; ValueError where a space's actions cannot be read."""
    spaces = library().spaces
    if names is not None and not isinstance(space, spaces.Discrete):
        raise ValueError(f"`actions` are names of a discrete space's, and this one is {space}")
    if isinstance(space, spaces.Discrete):
        if names is not None and len(names) != int(space.n):
            raise ValueError(f"`actions` names {len(names)}, and there are {int(space.n)}")
        first, last = int(space.start), int(space.start + space.n - 1)
        return f"Answer with one of: {', '.join(names)}." if names else f"Answer with a number from {first} to {last}."
    if isinstance(space, spaces.Text):
        return f"Answer with a text of {space.min_length} to {space.max_length} characters."
    if isinstance(space, spaces.MultiDiscrete):
        ends = zip(np.ravel(space.start).tolist(), np.ravel(space.nvec).tolist(), strict=True)
        return f"Answer with whole numbers: {', '.join(f'{low} to {low + num - 1}' for low, num in ends)}."
    if isinstance(space, spaces.MultiBinary):
        return f"Answer with {int(np.prod(space.shape))} numbers, each 0 or 1."
    if isinstance(space, spaces.Box):
        ends = zip(np.ravel(space.low).tolist(), np.ravel(space.high).tolist(), strict=True)
        ranges = ", ".join(f"{_number(low)} to {_number(high)}" for low, high in ends)
        return f"Answer with {'a number' if int(np.prod(space.shape)) == 1 else 'numbers'}: {ranges}."
    if isinstance(space, spaces.Tuple | spaces.Dict):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        inner = "; ".join(f"{key}: {asked(one, None).removeprefix('Answer with ').rstrip('.')}" for key, one in parts)
        return f"Answer with a JSON {'object' if isinstance(space, spaces.Dict) else 'list'}, {inner}."
    remedy = "read them by a function of your own: `action: ./mine.py:to_action`"
    raise ValueError(f"actions of a {type(space).__name__} have no text; {remedy}")


def read_action(text: str, space: Any, names: list[str] | None = None) -> Any:
    """Read an action of a space; NoAction where the text is none."""
    spaces = library().spaces
    if names is not None:
        known = {name.strip().casefold(): number for number, name in enumerate(names, int(space.start))}
        if (said := text.strip().casefold()) not in known:
            raise NoAction("there is none of that name")
        return known[said]
    if isinstance(space, spaces.Tuple | spaces.Dict):
        try:
            return _from_plain(json.loads(text), space)
        except (ValueError, RecursionError) as error:
            raise error if isinstance(error, NoAction) else NoAction("it is no JSON") from error
    if isinstance(space, spaces.Text):
        return _contained(text, space)
    return _from_plain([one for one in SEPARATOR.split(text.strip()) if one], space)


def drawn(space: Any, rng: np.random.Generator, names: list[str] | None = None) -> str:
    """Draw an action of a space, as a text that `read_action` reads as this action."""
    spaces = library().spaces
    space.seed(int(rng.integers(2**31)))
    action = space.sample()
    if names is not None:
        return names[int(action) - int(space.start)].strip()
    plain = _to_plain(action, space)
    if isinstance(space, spaces.Tuple | spaces.Dict):
        return json.dumps(plain)
    return plain if isinstance(plain, str) else " ".join(map(repr, np.ravel(np.asarray(plain, object))))


def _to_plain(action: Any, space: Any) -> Any:
    """Make of an action what JSON holds."""
    spaces = library().spaces
    if isinstance(space, spaces.Dict):
        return {str(key): _to_plain(action[key], one) for key, one in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return [_to_plain(one, inner) for one, inner in zip(action, space.spaces, strict=True)]
    return action if isinstance(space, spaces.Text) else np.asarray(action).tolist()


def _from_plain(value: Any, space: Any) -> Any:
    """Make an action of texts or of what JSON holds."""
    spaces = library().spaces
    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or set(value) != set(map(str, space.spaces)):  # JSON's keys are texts
            raise NoAction(f"expected an object of {', '.join(map(str, space.spaces))}")
        return {key: _from_plain(value[str(key)], one) for key, one in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, list) or len(value) != len(space.spaces):
            raise NoAction(f"expected a list of {len(space.spaces)}")
        return tuple(_from_plain(one, inner) for one, inner in zip(value, space.spaces, strict=True))
    if isinstance(space, spaces.Text):
        return _contained(value, space)
    is_real, parts = isinstance(space, spaces.Box) and space.dtype.kind == "f", np.ravel(np.asarray(value, object))
    num = int(np.prod(space.shape or ()))
    if len(parts) != num:
        raise NoAction(f"expected {num} {'number' if num == 1 else 'numbers'}")
    try:
        numbers = [float(one) if is_real else int(str(one)) for one in parts]
        made = numbers[0] if isinstance(space, spaces.Discrete) else np.array(numbers, space.dtype).reshape(space.shape)
    except (ValueError, OverflowError, TypeError) as error:
        raise NoAction("it is no number" if is_real else "it is no whole number") from error
    return _contained(made, space)


def _contained(action: Any, space: Any) -> Any:
    if not space.contains(action):
        raise NoAction("it is outside of what is allowed")
    return action
