import numpy as np
import pytest

from environments.contracts import Score
from environments.rewards import Attempt, make_reward

GRADERS = "tests.environments.rewards.graders"
QUESTION = ({"role": "user", "content": "2 + 2 ="},)


def attempt(completion="4", answer=None, truth="4", **row):
    return Attempt(completion, answer if answer is not None else completion, truth, QUESTION, row)


def scored(name, given, **options):
    return make_reward({"type": f"{GRADERS}:{name}", **options}).score(given)


def test_verls_signature_gets_the_whole_reply_and_its_numbers_become_components():
    score = scored("compute_score", attempt("I say 4", "4", data_source="sums", extra_info={"hard": True}))
    assert score == Score(1.0, True, {"length": 7.0, "hard": 1.0})
    assert scored("compute_score", attempt("5")) == Score(0.0, False, {"length": 1.0, "hard": 0.0})
    numpys = scored("compute_score", attempt("5", extra_info={"hard": np.bool_(True)}))
    assert numpys == Score(0.0, False, {"length": 1.0, "hard": 1.0})


def test_verls_older_signature_and_options_as_keyword_arguments():
    assert scored("old_compute_score", attempt("5")).value == 0.1
    assert scored("old_compute_score", attempt("5"), format_score=0.3) == Score(0.3, False)


def test_trls_signature_gets_conversations_where_the_prompt_is_one():
    assert scored("one_word", attempt("four")).value == 1.0
    assert scored("one_word", attempt("it is four")).value == 0.0


def test_trls_signature_gets_text_where_the_rows_prompt_is_text():
    assert scored("plain_length", attempt("four", prompt="2 + 2 =")).value == 0.4
    assert scored("plain_length", attempt("four", prompt="2 + 2 ="), unit=8).value == 0.5


def test_trls_columns_come_as_lists_of_one_and_none_means_that_it_does_not_apply():
    assert scored("only_sums", attempt(kind="sum", solution="4", unused=1)).value == 1.0
    assert scored("only_sums", attempt(kind="text", solution="4")).reason == "no reward applied"
    with pytest.raises(TypeError, match="solution"):  # the scorer makes it unscorable with these words
        scored("only_sums", attempt(kind="sum"))


def test_our_signature_gives_a_number_or_a_score():
    assert scored("parts", attempt()) == Score(0.5, True, {"style": 0.25})
    assert make_reward(f"{GRADERS}:instance").score(attempt()).value == 1.0


@pytest.mark.parametrize(
    ("answer", "options", "value", "correct", "reason"),
    [
        ("4", {"scale": [-10, 0]}, 1.0, True, None),
        ("5", {"scale": [-10, 0]}, 0.9, False, None),
        ("5", {"scale": [-10, 0], "correct_at": 0.9}, 0.9, True, None),
        ("99", {"scale": [-10, 0]}, 0.0, False, None),
        ("99", {"scale": [-1, 0]}, None, None, "below -1; a value lies in -1..0, as `scale` says"),
        ("5", {}, None, None, "below 0; a value lies in 0..1, or say `scale: [low, high]`"),
        ("6", {"scale": [-4, 0], "most": 4}, 0.5, False, None),
    ],
)
def test_a_range_is_mapped_and_what_lies_outside_is_unscorable(answer, options, value, correct, reason):
    score = scored("near", attempt(answer, truth=4), **options)
    assert score.correct is correct
    assert score.value == (None if value is None else pytest.approx(value))
    assert score.reason == (reason and f"bad value: float {reason}")


def test_a_function_is_never_called_in_the_trainer_and_reads_the_row():
    reward = make_reward(f"{GRADERS}:near")
    assert (reward.in_process, reward.needs_row) == (False, True)


@pytest.mark.parametrize("returned", [1.0, "1", {"a": 1}, [], [1.0, 1.0], None])
def test_a_trl_function_that_returns_no_list_of_one_is_told_so(returned, monkeypatch):
    import tests.environments.rewards.graders as graders

    monkeypatch.setattr(graders, "one_word", lambda completions: returned)
    with pytest.raises(ValueError, match="a list of one number or None"):
        scored("one_word", attempt())
