"""Which spec a run has, and those of its forks.

It is the one that its ledger keeps, whatever became of the file in its folder.

`spec.yaml` is there to be read. It is believed in one thing, where the ledger and the tracker are, since that says
where to look and may hold credentials; and altogether where nothing else knows the run.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import SpecError, UserError
from orchestrator.runs.catalog import SPEC_FILE
from orchestrator.spec import Spec, load_spec
from orchestrator.spec.load import CHANGEABLE
from store import identity
from store.checkpoints import FOLDER, MANIFEST
from store.files import write_text
from store.identity import PLACES
from store.ledger import Reading
from store.records import EventRecord
from store.run_summary import leaves
from store.secrets import HIDDEN, without_logins
from store.sentences import listed, short

EDITED = "spec.edited.yaml"  # in a run's folder: a spec.yaml that somebody had edited
NAMED = 5  # fields in a message, before the rest is counted
FIXED = {  # what a fork shares with its parent, and why
    "policy": "its weights are the parent's",
    "warm_start": "it lies behind the parent's first step",
    "evaluate": "its boundaries must compare with the parent's",
    "ledger": "it holds the parent's history",
}
FREE = ("evaluate.every", "evaluate.every_on")  # of these sections, what no boundary depends on
GROUP_SIZE = ".episodes.group_size"  # of an environment: nor this
TURNS = "sampler.max_turns"  # without effect where every environment has its own limit


@dataclass(frozen=True)
class KeptSpec:
    """The spec that a run has, and what its file says."""

    spec: Spec
    file: Spec | None  # None: gone, or not to be read
    problem: str | None = None  # why it cannot be read
    is_ordered: bool = True  # its environments come in the order that they had

    def put_right(self, folder: Path, spec: Spec) -> list[EventRecord]:
        """Let the file say what the run goes on with, which is `spec`; tell what it said else, and keep that aside."""
        path = folder / SPEC_FILE
        said = self.said(spec)
        if said and path.exists():
            path.replace(folder / EDITED)
        if not path.exists() or path.read_text("utf-8") != as_yaml(spec):  # also where it held a password
            write_spec(folder, spec)
        events = [EventRecord("spec edited", text) for text in said]
        if not self.is_ordered:
            text = f"only the lost {SPEC_FILE} knew the order of environments, and now it is that of the alphabet"
            events.append(EventRecord("not bitwise", f"{text}: the run goes on, but perhaps not bit for bit"))
        return events

    def said(self, spec: Spec) -> list[str]:
        """Say in which fields the file is not the run's spec, and what to do instead of editing it."""
        name = self.spec.name
        if self.problem is not None:
            return [f"{self.problem}; it is {EDITED} now, and written again from what the ledger keeps"]
        if self.file is None:
            return [f"{SPEC_FILE} was gone; it is written again from what the ledger keeps"]
        held, file, final = (_fields(one) for one in (self.spec, self.file, spec))
        edits = {
            key: file.get(key)
            for key in {**held, **file}
            if file.get(key) != held.get(key) and file.get(key) != final.get(key)
        }
        if not edits:
            return []
        said = [f"{key} is {_shown(final.get(key))}, not {_shown(value)}" for key, value in edits.items()]
        return [
            f"{SPEC_FILE} was edited, and the run keeps the spec that it has ({EDITED} holds the other): "
            f"{listed(said, NAMED)}. {'; '.join(_remedies(name, edits, self.file))}"
        ]


def kept_spec(reading: Reading, folder: Path, name: str) -> KeptSpec:
    """Find a run's spec: in the ledger, else in its own folder. Raises UserError where none can be trusted."""
    known = {run.name: run.uid for run in reading.runs()}
    own = identity.read(folder)
    if own is not None and own.uid != known.get(name, own.uid):
        raise UserError(
            f"the ledger {reading.engine.url!r} has a run {name!r}, but another one than the folder {folder}: put the "
            f"ledger of this home back, or move the folder out of it"
        )
    sections = reading.spec(name) if name in known else own.spec if own is not None else None
    try:
        file = load_spec(folder / SPEC_FILE) if (folder / SPEC_FILE).exists() else None
        problem = None
    except (SpecError, UnicodeDecodeError) as wrong:
        file, problem = None, str(wrong)
    named = sections["name"] if sections is not None else file.name if file is not None else name
    if named != name:
        raise UserError(f"the folder {folder} is of the run {named!r}: give it that name again, and resume {named}")
    if sections is None and file is not None:
        return KeptSpec(file, file)
    if sections is None or (file is None and name not in known):
        if own is not None and own.lineage is not None and not any((folder / FOLDER).glob(f"*/{MANIFEST}")):
            raise UserError(
                f"{name} is a fork that was killed before it had anything: `evergreen rm {name}` removes it"
            )
        why = problem or f"{folder / SPEC_FILE} is gone"
        kept = f". {folder / identity.FILE} has all of it but {' and '.join(PLACES)}" if own else ""
        raise UserError(
            f"{why}, and the ledger {reading.engine.url!r} does not know the run {name}: put the file back, or the "
            f"ledger{kept}"
        )
    if file is not None:
        sections = {**sections, **{place: _dump(file)[place] for place in PLACES}}
    like = own.spec if own is not None else _dump(file) if file is not None else None
    return KeptSpec(load_spec(_in_order(sections, like or {})), file, problem, is_ordered=like is not None)


def _in_order(sections: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Give maps the order of other maps: among environments and categories it counts, and a ledger sorts them."""
    keys = [*(key for key in like if key in sections), *(key for key in sections if key not in like)]
    return {
        key: _in_order(sections[key], like[key])
        if isinstance(sections[key], Mapping) and isinstance(like.get(key), Mapping)
        else sections[key]
        for key in keys
    }


def changes_on_resume(held: Spec, asked: Spec) -> tuple[list[str], int | None]:
    """Say with which overrides and how many stages a run goes on as another spec has it, instead of its own.

    Raises UserError where a run cannot become that.
    """
    had, wanted = (_with_the_ledgers_place(spec) for spec in (held, asked))
    differ = [key for key in {**had, **wanted} if had.get(key) != wanted.get(key) and key != "name"]
    sections = list(dict.fromkeys(key.partition(".")[0] for key in differ))
    fixed = [key for key in differ if key.partition(".")[0] not in CHANGEABLE and key != "curriculum.stages"]
    if fixed:
        said = [f"{key} is {_shown(had.get(key))} there, and {_shown(wanted.get(key))} here" for key in fixed]
        raise UserError(
            f"there is a run {held.name} of another spec: {listed(said, NAMED)}. Give this one another `name`, or go "
            f"on with that one: evergreen resume {held.name}"
        )
    dump = _dump(asked)
    overrides = [f"{section}={json.dumps(dump[section])}" for section in sections if section in CHANGEABLE]
    return overrides, asked.curriculum.stages if "curriculum.stages" in differ else None


def write_spec(folder: Path, spec: Spec) -> None:
    """Keep the resolved spec with the run; where it says who logs in, it is its owner's alone."""
    text = as_yaml(spec)
    write_text(folder / SPEC_FILE, text, private=without_logins(text) != text)


def as_yaml(spec: Spec) -> str:
    """Write the resolved spec as a file that `run` reads; passwords come from elsewhere then."""
    return yaml.safe_dump(spec.kept(), sort_keys=False, allow_unicode=True)


def _remedies(name: str, edits: Mapping[str, Any], file: Spec) -> list[str]:
    resumed, forked, others = [], [], []
    for key, value in edits.items():
        section = key.partition(".")[0]
        change = shlex.quote(f"{key}={_shown(value)}")
        if key == "curriculum.stages":
            resumed.append(f"--stages {value}")
        elif section in CHANGEABLE:
            resumed.append(f"--set {change}")
        elif _no_fork_has(key, file):
            others.append(key)
        else:
            forked.append(f"--set {change}")
    found = []
    if resumed:
        found.append(f"`evergreen resume {name} {' '.join(resumed[:NAMED])}` changes what may change")
    if forked:
        command = f"evergreen fork {name} --stage N {' '.join(forked[:NAMED])}"
        found.append(f"`{command}` begins a run with what was edited")
    if others:
        found.append(f"for another {listed(others, NAMED)} begin a new run: `evergreen run`")
    return found


def _no_fork_has(key: str, file: Spec) -> bool:
    if key == TURNS:
        return file.all_have_turn_limits
    is_fixed = key.partition(".")[0] in (*FIXED, "name", "seed", "environments")
    return is_fixed and key not in FREE and not key.endswith(GROUP_SIZE)


def _fields(spec: Spec) -> dict[str, Any]:
    return dict(leaves({section: value for section, value in _dump(spec).items() if section not in PLACES}))


def _with_the_ledgers_place(spec: Spec) -> dict[str, Any]:
    """All fields of a spec, of the ledger its place alone: who logs in, and by what, may be another at every start."""
    url = spec.ledger.url
    place = None if url is None else without_logins(url).replace(f"{HIDDEN}@", "")
    return dict(leaves({**spec.kept(), "ledger": {"url": place}}))


def _dump(spec: Spec) -> dict[str, Any]:
    dumped: dict[str, Any] = spec.model_dump(mode="json", by_alias=True)
    return dumped


def _shown(value: Any) -> str:
    return short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 60)


def outside_study(spec: Spec, study: str | None) -> Spec:
    """Take a run's spec out of its study's experiment in MLflow, where a fork would count as one of its setting."""
    tracker = spec.tracker
    if study is None or tracker.experiment != study:
        return spec
    experiment = type(tracker).model_fields["experiment"].default
    return spec.model_copy(update={"tracker": tracker.model_copy(update={"experiment": experiment})})


def forked_spec(
    parent: Spec, source: str | Path | Mapping[str, Any] | Spec | None, overrides: Sequence[str], stage: int
) -> Spec:
    """Read the spec of a fork: the parent's with overrides, or another one. Raises SpecError if it cannot go on."""
    default = parent.model_copy(update={"name": f"{parent.name}-fork"})
    spec = load_spec(default if source is None else source, overrides)
    shared = [_shared(one) for one in (spec, parent)]
    problems = [
        f"{section}: a fork keeps its parent's, because {why}"
        for section, why in FIXED.items()
        if shared[0][section] != shared[1][section]
    ]
    for name, environment in parent.environments.items():
        if name not in spec.environments:
            problems.append(f"environments.{name}: the parent has it, and so must a fork")
        elif not spec.environments[name].is_measured_as(environment):
            why = "is not the parent's any more; give a changed one a new name"
            problems.append(f"environments.{name}: {why}")
    if source is None and spec.all_have_turn_limits and (remark := turns_kept(spec, parent)) is not None:
        problems.append(f"{remark}; leave it out, or begin a new run: `evergreen run`")
    if spec.curriculum.mode != parent.curriculum.mode:
        problems.append(f"curriculum.mode: the parent is {parent.curriculum.mode}, and so must a fork be")
    if spec.curriculum.stages <= stage:
        why = f"{spec.curriculum.stages} leaves nothing to do after stage {stage}"
        problems.append(f"curriculum.stages: {why}; say more")
    if problems:
        raise SpecError("\n".join(problems))
    return spec


def turns_kept(spec: Spec, parent: Spec) -> str | None:
    """Say for which environments another `sampler.max_turns` than the parent's does not hold; None: for none.

    The parent's spec may give them limits that its author never wrote: their own `turns`.
    """
    own, turns = spec.turn_limits, spec.sampler.max_turns
    if not own or turns == parent.sampler.max_turns or "max_turns" not in spec.sampler.model_fields_set:
        return None
    lacks = "has no effect, because every" if spec.all_have_turn_limits else "does not hold where an"
    return f"{TURNS}: {turns} {lacks} environment has a limit of its own, which a fork keeps: {listed(own)}"


def _shared(spec: Spec) -> dict[str, Any]:
    """A spec's sections, without how one logs in and when stages are looked into: a fork need not keep these."""
    kept = spec.kept()
    evaluate = {key: value for key, value in kept["evaluate"].items() if f"evaluate.{key}" not in FREE}
    return {**kept, "ledger": kept["ledger"]["url"], "evaluate": evaluate}
