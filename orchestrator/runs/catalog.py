"""Runs from outside: listed, found, read, asked to stop. Nothing here loads torch."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from orchestrator.errors import UserError
from orchestrator.locations import Sections, completed_url
from store import checkpoints, identity
from store.courses import Inventory, RunCourse, courses
from store.errors import StoreError
from store.home import DATABASES, RESERVED, SLUG, STUDIES, Home
from store.ledger import Ledger
from store.ledger.access import Patience
from store.ledger.engine import parsed_url
from store.ledger.query_rows import StudyRow
from store.lock import holder
from store.lock import request_stop as ask_to_stop
from store.secrets import url_without_logins

SPEC_FILE = "spec.yaml"  # in a run's folder: its resolved spec
# its section there as we write it, with the blank lines and comments of whoever edited it
LEDGER = re.compile(r"^ledger:.*(?:\n(?:[ \t#].*|\r?$))*", re.MULTILINE)
LEDGER_KEYS = ("url", "password_file")


@contextmanager
def opened(
    path: str | Path | None, run: str | None = None, patience: Patience | None = None
) -> Iterator[tuple[Home, Ledger]]:
    """Open a home for reading, with its own ledger or the one that a run's spec names."""
    home = Home(path, create=False)
    with Ledger.open(ledger_url(home, run), create=False, patience=patience) as ledger:
        if run is not None and is_stray(home, ledger.engine.url, home.run_folder(run), known_to(ledger)):
            raise UserError(
                f"the ledger {ledger.engine.url!r} does not know the run {run}, whose folder is here: "
                f"{entered_again(run, missing_study(home, run, ledger.reading.studies()))}"
            )
        yield home, ledger


def known_to(ledger: Ledger) -> set[str]:
    """Name the runs of a ledger."""
    return {run.name for run in ledger.reading.runs()}


def is_stray(home: Home, url: URL, folder: Path, known: Collection[str]) -> bool:
    """Whether a folder is of a run that nobody holds, and that the ledger at `url` should know and does not."""
    if folder.name in known or not is_run(folder) or holder(folder) is not None:
        return False
    try:
        return parsed_url(ledger_url(home, folder.name)) == url
    except StoreError:  # nothing tells which ledger that is
        return False


def missing_study(home: Home, name: str, known: Iterable[StudyRow]) -> str | None:
    """Name the study of a run that a ledger does not know, if that is not among those that it knows either."""
    try:
        own = identity.read(home.run_folder(name))
    except StoreError:
        own = None
    member = own.member if own else None
    study = study_by_name(home, name) if own is None else member.study if member else None
    return None if study in {one.name for one in known} else study


def study_by_name(home: Home, name: str) -> str | None:
    """Guess the study of a run whose folder does not say: the names of a study's runs begin with its own."""
    studies = sorted(path.name for path in (home.path / STUDIES).glob("*") if path.is_dir())
    return next((one for one in studies if name.startswith(f"{one}.")), None)


def entered_again(name: str, study: str | None) -> str:
    """Say what enters a run that a ledger does not know; of a study that it does not know either, both."""
    if study is None:
        return f"`evergreen resume {name}` enters it again"
    return f"`evergreen study FILE` enters it again, with its study {study}"


def upgrade_ledgers(path: Path) -> tuple[list[str], list[StoreError]]:
    """Bring the home's ledger, and those that its runs' specs name, to our schema; their URLs, and what failed."""
    home = Home(path, create=False)
    upgraded, failures, named = list[str](), list[StoreError](), set[str]()
    for folder in sorted(home.path.iterdir()):
        try:
            if is_run(folder):
                named.add(ledger_url(home, folder.name))
        except StoreError as failed:
            failures.append(StoreError(f"{folder.name}: {failed}"))
    if (home.path / DATABASES[0]).exists() or not (named or failures):
        named.add(home.ledger_url)
    for url in sorted(named):
        try:
            Ledger.upgrade(url)
        except StoreError as failed:
            failures.append(failed)
        else:
            upgraded.append(url)
    return upgraded, failures


def ledgers_elsewhere(home: Home) -> dict[str, list[str]]:
    """Name the runs whose ledger is not the home's, by its URL without a login."""
    found: dict[str, list[str]] = {}
    for run in sorted(folder.name for folder in home.path.iterdir() if is_run(folder)):
        url = _ledger_section(home, run).get("url") or home.ledger_url
        if url != home.ledger_url:
            found.setdefault(url_without_logins(url), []).append(run)
    return found


def ledger_url(home: Home, run: str | None) -> str:
    """Find the ledger of a run or of a study's runs: where its spec says, else the home's own.

    Raises StoreError where that is no ledger's URL, or its password cannot be had.
    """
    section = {} if run is None else _ledger_section(home, run)
    return completed_url({"ledger": section}, "ledger", home.ledger_url)


def _ledger_section(home: Home, run: str) -> Mapping[str, Any]:
    """Read what a run's spec says of its ledger; nothing, where that cannot be read: `resume` says so."""
    own = home.run_folder(run) / SPEC_FILE
    # those of a study begin with its name
    spec = own if own.is_file() else next(iter(sorted(home.path.glob(f"{escape(run)}.*/{SPEC_FILE}"))), None)
    if spec is None:
        return {}
    try:
        text = spec.read_text("utf-8")
        # the whole of it takes ten times as long, and there may be thousands of runs
        with suppress(UserError):
            if block := LEDGER.search(text):
                return _parsed(block[0], spec).get("ledger") or {}
        # as others write YAML it may stand otherwise
        return _parsed(text, spec).get("ledger") or {} if "ledger" in text else {}
    except (OSError, ValueError, UserError):
        return {}


def sections_of(spec: Path) -> Sections:
    """Read the sections of a run's resolved spec, unchecked but for where its ledger is. Raises UserError."""
    try:
        return _parsed(spec.read_text("utf-8"), spec)
    except (OSError, ValueError) as failed:
        raise UserError(f"{spec} cannot be read: {failed}") from failed


def _parsed(text: str, spec: Path) -> Sections:
    import yaml  # a list of runs that the ledger knows reads no spec

    try:
        sections = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as failed:
        raise UserError(f"{spec} cannot be read: {failed}") from failed
    ledger = sections.get("ledger") or {} if isinstance(sections, dict) else None
    if not isinstance(ledger, dict) or any(not isinstance(ledger.get(key), str | None) for key in LEDGER_KEYS):
        raise UserError(f"{spec} is not the spec of a run: it names no ledger")
    return dict(sections)


def kept_sections(home: Home, run: str) -> Sections:
    """Where the ledger and the tracker of a run are, as its file says; the defaults where that cannot be read."""
    from orchestrator.spec.sections import Ledger as LedgerSection
    from orchestrator.spec.sections import Tracker as TrackerSection

    try:
        kept = sections_of(home.run_folder(run) / SPEC_FILE)
        return {
            "ledger": LedgerSection.model_validate(kept.get("ledger") or {}).model_dump(),
            "tracker": TrackerSection.model_validate(kept.get("tracker") or {}).model_dump(),
        }
    except (UserError, ValueError):  # gone, or edited beyond reading; `kept_spec` says so
        return {"ledger": LedgerSection().model_dump(), "tracker": TrackerSection().model_dump()}


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's: it has a resolved spec, or what is kept for the case that it is lost.

    One that is being removed is none any more.
    """
    is_name = SLUG.fullmatch(folder.name) is not None and folder.name not in RESERVED
    if not is_name or identity.is_half_removed(folder):
        return False
    if any((folder / own).exists() for own in (SPEC_FILE, identity.FILE)):
        return True
    return any((folder / checkpoints.FOLDER).glob(f"*/{checkpoints.MANIFEST}"))


def find_run(ledger: Ledger, name: str) -> None:
    """Refuse a run that is not there, and list those that are."""
    names = [run.name for run in ledger.reading.runs()]
    if name not in names:
        if name in {study.name for study in ledger.reading.studies()}:
            raise UserError(
                f"{name} is a study: `evergreen compare {name}` compares its runs, `evergreen ls` lists them"
            )
        raise UserError(f"there is no run {name!r}; there are: {', '.join(names) or 'none yet'}")


def known_environment(ledger: Ledger, run: str, name: str) -> None:
    """Refuse an environment whose samples are wanted and that the run does not have."""
    names = list(ledger.reading.spec(run)["environments"])
    if name not in names:
        from orchestrator.registry import nearest  # loads pydantic

        said = f"{run} has no environment {name!r}; --samples takes one of: {', '.join(names)}"
        raise UserError(f"{said}{nearest(name, names)}")


def request_stop(name: str, home: str | Path | None = None) -> str:
    """Ask the process that runs this run to stop; says what will happen."""
    folder = existing(Home(home, create=False), name)
    who = holder(folder)
    if who is None:
        raise UserError(f"{name} is not running; `evergreen resume {name}` would go on with it")
    ask_to_stop(folder)
    return f"{name} ({who}) finishes its step, saves and stops. `evergreen resume {name}` goes on."


def refuse_run(path: Path, home: Path) -> None:
    """Refuse a run's name where a spec file is wanted."""
    own = home / path / SPEC_FILE
    if path.name == str(path) and not os.path.exists(path) and os.path.isfile(own):
        raise UserError(
            f"{path} is a run, and a spec file is wanted: `evergreen resume {path}` goes on with it, {own} is its spec"
        )


def existing(place: Home, name: str) -> Path:
    """Find a run's folder, or list the runs there are."""
    folder = place.run_folder(name)
    if identity.is_half_removed(folder):
        raise UserError(f"{name} is half removed: `evergreen rm {name}` removes the rest")
    if not is_run(folder):
        known = sorted(path.name for path in place.path.iterdir() if path.is_dir() and is_run(path))
        if (place.path / STUDIES / name).is_dir():
            raise UserError(
                f"{name} is a study: `evergreen compare {name}` compares its runs, `evergreen ls` lists them"
            )
        if (url := _copied_to(place, name)) is not None:
            raise UserError(
                f"the folder of {name} is gone from {place.path}, and its checkpoints were copied to {url}: "
                f"`evergreen resume {name} --from {url}` fetches them and goes on"
            )
        raise UserError(f"there is no run {name!r} in {place.path}; there are: {', '.join(known) or 'none'}")
    return folder


def _copied_to(place: Home, name: str) -> str | None:
    """Say where a run that the home's ledger knows was to be copied; None: nowhere, or it does not know it."""
    with suppress(StoreError), Ledger.open(place.ledger_url, create=False) as ledger:
        if name in known_to(ledger):
            url: str | None = ledger.reading.spec(name)["checkpoint"].get("copy_to")
            return url
    return None


def inventory(path: Path) -> Inventory:
    """List the runs of the home's own ledger, and those in its folders whose specs name another one.

    A ledger that cannot be read is a problem beside the others; if there are no others, it is raised.
    """
    home = Home(path, create=False)
    problems: list[str] = []
    runs: list[RunCourse] = []
    studies: dict[str, StudyRow] = {}
    failures: dict[str, StoreError | UserError] = {}  # by the ledger's URL, or by the run's name

    def look(url: str, names: list[str] | None = None) -> None:
        try:
            with Ledger.open(url, create=False) as ledger:
                runs.extend(courses(ledger.reading, names))
                studies.update({study.name: study for study in ledger.reading.studies()})
        except StoreError as failed:
            failures[url] = failed
            problems.append(f"{failed} Not listed: {', '.join(names or ['what is in it'])}.")

    specs = sorted(home.path.glob(f"*/{SPEC_FILE}"))
    if (home.path / DATABASES[0]).exists() or not specs:
        look(home.ledger_url)
    known = {run.name for run in runs}
    elsewhere: dict[str, list[str]] = {}
    for spec in specs:
        name = spec.parent.name
        try:
            named = {} if name in known else sections_of(spec)
            url = completed_url(named, "ledger", home.ledger_url)
        except (StoreError, UserError) as failed:
            failures[name] = failed
            problems.append(f"{failed} Not listed: {name}.")
        else:
            if url != home.ledger_url:
                elsewhere.setdefault(url, []).append(name)
    for url, names in elsewhere.items():
        look(url, names)
    if failures and not runs:
        raise list(failures.values())[-1]
    known = {run.name for run in runs}
    own = parsed_url(home.ledger_url)
    folders = [] if home.ledger_url in failures else sorted(home.path.iterdir())
    runs.sort(key=lambda run: run.created_at, reverse=True)
    names = [folder.name for folder in folders if is_stray(home, own, folder, known)]
    strays = {name: missing_study(home, name, studies.values()) for name in names}
    half_removed = [path.name for path in sorted(home.path.iterdir()) if identity.is_half_removed(path)]
    return Inventory(runs, studies, problems, strays, half_removed)
