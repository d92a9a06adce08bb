from __future__ import annotations

from pathlib import Path

from orchestrator.recording.events import of_data
from tests.environments.rows.making import made, sums


def test_an_event_of_rows_left_out_says_how_many_reasons_it_does_not_name(tmp_path: Path) -> None:
    good = sums(30)[0]
    broken = [{**good, "answer": None}, {**good, "question": ""}, {**good, "question": 7}, "{", "[1]"]
    environment = made(tmp_path, [*sums(30), *broken])
    (event,) = of_data({"sums": environment}, [])
    assert event.text.startswith("rows of sums that cannot be used and are left out: 5; ")
    assert event.text.endswith("; and 2 more reasons; `evergreen validate` lists them")
