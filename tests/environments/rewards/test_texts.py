"""Worked cases of the rewards that compare texts, numbers and letters."""

import pytest

from environments.rewards import make_reward
from environments.tables.row_file import InvalidRow
from tests.environments.rewards.scoring import judge, worth

LOOSE = {"type": "exact", "ignore_case": True, "ignore_space": True}


@pytest.mark.parametrize(
    ("section", "answer", "truth", "value"),
    [
        ("exact", "Paris", "Paris", 1.0),
        ("exact", " Paris\n", "Paris", 1.0),
        ("exact", "paris", "Paris", 0.0),
        ("exact", "New  York", "New York", 0.0),
        ("exact", "42", 42, 1.0),
        ("exact", "42", 42.0, 1.0),  # of a column with gaps
        ("exact", "42.0", 42.0, 0.0),
        ("exact", "7", [1.5, 7.0], 1.0),
        ("exact", "42", "42.0", 0.0),
        ("exact", "42.0", 42, 0.0),
        ("exact", "Rome", ["Paris", "Rome"], 1.0),
        ("exact", "e\u0301", "\u00e9", 1.0),
        ("exact", "", "Paris", 0.0),
        (LOOSE, "nEW  yORK", "New York", 1.0),
        (LOOSE, "NewYork", "New York", 1.0),
        (LOOSE, "STRASSE", "Stra\u00dfe", 1.0),
        ("numeric", "1,234.5", 1234.5, 1.0),
        ("numeric", "1e3", 1000, 1.0),
        ("numeric", "3/4", 0.75, 1.0),
        ("numeric", "50%", "0.5", 1.0),
        ("numeric", "50%", 50, 0.0),
        ("numeric", "-3", -3, 1.0),
        ("numeric", "\u22123", "-3", 1.0),
        ("numeric", "$1,000", 1000, 1.0),
        ("numeric", "-$5", -5, 1.0),
        ("numeric", "\u20ac 12.00", 12, 1.0),
        ("numeric", "12.00 \u20ac", 12, 1.0),
        ("numeric", "-12.00\u00a0\u20ac", -12, 1.0),
        ("numeric", "50 %", 0.5, 1.0),
        ("numeric", "12 $ 7", 12, 0.0),
        ("numeric", "1/-2", -0.5, 1.0),
        ("numeric", ".5", 0.5, 1.0),
        ("numeric", "5.", 5, 1.0),
        ("numeric", "0.1", 0.1, 1.0),
        ("numeric", "1/3", 0.3333, 0.0),
        ("numeric", "7", [3, "7"], 1.0),
        ("numeric", "9007199254740993", 9007199254740992, 0.0),
        ("numeric", "1,23", 123, 0.0),
        ("numeric", "3/0", 0, 0.0),
        ("numeric", "inf", 1e308, 0.0),
        ("numeric", "nan", 0, 0.0),
        ("numeric", "1_000", 1000, 0.0),
        ("numeric", "0x10", 16, 0.0),
        ("numeric", "\u0663", 3, 0.0),
        ("numeric", "2+2", 4, 0.0),
        ("numeric", "4 apples", 4, 0.0),
        ("numeric", "1e9999", 1, 0.0),
        ({"type": "numeric", "relative_tolerance": 0.01}, "99", 100, 1.0),
        ({"type": "numeric", "relative_tolerance": 0.01}, "98.9", 100, 0.0),
        ({"type": "numeric", "absolute_tolerance": 0.5}, "2.5", 2, 1.0),
        ({"type": "numeric", "absolute_tolerance": 0.5}, "2.51", 2, 0.0),
        *(({"type": "numeric", "absolute_tolerance": at}, str(at), 0, 1.0) for at in (0.15, 0.3, 0.6, 0.7, 1e-6)),
        ({"type": "numeric", "relative_tolerance": 0.3}, "13", 10, 1.0),
        ({"type": "numeric", "relative_tolerance": 0.3}, "7", 10, 1.0),
        ({"type": "numeric", "relative_tolerance": 0.1}, "11.0000000000000000001", 10, 0.0),
        ({"type": "numeric", "where": "last"}, "4 + 4 = 8.", 8, 1.0),
        ({"type": "numeric", "where": "last"}, "It has 1,234 apples", 1234, 1.0),
        ({"type": "numeric", "where": "last"}, "1, 2 or 3", 1, 0.0),
        ({"type": "numeric", "where": "last"}, "10-5", 5, 1.0),
        ({"type": "numeric", "where": "last"}, "It costs 12.00 \u20ac.", 12, 1.0),
        ({"type": "numeric", "where": "last"}, "5 $7", 7, 1.0),
        ({"type": "numeric", "where": "last"}, "none", 0, 0.0),
        ("choice", "B", "B", 1.0),
        ("choice", "b", "B", 1.0),
        ("choice", "(B)", "B", 1.0),
        ("choice", "[b]", "b", 1.0),
        ("choice", "B.", "B", 1.0),
        ("choice", "B) Paris", "B", 1.0),
        ("choice", "**B**", "B", 1.0),
        ("choice", r"\text{B}", "B", 1.0),
        ("choice", "The answer is (B).", "B", 1.0),
        ("choice", "**Answer:** B", "B", 1.0),
        ("choice", "B", 1, 1.0),
        ("choice", "A", 1, 0.0),
        ("choice", "B", 1.0, 1.0),
        ("choice", "B", " 1.0", 1.0),
        ({"type": "choice", "letters": "1234"}, "2", 2.0, 1.0),
        ("choice", "(A) (B) (C) (D)", "B", 0.0),
        ("choice", "Bob", "B", 0.0),
        ("choice", "a cat", "A", 0.0),
        ("choice", "A B C", "A", 0.0),
        ({"type": "choice", "letters": "1234"}, "2", 2, 1.0),
        ({"type": "choice", "letters": "aA"}, "A", "A", 1.0),
        ({"type": "choice", "letters": "aA"}, "a", "A", 0.0),
        ("regex", "cat", "c.t", 1.0),
        ("regex", "a cat", "c.t", 0.0),
        ({"type": "regex", "search": True}, "a cat sat", "c.t", 1.0),
        ({"type": "regex", "ignore_case": True}, "CAT", "c.t", 1.0),
        ({"type": "regex", "pattern": "[0-9]+"}, "12", None, 1.0),
        ({"type": "regex", "pattern": "[0-9]+"}, "12a", None, 0.0),
    ],
)
def test_worked_cases(section, answer, truth, value):
    score = judge(section, answer, truth)
    assert score.value == value
    assert score.correct is (value == 1.0)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Paris", 1.0),
        (" paris. ", 1.0),
        ("Rome", 0.0),
        ("B. Rome", 1.0),
        ("Pari", 0.0),
        ("Oslo", 0.0),
        ("", 0.0),
    ],
)
@pytest.mark.parametrize(
    "options",
    [
        ["Rome", "Paris", "Oslo", "oslo"],
        {"A": "Rome", "B": "Paris", "C": "Oslo", "D": None},
        {"text": ["Paris", "Rome", "Oslo"], "label": ["B", "A", "C"]},  # ARC's
        [
            {"label": "B", "text": "Paris"},
            {"label": "A", "text": "Rome"},
            {"label": "C", "text": "Oslo"},
        ],  # of CommonsenseQA
    ],
)
def test_a_choice_may_be_given_by_its_text(answer, value, options):
    assert worth({"type": "choice", "options": "choices"}, answer, "B", choices=options) == value


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("B", 1.0),
        ("(b) Paris", 1.0),
        ("paris", 1.0),
        ("2", 1.0),
        ("Option 2.", 1.0),
        ("1", 0.0),
        ("3", 0.0),
        ("A", 0.0),
    ],
)
@pytest.mark.parametrize(
    "options",
    [
        {"text": ["Rome", "Paris", "Oslo", "3"], "label": ["1", "2", "3", "4"]},
        {"text": ["Rome", "Paris", "Oslo", "3"], "label": [1, 2, 3, 4]},
        {"1": "Rome", "2": "Paris", "3": "Oslo", "4": "3"},
        [{"label": str(i), "text": text} for i, text in enumerate(["Rome", "Paris", "Oslo", "3"], start=1)],
    ],
)
@pytest.mark.parametrize("truth", ["2", 2, "2.0"])
def test_numbers_that_label_options_stand_for_the_letters_of_their_places(answer, value, options, truth):
    section = {"type": "choice", "options": "choices"}
    meant = make_reward(section).truth_in(truth, {"choices": options})
    assert meant == "B"
    assert worth(section, answer, meant, choices=options) == value
    assert make_reward([section]).truth_in(truth, {"choices": options}) == "B"
    digits = {"type": "choice", "options": "choices", "letters": "1234"}
    assert worth(digits, "2", truth, choices=options) == 1.0


@pytest.mark.parametrize(
    ("options", "answer", "meant"),
    [
        (["O", "A", "B", "AB"], "A", "A"),
        (["O", "A", "B", "AB"], "(b)", "B"),
        (["O", "A", "B", "AB"], "AB", "D"),
        (["O", "A", "B", "AB"], "O", "A"),
        (["J. Doe", "A. Smith"], "A. Smith", "A"),
        (["Rome", "I, II"], "I, II", "B"),  # I is the letter of no option there
        (["3", "2", "1", "4"], "1", "C"),
    ],
)
def test_an_answer_is_right_for_one_truth_at_most(options, answer, meant):
    section = {"type": "choice", "options": "choices"}
    right = [letter for letter in "ABCD"[: len(options)] if worth(section, answer, letter, choices=options)]
    assert right == [meant]


@pytest.mark.parametrize(
    ("options", "truth", "there"),
    [
        (["Rome", "Paris"], "C", "'C' means C; there are A, B"),
        (["Rome", "Paris"], 7, "7 means H; there are A, B"),
        ({"A": "Rome", "B": None}, "B", "there are A"),
        ([], "A", "there are none at all"),
    ],
)
def test_a_truth_that_is_none_of_its_options_makes_a_row_invalid(options, truth, there):
    with pytest.raises(InvalidRow, match=f"the truth is none of the options: .*{there}"):
        make_reward({"type": "choice", "options": "choices"}).truth_in(truth, {"choices": options})
    assert make_reward("choice").truth_in(truth, {"choices": options}) == truth


@pytest.mark.parametrize("options", [[{"text": "Rome"}, {"text": "Paris"}], [{"label": "A", "text": "Rome"}, "Paris"]])
def test_options_of_another_form_are_refused(options):
    with pytest.raises(ValueError, match=r"expected texts as options, or \{label, text\} in all of them"):
        make_reward({"type": "choice", "options": "choices"}).check_row({"choices": options})


def test_two_options_of_the_same_text_are_told_apart_by_letter_only():
    section = {"type": "choice", "options": "choices"}
    assert worth(section, "Oslo", "A", choices=["Oslo", "oslo"]) == 0.0
    assert worth(section, "A", "A", choices=["Oslo", "oslo"]) == 1.0
    assert make_reward(section).needs_row
    with pytest.raises(ValueError, match="`options`: nothing at 'choices'"):
        judge(section, "Oslo", "A")


def test_options_may_be_given_by_a_path():
    section = {"type": "choice", "options": "choices.text"}
    assert worth(section, "Paris", "B", choices={"text": ["Rome", "Paris"]}) == 1.0


@pytest.mark.parametrize(
    ("section", "truth", "message"),
    [
        ("exact", None, "found None"),
        ("exact", True, r"found True; of true and false: `COLUMN \| string \| lower`"),
        ("exact", [], "an empty list"),
        ("exact", " ", "not empty"),
        ("exact", ["a", ""], "not empty"),
        ("exact", {"a": 1}, "found {'a': 1}"),
        ("numeric", "many", "found 'many'"),
        ("numeric", float("nan"), "found nan"),
        ("numeric", True, "found True"),
        ("numeric", "so 6 * 7 = 42\n#### 42", r'take only what is behind ####, `truth: COLUMN.split\("####"\)\[-1\]'),
        ("numeric", [], "an empty list"),
        ("choice", "Z", "one of the letters ABCDEFGHIJ"),
        ("choice", 10, "found 10"),
        ("choice", 0.5, "found 0.5"),
        ("choice", -1.0, "found -1.0"),
        ("choice", "0", r"a place from 0, as a number \(of a text: `COLUMN \| int\(-1\)`\), as truth, found '0'"),
        ("choice", True, "found True"),
        ("choice", None, "found None"),
        ("regex", "(", "does not compile"),
        ("regex", 3, "found 3"),
    ],
)
def test_a_truth_that_nothing_compares_with_is_refused(section, truth, message):
    with pytest.raises(ValueError, match=message):
        make_reward(section).check(truth)


@pytest.mark.parametrize(
    ("section", "truth"),
    [("exact", ["b", "c"]), ("exact", 3.5), (LOOSE, " A b"), ("numeric", "1,000"), ("numeric", [2.5, 3]),
     ("numeric", 1e-7), ("choice", "c"), ("choice", 0)],
)  # fmt: skip
def test_a_reference_is_worth_one(section, truth):
    reward = make_reward(section)
    reward.check(truth)
    assert judge(section, reward.reference(truth), truth).correct
