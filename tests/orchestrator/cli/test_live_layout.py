from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.cli.live_layout import clock, draw
from orchestrator.cli.run_state import ArmState, Outline, Phase, RunState, Standing

MOMENT = RunState(
    name="demo",
    outline=Outline(num_stages=8, steps_per_stage=50, may_end_early=False),
    phase=None,
    stage=3,
    environment="words",
    stage_step=12,
    step=112,
    steps_left=288,
    arms=tuple(ArmState(name, p) for name, p in zip("34567", (0.08, 0.14, 0.22, 0.31, 0.25), strict=True)),
    schedule=(),
    reward=0.524,
    entropy=0.443,
    after_stage=2,
    standings=(Standing("book", 0.21, 0.06, True, 1.2, 0.585), Standing("words", 0.41, -0.04, False, 0.44, 0.55, 110)),
    num_recent=10,
    step_s=0.2512,
    shares=(("draw", 0.001), ("play", 0.41), ("update", 0.55), ("other", 0.039)),
    left_s=190,
    decision="stage 3: words: picked by sequence",
    event="step 110: 3 samples of words could not be scored: timed out",
)
MANY = replace(
    MOMENT,
    environment=None,
    arms=tuple(ArmState(f"words/category {i}", (i + 1) / 465) for i in range(30)),
    standings=tuple(Standing(f"environment-{i}", 0.3, i / 100, False) for i in range(20)),
)
LEARNING = replace(
    MOMENT,
    outline=Outline(8, 50, may_end_early=True),
    schedule=(ArmState("book", 0.2), ArmState("numbers", 0.1), ArmState("words", 0.7)),
)
BEFORE = RunState(
    *("demo", Outline(8, 50, False), Phase("warm start, loss 2.31", 112, 260), 0, None, 0, 0, 400, (), ()),
    *(None, None, None, (), None, (), None, None, None),
)
MEASURING = replace(MOMENT, phase=Phase("evaluating words.5", 4, 9))
HOSTILE = replace(
    MOMENT,
    arms=(ArmState("[red]x[/red]\x1b[2J\n\x9b1A", 0.5), ArmState("日本語" * 30, 0.5)),
    standings=(Standing("e" * 300, 0.5, None, False),),
    decision="\u202etxt.exe\x07",
    event="[link=file:///]\x1b]0;title\x07\r\nboo" * 9,
    phase=Phase("evaluating \x1b[31m" + "w" * 300, 1, 2),
)
ALL = {
    **{"moment": MOMENT, "many": MANY, "learning": LEARNING},
    **{"before": BEFORE, "measuring": MEASURING, "hostile": HOSTILE},
}


def lines(shot: RunState, width: int = 100, height: int = 40, note: str | None = None) -> list[str]:
    return [line.plain.rstrip() for line in draw(shot, width, height, note)]


def text(shot: RunState, width: int = 100, height: int = 40, note: str | None = None) -> str:
    return "\n".join(lines(shot, width, height, note))


@pytest.mark.parametrize("width", [20, 59, 79, 99, 250])
@pytest.mark.parametrize("height", [3, 9, 19, 50])
@pytest.mark.parametrize("name", ALL)
def test_no_line_is_wider_than_the_terminal_and_there_are_never_too_many(name: str, width: int, height: int) -> None:
    drawn = draw(ALL[name], width, height, "written 3 s ago")
    assert max(line.cell_len for line in drawn) <= width
    assert len(drawn) <= height
    assert "demo" in drawn[0].plain + drawn[1].plain, "the run's name stays, whatever is left out"


def test_everything_is_on_it() -> None:
    shown = text(MOMENT)
    for words in (
        *("demo  stage 3 of 8: words", "3:10 left", "step 12 of 50", "step 112 of 400"),
        *("categories of words, probability (full bar: .50)", "held-out after stage 2: accuracy; entropy, left"),
        *(
            "words: reward .52   entropy .44 nats a token   in training, last 10 steps",
            ".25 s a step: play 41%, update 55%, other 4%",
        ),
        *(
            "stage 3: words: picked by sequence",
            "! step 110: 3 samples of words could not be scored: timed out",
        ),
    ):
        assert words in shown
    assert "book *            .21  +.06  1.20   58%" in shown
    assert "words, step 110   .41  -.04   .44   55%" in shown, "measured inside the stage"
    assert "* on the tasks that it trains on" in shown, "what the star means"
    assert "at most" not in shown
    assert "next environment" not in shown, "this scheduler learns nothing"


def test_where_stages_may_end_early_lengths_are_upper_bounds() -> None:
    shown = text(LEARNING)
    for words in ("at most 3:10 left", "step 12 of at most 50", "step 112 of at most 400"):
        assert words in shown
    assert "next environment, probability" in shown


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    lengths = {line.split()[0]: line[:52].count("━") for line in lines(MOMENT) if line.strip()[:1].isdecimal()}
    assert lengths["6"] == max(lengths.values())
    assert lengths["3"] / lengths["6"] == pytest.approx(0.08 / 0.31, abs=0.05)
    stage = next(line for line in lines(MOMENT) if line.startswith("stage"))
    assert stage.count("━") / (stage.count("━") + stage.count("─")) == pytest.approx(12 / 50, abs=0.03)


def test_of_many_arms_the_likeliest_eight_are_shown_and_the_others_counted() -> None:
    shown = text(MANY)
    assert "categories of all environments, probability" in shown
    assert [f"category {i} " in shown for i in range(30)] == [False] * 22 + [True] * 8
    assert "and 22 more" in shown


def test_in_a_small_terminal_the_least_likely_arms_give_way() -> None:
    shown = lines(LEARNING, 59, 19)
    arms = [line.split()[0] for line in shown if line.strip()[:1].isdecimal()]
    assert 0 < len(arms) < 5
    assert "6" in arms
    assert f"  and {5 - len(arms)} more" in shown
    assert any("held-out after" in line for line in shown)


def test_what_takes_a_while_shows_how_far_it_is() -> None:
    shown = lines(BEFORE)
    assert "demo  before training; 8 stages to come" in shown
    assert any(line.endswith("112 of 260  warm start, loss 2.31") for line in shown)
    assert any(line.endswith("4 of 9  evaluating words.5") for line in lines(MEASURING))
    assert "finding the held-out tasks" in lines(replace(MOMENT, phase=Phase("finding the held-out tasks")))


@pytest.mark.parametrize("width", [59, 120])
def test_what_others_wrote_is_text(width: int) -> None:
    drawn = draw(HOSTILE, width, 40)
    shown = "\n".join(line.plain for line in drawn)
    assert all(line.plain.isprintable() for line in drawn)
    assert "[red]x[/red]" in shown
    assert "[link=file:///]" in shown


def test_a_note_is_the_last_line() -> None:
    assert lines(MOMENT, note="written 3 s ago")[-1] == "written 3 s ago"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0:00"), (7.4, "0:07"), (59.7, "1:00"), (725, "12:05"), (7440, "2:04:00")]
)
def test_durations(seconds: float, words: str) -> None:
    assert clock(seconds) == words
