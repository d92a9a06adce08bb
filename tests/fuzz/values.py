"""Values that no field expects."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

LONG = "x" * 100_000  # no message may repeat it
NUMBERS = [
    *(0, -1, 1, 2, 3, 7, 2**31, 2**63 - 1, 2**63, 2**70, -(2**70), 10**400),
    *(0.0, -0.0, 0.5, 1.0, -0.5, 1e-320, 1e-12, 1e12, 1e308, -1e308),
    *(float("nan"), float("inf"), -float("inf")),
]
TEXTS = [
    *(
        "",
        " ",
        "none",
        "null",
        "nan",
        "inf",
        "1e999",
        "-1",
        "0",
        "true",
        "~",
        "default",
        "é",
        "日本",
        "\U0001f600",
    ),
    *(
        "a b",
        "a/b",
        "a.b",
        "..",
        ".",
        "/",
        "\n",
        "\t",
        "a\x1b[31mb",
        "\x07",
        "\x00",
        "\ud800",
        "\u202e",
        "\x85",
    ),
    *(
        "x" * 300,
        LONG,
        "x/" * 200,
        "[1]",
        "{{ x }}",
        "{% for %}",
        "{{ 1/0 }}",
        "(",
        "[",
        "(?P<a",
        "a{99999999}",
        "%s",
    ),
]
NAMES = [  # of things that a spec can name, and that are not what it takes them for
    *(
        "os:abort",
        "sys:exit",
        "builtins:print",
        "antigravity:fly",
        "subprocess:run",
        "os:_exit",
        "os.path:join",
    ),
    *(
        ":",
        "a:",
        ":b",
        "a:b:c",
        "no_such:create",
        "coin:create",
        "coin:Coin",
        "coin:no",
        "coin",
        "json",
        "os.abort",
    ),
    *(".", "..a", "a..b", "examples.coin:create", "os", "torch:save", "numpy:array", "x" * 300 + ":y"),
    *(
        "sqlite://",
        "sqlite:///",
        "postgresql://",
        "://",
        "http://",
        "http://[",
        "http://localhost:99999",
        "foo://bar",
    ),
    *(
        "sqlite:///x.db?a",
        "mysql+nodriver://u:p@h/d",
        "file:///tmp",
        "./no-such",
        "/dev/null",
        "/dev/zero",
        "\\\\",
    ),
    *(
        "uniform",
        "sec",
        "headroom",
        "gated_sec",
        "round_robin",
        "codebook",
        "rows",
        "exact",
        "repo_r",
        "rloo",
        "mastery",
        "tiny",
    ),
]
OTHERS: list[Any] = [
    *(
        None,
        True,
        False,
        [],
        {},
        [[]],
        [{}],
        [None],
        [1, 2],
        [-1, 1],
        [LONG],
        {"a": 1},
        {"type": None},
        {"type": 3},
    ),
    *(
        {"type": "sec", "x": 1},
        {1: 2},
        {"": ""},
        {LONG: 1},
        [1] * 1000,
        [0.5, 0.5],
        [1, 0],
        {None: 1},
        {True: 1},
    ),
]


def odd(rng: Random) -> Any:
    """Draw a value of any type."""
    kind = rng.randrange(10)
    if kind < 4:
        return rng.choice(NUMBERS)
    if kind < 6:
        return rng.choice(TEXTS)
    if kind < 8:
        return rng.choice(NAMES)
    name = rng.choice(NAMES)
    # a copy: what is put into a tree is changed there, and must be as it was for the next case, and hold no tree
    return copy.deepcopy(rng.choice([*OTHERS, {"type": name}, [name], nested(rng.choice([3, 45, 150]))]))


def nested(depth: int) -> Any:
    """Lists or maps in one another."""
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value
