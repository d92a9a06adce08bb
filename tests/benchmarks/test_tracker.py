"""The options of `benchmarks.tracker`."""

from __future__ import annotations

import sys

import pytest

from benchmarks import tracker


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps", "12", "--block", "6"], "--block: the first 5 steps do not count, so take 7 at least"),
        (["--steps", "25", "--block", "25"], "--steps: a standard error needs two blocks at least"),
        (["--steps", "0"], "--steps: a standard error needs two blocks at least"),
        (["--block", "0"], "--block: the first 5 steps do not count"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["tracker", *options])
    monkeypatch.setattr(tracker, "timed_starts", lambda: pytest.fail("it began"))
    with pytest.raises(SystemExit):
        tracker.main()
    assert said in capsys.readouterr().err
