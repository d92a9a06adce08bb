"""A small share of `make fuzz`: the same cases every time."""

from __future__ import annotations

from pathlib import Path
from random import Random

import orchestrator
from tests.fuzz.campaign import Campaign
from tests.fuzz.cases import make_case
from tests.fuzz.values import OTHERS, odd
from tests.orchestrator.specs import alone

CASES = 80


def test_odd_specs_overrides_and_arguments_are_accepted_or_refused_in_words(tmp_path: Path) -> None:
    orchestrator.run(alone("small"), home=tmp_path / "home")
    campaign = Campaign(7, tmp_path / "home", tmp_path / "cases", process_share=0.0)
    campaign.go(range(CASES))
    told = [
        f"--seed 7 --case {n} {outcome.kind}: {case.told()}\n{outcome.said}" for n, case, outcome in campaign.failures
    ]
    assert not told, "\n".join([campaign.summary(), *told])
    assert campaign.counts["accepted"] > CASES / 20
    assert campaign.num_run > 0


def test_a_case_is_the_same_every_time(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        case = make_case(3, number, folder, tmp_path)
        content = case.file.read_bytes() if case.file else b""
        if case.file:
            case.file.unlink()
        again = make_case(3, number, folder, tmp_path) if case.file else case
        assert case == again
        assert content == (again.file.read_bytes() if again.file else b"")


def test_the_values_that_cases_draw_stay_as_they_are() -> None:
    before, rng = repr(OTHERS), Random(3)
    for _ in range(2000):
        value = odd(rng)
        if isinstance(value, list):
            value.append(value)
        elif isinstance(value, dict):
            value["more"] = value
    assert repr(OTHERS) == before
