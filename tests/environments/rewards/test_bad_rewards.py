"""Bad rewards as a user would bring them, through the scorer: each costs one score, with a reason, and is never 0."""

import pytest

from environments import EnvironmentFault, EnvironmentSource, Scorer, ScoringJob, ScoringOptions
from tests.environments.rewards.graders import bad
from tests.environments.scoring.test_scorer import scorer_of
from tests.source_lines import place

GRADERS = "tests.environments.rewards.graders"


def source(reward):
    return EnvironmentSource("graded", f"{GRADERS}:create", {"reward": reward})


BAD = source(f"{GRADERS}:bad")
COMBINED = source(["exact", f"{GRADERS}:bad"])
REMEDY = "; a value lies in 0..1, or say `scale: [low, high]`"
REGEX = source({"type": "regex", "pattern": "(a+)+b"})


def jobs(of, *completions):
    task = of.create().task("all", 0)
    return [ScoringJob(task, (completion,)) for completion in completions]


@pytest.fixture(scope="module")
def scorer():
    with scorer_of(BAD) as made:
        made.turns(jobs(BAD, "fine"))
        yield made


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("raise", "raised KeyError: 'no such column'" + place(bad)),
        ("hang", "timed out"),
        ("exit", "raised SystemExit: 0" + place(bad, "sys.exit")),
        ("negative", f"bad value: int below 0{REMEDY}"),
        ("nan", f"bad value: float, not finite{REMEDY}"),
        ("text", f"bad value: str, not a number{REMEDY}"),
        ("none", f"bad value: None{REMEDY}"),
        ("tensor", f"bad value: Random, not a number{REMEDY}"),
    ],
)
def test_trouble_costs_one_score_and_says_why(scorer, what, reason):
    scores = [turn.score for turn in scorer.turns(jobs(BAD, "fine", what, "fine"))]
    assert [score.value for score in scores] == [0.5, None, 0.5]
    assert scores[1].reason == reason


def test_what_a_function_prints_is_not_seen(scorer, capfd):
    assert [turn.score.value for turn in scorer.turns(jobs(BAD, "print"))] == [1.0]
    assert "look at me" not in "".join(capfd.readouterr())


def test_a_pattern_that_would_run_for_ever_is_cut_off():
    with scorer_of(REGEX) as scorer:
        endless, short = scorer.turns(jobs(REGEX, "a" * 40, "aaab"))
    assert endless.score.reason == "timed out"
    assert short.score.value == 1.0


def test_a_reward_that_cannot_be_built_is_a_fault_before_anything_is_scored():
    with pytest.raises(EnvironmentFault, match="has no function 'missing'"):
        source(f"{GRADERS}:missing").create()
    with (
        Scorer([source(f"{GRADERS}:missing")], {"graded": BAD.create()}, ScoringOptions(workers=1)) as scorer,
        pytest.raises(EnvironmentFault, match="has no function 'missing'"),
    ):
        scorer.turns(jobs(BAD, "fine"))
