"""The page of a home: studies with their settings, then the other runs, newest first; a line each, drawn small."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from urllib.parse import quote, urlsplit

from store import comparison, run_status, sentences
from store.carryover import geometric_mean
from store.courses import Course, Inventory, RunCourse
from store.ledger.query_rows import StudyRow, by_key
from store.report import REPORT_FILE, charts, templates
from store.secrets import without_logins
from store.sentences import num, number
from store.tracker.outlets import Link

UNFOLDED = 100  # runs that are listed before the rest is folded
STYLES = ("report.css", "overview.css")
ORDER = ("running", "finished", "stopped", "failed", "killed", "removing")  # of statuses
RESUMABLE = ("stopped", "failed", "killed")


@dataclass(frozen=True)
class RunLine:
    """A run as a line of the page."""

    run: RunCourse
    status: str
    accuracy: charts.Spark | None
    entropy: charts.Spark | None
    report: str | None  # where its report is, relative to the page; None: there is none
    mlflow: str | None  # its page on MLflow's server, or the server's first one; None: its record is in a database
    commands: Sequence[str]  # what to do with it next
    why: str | None  # it is over before its end


@dataclass(frozen=True)
class SettingLine:
    """A setting of a study: the means of its seeds."""

    label: str
    runs: Sequence[RunLine]
    accuracy: charts.Spark | None
    entropy: charts.Spark | None


@dataclass(frozen=True)
class StudyBlock:
    """A study: its settings, its runs, and where it is compared."""

    name: str
    standing: str
    settings: Sequence[SettingLine]
    runs: Sequence[RunLine]
    comparison: str | None  # where the comparison's page is, relative to this one


def render(found: Inventory, home: Path, path: Path, is_kept: bool = False) -> str:
    """Write the page of a home for a file at `path`, which links are relative to; `is_kept`: runs write it again."""
    drawing = Drawing(found.runs, home, path)
    lines = [drawing.line(run) for run in found.runs]
    of_study = by_key((line for line in lines if line.run.study), lambda line: line.run.study or "")
    shown = Path(os.fsencode(home).decode(errors="replace"))  # a path need not be UTF-8, and a page is
    context = {
        "title": f"{shown.name} \u00b7 Evergreen runs",
        "home": str(shown),
        "quoted_home": shlex.quote(str(shown)),
        "standing": _standing(lines),
        "studies": [drawing.study(name, own, found.studies.get(name)) for name, own in of_study.items()],
        "lines": [line for line in lines if not line.run.study],
        "names": {run.name for run in found.runs},
        "unfolded": UNFOLDED,
        "problems": [without_logins(text) for text in found.problems],
        "strays": by_key(found.strays, found.strays.get),
        "half_removed": found.half_removed,
        "top": drawing.accuracy.high,
        "is_kept": is_kept,
        "written_at": datetime.now(UTC),
    }
    return templates.page("store.overview", "overview.html.j2", STYLES, context)


class Drawing:
    """Draws runs on scales that all of them share, so that they compare by eye."""

    def __init__(self, runs: Sequence[RunCourse], home: Path, path: Path) -> None:
        self._home, self._path = home, path
        self.accuracy = charts.Scale(0, charts.nice_top(_known(run.accuracy for run in runs), 0.1, 1.0))
        self.entropy = charts.Scale(0, charts.nice_top(_known(run.entropy for run in runs), 1.0))

    def line(self, run: RunCourse) -> RunLine:
        """Draw a run."""
        folder = self._home / run.name
        status, server = run_status.status(run.status, folder), _server(run.tracker)
        link = Link.kept(folder) if server else None
        commands = [f"evergreen resume {run.name}"] if status in RESUMABLE else []
        if run.tracker is not None and server is None:
            commands.append(f"evergreen ui {run.name}")
        return RunLine(
            run,
            status,
            self._accuracy([run.accuracy], run.planned_stages),
            self._entropy([run.entropy], run.planned_stages),
            self._link(folder / REPORT_FILE),
            f"{server}{link.run}" if link else server,
            commands,
            None if run.end is None or status not in RESUMABLE else without_logins(run.end),
        )

    def study(self, name: str, lines: Sequence[RunLine], row: StudyRow | None) -> StudyBlock:
        """Draw a study of which these runs have begun, newest first."""
        by_setting = by_key(lines, lambda line: line.run.setting or "")
        planned = [str(one.get("label")) for one in (row.plan.get("settings", []) if row else [])]
        order = [label for label in planned if label in by_setting]
        settings = [self._setting(label, by_setting[label]) for label in dict.fromkeys([*order, *by_setting])]
        num_planned = len(planned) * len(row.plan.get("seeds", [])) if row else 0
        page = self._link(self._home / comparison.file_name(name))
        return StudyBlock(name, _study_standing(lines, len(settings), num_planned), settings, lines, page)

    def _setting(self, label: str, lines: Sequence[RunLine]) -> SettingLine:
        runs = [line.run for line in lines]
        stages = max(run.planned_stages for run in runs)
        accuracy = self._accuracy([run.accuracy for run in runs], stages)
        return SettingLine(label, lines, accuracy, self._entropy([run.entropy for run in runs], stages))

    def _accuracy(self, of: Sequence[Course], num_stages: int) -> charts.Spark | None:
        mean = {stage: fmean(values) for stage, values in _together(of).items()}
        ends = [number(value) for value in _ends(mean)]
        return charts.spark(of, mean, num_stages, self.accuracy, ends, "Accuracy on held-out tasks")

    def _entropy(self, of: Sequence[Course], num_stages: int) -> charts.Spark | None:
        mean = {stage: geometric_mean(values) for stage, values in _together(of).items()}
        ends = [f"{value:.0%}" for value in _ends(mean)[-1:]]
        return charts.spark(of, mean, num_stages, self.entropy, ends, "Entropy, as a share of its start")

    def _link(self, target: Path) -> str | None:
        """Lead to a file, if it is there, from where the page is."""
        if not target.is_file():
            return None
        return quote(os.fsencode(Path(os.path.relpath(target, self._path.parent)).as_posix()))


def _together(of: Sequence[Course]) -> Mapping[int, list[float]]:
    """Put the values of several runs together, by stage."""
    stages = sorted({stage for course in of for stage in course})
    found = {stage: [v for course in of if (v := course.get(stage)) is not None] for stage in stages}
    return {stage: values for stage, values in found.items() if values}


def _ends(course: Course) -> list[float]:
    """Give the first and the last value, or the only one."""
    known = [value for value in course.values() if value is not None]
    return [known[0], known[-1]] if len(known) > 1 else known


def _known(courses: Iterable[Course]) -> list[float]:
    return [value for course in courses for value in course.values() if value is not None]


def _server(tracker: str | None) -> str | None:
    """Give the address of MLflow's server, without a login; None where the record is in a database."""
    if not tracker or not tracker.startswith(("http://", "https://")):
        return None
    try:
        parts = urlsplit(tracker)
    except ValueError:  # earlier versions took any
        return None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")


def _standing(lines: Sequence[RunLine]) -> list[tuple[str, int]]:
    """Count the runs by how they stand."""
    counts = Counter(line.status for line in lines)
    return [(status, counts[status]) for status in (*ORDER, *(counts.keys() - {*ORDER})) if counts[status]]


def _study_standing(lines: Sequence[RunLine], num_settings: int, num_planned: int) -> str:
    """Say how far a study is."""
    counts = sentences.listed([f"{count:,} {status}" for status, count in _standing(lines)], 9)
    missing = num_planned - len(lines)
    rest = f"; {num(missing, 'run')} not begun" if missing > 0 else ""
    return f"{num(num_settings, 'setting')}, {num(len(lines), 'run')}: {counts}{rest}"
