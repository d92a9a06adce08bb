"""Who competes in a world: bandits and schedulers as a user names them.

A bandit is a name (`sec`), a map with options (`{type: sec, temperature: .2}`), or a user's own
`package.module:factory` or `./file.py:factory`, called as factory(arms=..., rng=..., **options). In worlds of stages it
comes with a scheduler, or `none`: no stages, one bandit over all arms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic import create_model

from orchestrator.errors import UserError
from orchestrator.simulation.skill_worlds import GapConfig, OracleConfig
from orchestrator.simulation.trials import Candidate, World
from orchestrator.spec.document import Document, read
from orchestrator.spec.fields import DEFAULT_TYPES, Section, method
from orchestrator.spec.load import check
from orchestrator.spec.setting_labels import text_of
from store.run_summary import leaves

NO_STAGES = "none"
ORACLE, GAP = "oracle", "gap"  # known to simulated worlds only
BANDITS = ("uniform", DEFAULT_TYPES["bandits"], "gated_sec", "sec", "discounted_ucb", "learning_progress")
SCHEDULERS: tuple[Any, ...] = (
    DEFAULT_TYPES["schedulers"],
    "round_robin",
    "uniform",
    "boltzmann",
    {"type": "boltzmann", "reward": "gain"},
    "discounted_ucb",
    GAP,
)
EXAMPLES = {
    "bandit": "--bandit sec or --bandit '{type: sec, temperature: .2}'",
    "scheduler": "--scheduler boltzmann or --scheduler '{type: boltzmann, reward: gain}'",
}


@dataclass(frozen=True)
class CandidateName:
    """A bandit or a scheduler, as its user named it."""

    label: str
    config: Any  # a BaseModel; None: no scheduler, no stages


IN_WORLDS_ONLY = {
    ("bandit", ORACLE): CandidateName(ORACLE, OracleConfig()),
    ("scheduler", GAP): CandidateName(GAP, GapConfig()),
    ("scheduler", NO_STAGES): CandidateName("no stages", None),
}
SECTIONS = {
    kind: create_model(kind, __base__=Section, **{kind: (method(f"{kind}s"), ...)})  # type: ignore[call-overload]
    for kind in EXAMPLES
}


def read_named(texts: Iterable[str], kind: str) -> list[CandidateName]:
    """Read what `--bandit` or `--scheduler` (the kind) was given, a YAML value each. Raises UserError."""
    found = []
    for text in texts:
        try:
            raw = yaml.safe_load(text)
        except yaml.YAMLError as error:
            how = f"write it as in a spec, such as {EXAMPLES[kind]}"
            raise UserError(f"--{kind} {text}: is not valid YAML; {how}") from error
        found.append(make_named(raw, kind, f"--{kind} {text}"))
    return found


def read_file(path: Path) -> list[tuple[str, CandidateName, CandidateName | None]]:
    """Read a file of named bandits, or of maps of a `bandit` and a `scheduler`: name, bandit, scheduler if told."""
    wanted, found = "a map of names, each with a bandit: `sharp: {type: sec, temperature: .05}`", []
    document, folder = read(path, wanted, "file"), str(path.absolute().parent)
    for name, raw in document.raw.items():
        line = document.lines.get((name,))
        where = f"{path}, line {line}: {name}" if line else f"{path}: {name}"
        is_pair = isinstance(raw, dict) and raw and set(raw) <= {"bandit", "scheduler"}
        pair = raw if is_pair else {"bandit": raw}
        bandit = make_named(pair.get("bandit", DEFAULT_TYPES["bandits"]), "bandit", where, folder)
        scheduler = make_named(pair["scheduler"], "scheduler", where, folder) if "scheduler" in pair else None
        found.append((str(name), bandit, scheduler))
    return found


def make_named(raw: Any, kind: str, where: str, folder: str | None = None) -> CandidateName:
    """Check one bandit or scheduler; messages begin with `where`, a user's own files in `folder`."""
    if not isinstance(raw, str | dict):
        raise UserError(f"{where}: a {kind} is a name or a map, such as {EXAMPLES[kind]}")
    label = _label(raw, kind)
    if (kind, label) in IN_WORLDS_ONLY:
        return IN_WORLDS_ONLY[kind, label]
    section = check(SECTIONS[kind], Document({kind: raw}, {}, where), folder)
    return CandidateName(label, getattr(section, kind))


def pair_up(bandits: Sequence[CandidateName], schedulers: Sequence[CandidateName]) -> list[Candidate]:
    """Make one entrant of every bandit with every scheduler, named after both; no schedulers: of bandits alone."""
    if not schedulers:
        return [Candidate(bandit.label, bandit.config) for bandit in bandits]
    return [
        Candidate(f"{scheduler.label}, {bandit.label}", bandit.config, scheduler.config)
        for bandit, scheduler in product(bandits, schedulers)
    ]


def distinct(entrants: Sequence[Candidate]) -> list[Candidate]:
    """Leave out repetitions; the same name for two different ones is an error."""
    kept: dict[str, Candidate] = {}
    for one in entrants:
        if kept.setdefault(one.label, one) != one:
            raise UserError(f"two different policies are called {one.label!r}: rename one in the file")
    return list(kept.values())


def _label(raw: str | Mapping[str, Any], kind: str) -> str:
    if isinstance(raw, str):
        return raw
    options = leaves({key: value for key, value in raw.items() if key != "type"})
    words = [str(raw.get("type", DEFAULT_TYPES[f"{kind}s"]))]
    return " ".join([*words, *(f"{key}={text_of(value)}" for key, value in options)])


def entrants_of(world: World, bandits: Sequence[str], schedulers: Sequence[str], file: Path | None) -> list[Candidate]:
    """Pair every named bandit with every named scheduler, then add the file's; empty if nothing was named.

    Where only one of the two is named in a world of stages, the other is the default of a spec. Raises UserError.
    """
    if schedulers and not world.has_stages:
        why = f"world {world.letter} has no stages; use world d or h, or leave the option out"
        raise UserError(f"--scheduler: {why}")
    outer = read_named(schedulers, "scheduler") if schedulers else _defaults(world, "scheduler")
    inner = read_named(bandits, "bandit") if bandits else _defaults(world, "bandit") * bool(schedulers)
    found = pair_up(inner, outer)
    for name, bandit, scheduler in read_file(file) if file else []:
        if scheduler is not None and not world.has_stages:
            why = f"world {world.letter} has no stages, so no `scheduler`"
            raise UserError(f"{file}: {name}: {why}; use world d or h")
        for pair in pair_up([bandit], [scheduler] if scheduler else outer):
            several = f"{pair.label.partition(', ')[0]}, {name}" if len(outer) > 1 and not scheduler else name
            found.append(Candidate(several, pair.bandit, pair.scheduler))
    return distinct(found)


def usual(world: World) -> list[Candidate]:
    """A telling handful of policies, for a user who names none."""
    if not world.has_stages:
        names = (*BANDITS, "easy_to_hard", ORACLE) if world.letter in "ab" else BANDITS
        return distinct(pair_up(_made(names, "bandit"), []))
    inner = _made((DEFAULT_TYPES["bandits"],), "bandit")
    mixed = pair_up([*_made(("uniform",), "bandit"), *inner], _made((NO_STAGES,), "scheduler"))
    return distinct([*mixed, *pair_up(inner, _made(SCHEDULERS, "scheduler"))])


def _defaults(world: World, kind: str) -> list[CandidateName]:
    return _made((DEFAULT_TYPES[f"{kind}s"],), kind) if world.has_stages else []


def _made(names: Sequence[Any], kind: str) -> list[CandidateName]:
    return [make_named(name, kind, str(name)) for name in names]
