"""Mutations of how a spec is written: syntax, tags, aliases, bytes."""

from __future__ import annotations

from random import Random

from tests.fuzz.values import LONG

TOKENS = [
    *(
        "\t",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "? ",
        "|",
        ">",
        "'",
        '"',
        "#",
        "---\n",
        "...\n",
        "<<: ",
    ),
    *("!!python/object/apply:os.system ['true']", "!!binary aGVsbG8=", "!!set {a}", "!!timestamp 2024-13-45"),
    *(
        "%YAML 9.9\n",
        "2024-13-45",
        "!!int x",
        "!!bool x",
        "!!float x",
        "!!null x",
        "!!str",
        "! x",
        "!<tag:x> y",
    ),
    *(
        "\x00",
        "\x07",
        "\ufeff",
        "\r",
        "\u2028",
        "0x",
        "1:2:3",
        "1_0",
        "9" * 5000,
        "-",
        "~: 1\n",
        "yes: 1\n",
        "1: 1\n",
    ),
    *(
        "=: 1\n",
        "2024-01-01: 1\n",
        "? [a, b]\n: 1\n",
        '"\\ud800"',
        '"\\x00"',
        '"\\U0010ffff"',
        '"\\UFFFFFFFF"',
    ),
    *(LONG, LONG + ": 1\n", "[" * 5000, "{a: " * 500, "- " * 2000),
]
LAUGHS = "".join(
    f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9 if level else ['ha'] * 9)}]\n" for level in range(9)
)
MERGES = "".join(
    f"m{level}: &m{level} {{{'<<: [' + ', '.join([f'*m{level - 1}'] * 9) + ']' if level else 'a: 1'}}}\n"
    for level in range(9)
)
APPENDED = [
    LAUGHS,
    MERGES,
    "a: &a [*a]\n",
    "a: &a {b: *a}\n",
    "a: &a\n  <<: *a\n",
    "curriculum: &c {stage: *c}\n",
    "a: &a 1\nb: &a 2\n",
    "b: *nowhere\n",
    "seed: 1\nseed: 2\n",
    "environments: &e {x: {type: codebook, categories: *e}}\n",
    "x: " + "[" * 30 + "]" * 30 + "\n",
    "x: {" + ", ".join(f"k{i}: {i}" for i in range(60_000)) + "}\n",
    "---\nseed: 1\n",
    "\n" * 1_100_000,
]
OTHERS = [  # YAML of other programs
    "version: '3'\nservices:\n  db:\n    image: postgres\n    ports: ['5432:5432']\n",
    "on: [push]\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n---\napiVersion: v1\nkind: Service\n",
    '{"environments": {"a": {"type": "codebook"}}}',
    "just a sentence",
    "- a\n- list\n",
    "42",
    "null",
    "",
    "# only a comment\n",
    "%TAG ! tag:x,2000:\n---\n!foo {a: 1}\n",
]


def rewritten(text: str, rng: Random) -> bytes:
    """Change how a spec is written."""
    kind = rng.randrange(10)
    if kind < 3:
        spot = rng.randrange(len(text) + 1)
        text = text[:spot] + rng.choice(TOKENS) + text[spot:]
    elif kind == 3:
        text = text[: rng.randrange(len(text) + 1)]
    elif kind == 4:
        text += rng.choice(APPENDED)
    elif kind == 5:
        lines = text.splitlines(keepends=True)
        spot = rng.randrange(len(lines))
        lines[spot] = rng.choice(
            [" " + lines[spot], lines[spot] * 2, lines[spot].replace(":", ""), "", lines[spot].strip()]
        )
        text = "".join(lines)
    elif kind == 6:
        text = rng.choice(OTHERS)
    elif kind == 7:
        return _flipped(text.encode(), rng)
    else:
        written = text + "# ein Sträußchen für 日本\n"
        encoding = rng.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "utf-8-sig", "cp1252", "utf-7", "shift_jis"])
        return written.encode(encoding, errors="replace")
    return text.encode(errors="surrogatepass")


def _flipped(content: bytes, rng: Random) -> bytes:
    made = bytearray(content)
    for _ in range(rng.choice([1, 1, 5, 50])):
        made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made)
