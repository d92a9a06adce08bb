"""One case: a command line and the files that it is about, made from a seed and a number."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.fuzz import bases
from tests.fuzz.texts import rewritten
from tests.fuzz.trees import mutated, nudged
from tests.fuzz.values import LONG, NAMES, TEXTS, odd

VERBS = [  # that take a run; WORD is it
    *(
        ("show", "WORD"),
        ("show", "WORD", "--events"),
        ("show", "WORD", "--samples", "ODD"),
        ("resume", "WORD"),
    ),
    *(("stop", "WORD"), ("report", "WORD"), ("fork", "WORD", "--stage", "0"), ("weights", "WORD", "DIR")),
    *(
        ("export", "WORD", "DIR"),
        ("compare", "WORD"),
        ("diff", "WORD", "small"),
        ("prune", "WORD"),
        ("rm", "WORD", "--dry-run"),
        ("ls", "--study", "ODD"),
        ("ls", "--status", "ODD"),
        ("run", "WORD"),
    ),
    *(
        ("validate", "WORD"),
        ("study", "WORD", "--dry-run"),
        ("methods", "ODD"),
        ("methods", "bandits", "ODD"),
    ),
    *(("compare", "small", "--by", "ODD"), ("fork", "small", "--stage", "1", "--set", "ODD")),
    *(
        ("resume", "small", "--set", "ODD"),
        ("check-env", "WORD"),
        ("play", "WORD", "--policy", "random"),
        ("simulate", "a", "--bandit", "ODD", "--steps", "5"),
    ),
]


@dataclass(frozen=True)
class Case:
    """What is typed."""

    kind: str
    base: str
    words: tuple[str, ...]
    file: Path | None = None  # the spec, where there is one that could be run

    def told(self) -> str:
        """In one line, bounded."""
        return f"{self.kind} of {self.base}: evergreen {' '.join(word[:80] for word in self.words)!a}"


def make_case(seed: int, number: int, folder: Path, home: Path) -> Case:
    """Make the case of this number; its files go into `folder`. `home` has a finished run, `small`."""
    rng = Random(f"{seed}/{number}")
    kind = rng.choices(
        ["tree", "number", "text", "override", "overrides", "study", "argument", "file"],
        [30, 16, 12, 16, 6, 8, 8, 4],
    )[0]
    if kind == "argument":
        return _argument(rng, folder, home)
    if kind == "file":
        return Case(kind, "-", ("validate", str(_file(rng, folder, home)), "--home", str(home)))
    name, raw = rng.choice(bases.studies() if kind == "study" else bases.specs())
    overrides: list[str] = []
    if kind in ("tree", "study"):
        raw = mutated(raw, rng)
    elif kind == "number":
        raw = nudged(raw, rng)
    elif kind == "override":
        overrides = [_override(rng)]
    elif kind == "overrides":
        overrides = [_override(rng), _override(rng)]
    text = _dump(raw)
    path = folder / f"{name.replace('/', '-')}.yaml"
    path.write_bytes(rewritten(text, rng) if kind == "text" else text.encode(errors="surrogatepass"))
    more = [word for override in overrides for word in ("--set", override)]
    if kind == "study":
        return Case(kind, name, ("study", str(_beside_examples(path)), "--dry-run", "--home", str(home)))
    as_json = ["--json"] if rng.random() < 0.1 else []
    words = ("validate", str(path), *more, *as_json, "--home", str(home))
    return Case(kind, name, words, path)


def _dump(raw: Any) -> str:
    """Write a tree; what a mutation shared is written twice, and nothing is wrapped."""

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return str(yaml.dump(raw, Dumper=Plain, sort_keys=False, allow_unicode=True, width=10**9))


def _beside_examples(path: Path) -> Path:
    """Let a study find the specs that it names."""
    for example in (bases.REPOSITORY / "examples").iterdir():
        if example.suffix in (".yaml", ".py") and not (path.parent / example.name).exists():
            shutil.copy(example, path.parent)
    return path


def _override(rng: Random) -> str:
    key = rng.choice(bases.keys())
    kind = rng.randrange(12)
    if kind == 0:
        key = rng.choice(
            [
                key + ".more",
                key[:-1],
                key.upper(),
                "." + key,
                key + ".",
                key.replace(".", ".."),
                "a." * 500 + "b",
            ]
        )
    if kind == 1:
        return rng.choice(
            [
                key,
                "=",
                f"={key}",
                f"{key}==1",
                f"{key}=[",
                f"{key}=&a [*a]",
                f"{key}=!!python/name:os.abort x",
            ]
        )
    if kind == 2:
        return rng.choice(
            [
                LONG,
                f"{LONG}=1",
                f"{key}={LONG}",
                f"{key}={'[' * 5000}",
                "\udcff=1",
                f"{key}=\udcff",
                f"{key}=\x1b[31m",
            ]
        )
    value = odd(rng)
    dumped = yaml.safe_dump(value, default_flow_style=True, width=10**9).strip().removesuffix("...").strip()
    return f"{key}={rng.choice([dumped, dumped, str(value)])}"


def _argument(rng: Random, folder: Path, home: Path) -> Case:
    words = rng.choice(VERBS)
    filled = tuple(_word(word, rng, folder, home) for word in words)
    return Case("argument", words[0], (*filled, "--home", str(home))[: 2 if words[0] == "methods" else None])


def _word(word: str, rng: Random, folder: Path, home: Path) -> str:
    if word == "DIR":
        return str(folder / "made")
    known = [
        "small",
        str(home / "small"),
        "runs/small",
        "./small",
        str(home / "small" / "spec.yaml"),
        "Small",
        "small/",
        "*",
    ]
    return str(rng.choice([*known, *TEXTS, *NAMES, str(home)])).replace("\0", "") if word in ("WORD", "ODD") else word


def _file(rng: Random, folder: Path, home: Path) -> Path:
    """What stands where a spec is wanted."""
    path = folder / "file.yaml"
    kind = rng.randrange(8)
    if kind == 0:
        path.write_bytes(rng.randbytes(rng.choice([1, 10, 1000, 2_000_000])))
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(path)
    elif kind == 3:
        return home / rng.choice(["small", "small/spec.yaml", "evergreen.db", "small/checkpoints", "nothing.yaml"])
    elif kind == 4:
        return Path(rng.choice(["/dev/null", "/dev/zero", "/", "/proc/self/mem", "x" * 300, "a/" * 2500, "~", " "]))
    elif kind == 5:
        path.write_text(
            rng.choice(
                [
                    "\n" * 999,
                    " ",
                    "\ufeff",
                    "\t",
                    "---",
                    "--- {}",
                    "{}",
                    "[]",
                    "environments:",
                    "environments: {}",
                ]
            )
        )
    return path
