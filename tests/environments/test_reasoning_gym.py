import inspect
import os
import pickle
import random
import re
import sys
from weakref import WeakValueDictionary

import numpy as np
import pytest
from pydantic import ValidationError

from environments import EnvironmentFault, EnvironmentSource, first_tasks, validate
from environments.reasoning_gym import EVALUATED, HASH_ORDERED
from tests.shares import slow

reasoning_gym = pytest.importorskip("reasoning_gym")

WORDS = {"3": {"min_word_len": 3, "max_word_len": 3}, "6": {"min_word_len": 6, "max_word_len": 6}}


def gym(dataset, **options):
    return EnvironmentSource("words", "reasoning_gym", {"dataset": dataset, **options}).create()


def errors(**options):
    with pytest.raises(ValidationError) as caught:
        validate("reasoning_gym", options)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


@pytest.fixture(scope="module")
def spelling():
    return gym("spell_backward", categories=WORDS)


def test_categories_are_named_option_sets(spelling):
    assert [category.name for category in spelling.categories] == ["3", "6"]
    assert spelling.categories[0].parameters == {"min_word_len": 3, "max_word_len": 3}
    assert {len(spelling.task("3", i).answer or "") for i in range(50)} == {3}
    assert {len(spelling.task("6", i).answer or "") for i in range(50)} == {6}


def test_a_task_depends_on_category_index_and_generator_seed_alone(spelling):
    again = gym("spell_backward", categories=WORDS)
    assert spelling.task("3", 12345) == again.task("3", 12345)
    assert gym("spell_backward", categories=WORDS, seed=7).task("3", 0).key == spelling.task("3", 7).key


def test_a_data_set_is_built_once_for_all_that_ask_for_it_with_the_same_options(monkeypatch):
    from reasoning_gym import factory

    built, create = [], factory.create_dataset
    monkeypatch.setattr("environments.reasoning_gym._BUILT", WeakValueDictionary())  # of other tests, some may live
    monkeypatch.setattr(
        factory, "create_dataset", lambda *of, **options: built.append(options) or create(*of, **options)
    )
    one, other = (gym("spell_backward", categories={"4": {"min_word_len": 4, "max_word_len": 4}}) for _ in range(2))
    assert one.task("4", 0) == other.task("4", 0)
    assert len(built) == 1
    assert gym("spell_backward", categories={"4": {"min_word_len": 4}}).task("4", 0) != one.task("4", 0)
    assert len(built) == 2


def test_tasks_never_end_unless_a_size_is_given(spelling):
    assert spelling.size("3") is None
    assert spelling.task("3", 2**30).answer
    finite = gym("gcd", categories={"few": {"size": 30}, "all": {}})
    assert (finite.size("few"), finite.size("all")) == (30, None)
    assert gym("acre").size("default") == 2000


@pytest.mark.parametrize(
    ("completion", "value", "correct"),
    [
        ("{}", 1.0, True),
        (" {}\n", 1.0, True),
        ("", 0.0, False),
        ("{}x", 0.8, False),  # the library adds up 1/6 six times here and says .9999999999999999
    ],
)
def test_partial_credit_is_never_correct(spelling, completion, value, correct):
    task = spelling.task("6", 0)
    score = spelling.score(task, completion.format(task.answer))
    assert (score.value, score.correct) == (pytest.approx(value), correct)


@pytest.mark.parametrize("length", range(3, 11))
def test_an_answer_that_is_too_long_is_partial_credit_at_every_length(length):
    words = gym("spell_backward", categories={"n": {"min_word_len": length, "max_word_len": length}})
    task = words.task("n", 0)
    score = words.score(task, f"{task.answer}x")
    assert (score.value, score.correct) == (pytest.approx(0.8), False)
    assert words.score(task, task.answer or "").correct


@pytest.mark.parametrize(
    ("dataset", "completion", "credit"),
    [
        ("coin_flip", "0", 0.0),
        ("complex_arithmetic", "nan", 0.0),
        ("game_of_life_halting", "perhaps", 0.0),
        ("letter_jumble", "{} more", 0.8),
        ("puzzle24", "(1 + 2 + 3) * 4", 0.0),
    ],
)
def test_generous_verifiers_do_not_make_wrong_answers_correct(dataset, completion, credit):
    environment = gym(dataset)
    tasks = [environment.task("default", index) for index in range(20)]
    assert all(environment.score(task, task.answer or "").correct for task in tasks)
    scores = [environment.score(task, completion.format(task.answer)) for task in tasks]
    right = ("0", "1e-05", "3.051757812e-05", "6.103515625e-05", "9.155273438e-05")  # within coin_flip's 1e-4
    wrong = [score for task, score in zip(tasks, scores, strict=True) if task.answer not in right]
    assert not any(score.correct for score in wrong)
    assert max(score.value or 0 for score in wrong) == credit


@pytest.mark.parametrize(
    ("dataset", "completion"),
    [
        ("boxnet", "1e999"), ("coin_flip", "1e999"), ("prime_factorization", "two times three"), ("game_of_life", "{}"),
        ("game_of_life", "[{}]"),
    ],
)  # fmt: skip
def test_what_a_verifier_cannot_read_is_wrong_and_not_unscorable(dataset, completion):
    environment = gym(dataset)
    assert environment.score(environment.task("default", 0), completion).value == 0.0


RUN = '__import__("os").environ.update(RAN="1")'
ENVIRON = '[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == "_wrap_close"][0].__init__.__globals__'
PROGRAMS = (
    RUN,
    RUN.replace('"', "'"),
    RUN.replace("__import__", "__\uff49mport__"),  # Python reads it as the same name
    f"(lambda: {RUN})()",
    f"[{RUN} for x in (1, 2)]",
    f"{ENVIRON}['environ'].update(RAN='1')",
    "exec('import os; os.environ.update(RAN=\\'1\\')')",
    f"eval({RUN!r})",
    f"sympify({RUN!r})",
    f"S({RUN!r})",
    f"Symbol('x').subs('x', {RUN!r})",
    f"f'{{{RUN}}}'",
)
EVERY = sorted(set(reasoning_gym.factory.DATASETS) - {"composite"})


@pytest.fixture
def gym_of_any_process(monkeypatch):
    """`gym`, also of data sets whose tasks differ from process to process."""
    monkeypatch.setattr("environments.reasoning_gym.HASH_ORDERED", frozenset())
    return gym


@pytest.mark.parametrize("dataset", [name if name in EVALUATED else slow(name) for name in EVERY])
def test_no_answer_is_run(dataset, gym_of_any_process, monkeypatch):
    monkeypatch.setenv("RAN", "")
    environment = gym_of_any_process(dataset)
    task = environment.task("default", 0)
    reference = task.answer or ""
    for program in PROGRAMS:
        beside = (f"{reference} + {program}", f"({program}, {reference})")
        for answer in (program, f"[{program}]", f" \n{program}", *beside):
            score = environment.score(task, answer)
            assert not os.environ["RAN"], answer
            assert score.value == 0 or dataset not in EVALUATED


def test_every_data_set_that_may_evaluate_an_answer_is_listed():
    evaluates = re.compile(r"\b(eval|exec|parse_expr|sympify|S)\(")
    found = {name for name in EVERY if evaluates.search(inspect.getsource(sys.modules[source_of(name)]))}
    harmless = {  # where these stand, they are given nothing of an answer
        *("basic_arithmetic", "bitwise_arithmetic", "codeio", "number_sorting"),
        "propositional_logic",  # a parser of its own
    }
    assert found == EVALUATED.keys() | harmless


def source_of(dataset):
    return reasoning_gym.factory.DATASETS[dataset][0].__module__


@pytest.mark.parametrize("dataset", sorted(EVALUATED))
def test_reference_answers_of_data_sets_that_evaluate_are_correct(dataset, gym_of_any_process):
    environment = gym_of_any_process(dataset)
    for index in range(6):
        task = environment.task("default", index)
        assert environment.score(task, task.answer).correct, task.answer


@pytest.mark.parametrize(
    ("dataset", "write", "value"),
    [
        ("binary_matrix", lambda answer: str([list(map(int, row.split())) for row in answer.split("\n")]), 0.1),
        ("spiral_matrix", lambda answer: str(tuple(map(int, answer.split()))), 0.1),
        ("string_insertion", lambda answer: str(list(answer)), 0.1),
        ("n_queens", lambda answer: str([row.split() for row in answer.split("\n")]), 0.5),
        ("countdown", lambda answer: f"( {answer} ) * (1)", 0.05),
        ("countdown", lambda answer: f"({answer})", 1.0),
        ("puzzle24", lambda answer: f" ({answer})\n", 1.0),
        ("simple_integration", lambda answer: answer.replace("C", "k1 + 1.5*sqrt(pi)"), 1.0),
        ("intermediate_integration", lambda answer: f"{answer} + log(2, 10) - asinh(.5)", 1.0),
        ("polynomial_multiplication", lambda answer: " + ".join(answer.replace("-", "+ -").split(" + ")[::-1]), 1.0),
    ],
)
def test_legal_answers_other_than_the_reference_are_evaluated(dataset, write, value, gym_of_any_process):
    environment = gym_of_any_process(dataset)
    task = environment.task("default", 0)
    assert environment.score(task, write(task.answer)).value == value


def test_scoring_prints_nothing(capsys):
    towers = gym("tower_of_hanoi")
    towers.score(towers.task("default", 0), "Move disk 1 from Peg 1 to Peg 4")
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(sys.flags.hash_randomization == 0, reason="PYTHONHASHSEED=0: they are the same everywhere")
@pytest.mark.parametrize("dataset", sorted(HASH_ORDERED))
def test_a_data_set_that_differs_from_process_to_process_is_refused_and_says_what_helps(dataset):
    ((location, message),) = errors(dataset=dataset)
    assert location == ("dataset",)
    assert "set the environment variable PYTHONHASHSEED=0" in message


def test_a_probability_may_be_written_as_a_fraction():
    flips = gym("coin_flip")
    half = next(t for i in range(500) if (t := flips.task("default", i)).answer == "0.5")
    assert flips.score(half, "1/2").correct
    assert not flips.score(half, "0").correct


def test_a_box_holds_the_answer_and_a_reply_without_one_is_worth_nothing():
    boxed = gym("spell_backward", categories=WORDS, answer="boxed")
    task = boxed.task("3", 0)
    bare = task.answer.removeprefix("\\boxed{").removesuffix("}")
    assert "\\boxed{}" in task.messages[0]["content"]
    assert boxed.score(task, f"I think \\boxed{{{bare}}}.").correct
    assert boxed.score(task, bare).value == 0.0


def test_tags_hold_the_answer_and_a_reply_without_them_is_worth_nothing():
    tagged = gym("spell_backward", categories=WORDS, answer="tag", max_tokens=20)
    task = tagged.task("3", 0)
    bare = str(task.data["entry"]["answer"])
    assert task.answer == f"<answer>{bare}</answer>"
    assert task.messages[0]["role"] == "system"
    assert tagged.max_tokens == 20
    assert tagged.score(task, f"I think <answer>{bare}</answer>").correct
    assert tagged.score(task, bare).value == 0.0


def test_a_task_carries_all_that_a_worker_needs_to_score_it():
    fresh, other = gym("gsm_symbolic"), gym("gsm_symbolic")
    task = pickle.loads(pickle.dumps(fresh.task("default", 3)))
    assert other.score(task, task.answer or "").correct


def test_making_a_task_again_costs_nothing():
    stories = gym("gsm_symbolic")
    assert stories.task("default", 0) is stories.task("default", 0)


def assert_undisturbed(dataset, capsys, num_tasks):
    random.seed(1)
    np.random.seed(1)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    environment = gym(dataset)
    tasks = [environment.task("default", index) for index in range(num_tasks)]
    after = np.random.get_state()
    assert random.getstate() == python_state
    assert after[2] == numpy_state[2]
    assert np.array_equal(after[1], numpy_state[1])
    random.seed(2)
    np.random.seed(2)
    again = gym(dataset)
    assert [again.task("default", index).key for index in range(num_tasks)] == [task.key for task in tasks]
    assert capsys.readouterr().out == ""
    return again, tasks


@pytest.mark.parametrize(
    "dataset", ["spell_backward", "gcd", "pool_matrix", "list_functions", "codeio", "figlet_font", "bf"]
)
def test_generation_touches_no_global_generator_and_asks_none(dataset, capsys):
    assert_undisturbed(dataset, capsys, num_tasks=20)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", sorted(set(reasoning_gym.factory.DATASETS) - {"composite"} - HASH_ORDERED))
def test_every_data_set_keeps_the_contract(dataset, capsys):
    fresh, tasks = assert_undisturbed(dataset, capsys, num_tasks=10)
    for task in tasks:
        sent = pickle.loads(pickle.dumps(task))
        if sent.answer is not None:
            assert fresh.score(sent, sent.answer).correct
        assert not fresh.score(sent, "").correct


@pytest.mark.parametrize(
    ("dataset", "in_process"),
    [
        *((name, True) for name in ("spell_backward", "gcd", "count_bits", "chain_sum", "letter_counting")),
        *((name, True) for name in ("caesar_cipher", "number_sorting", "word_sorting", "palindrome_generation")),
        *((name, False) for name in ("countdown", "puzzle24", "simple_integration", "spiral_matrix", "n_queens")),
    ],
)
def test_only_scorers_that_cannot_hang_or_evaluate_text_run_in_the_trainer(dataset, in_process):
    assert gym(dataset).scores_in_process is in_process


def test_a_category_may_be_held_out_only():
    environment = gym("gcd", categories={"learn": {}, "test": {"max_value": 50, "trainable": False}})
    assert [category.trainable for category in environment.categories] == [True, False]
    assert environment.categories[1].parameters == {"max_value": 50}


def test_an_unknown_data_set_lists_near_names():
    ((location, message),) = errors(dataset="spell_bckward")
    assert location == ("dataset",)
    assert "'spell_bckward'" in message
    assert "did you mean spell_backward" in message


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"min_wrd_len": 3}, ["category '3'", "'min_wrd_len'", "did you mean min_word_len", "max_word_len"]),
        ({"nonsense": 3}, ["no option 'nonsense'", "data_file", "max_word_len"]),
        ({"min_word_len": 5, "max_word_len": 4}, ["category '3'", "max_word_len must be >="]),
        ({"min_word_len": "five"}, ["category '3'", "spell_backward refuses"]),
        ({"trainable": "no"}, ["category '3'", "trainable is true or false"]),
    ],
)
def test_a_wrong_option_is_named_with_those_there_are(options, parts):
    ((location, message),) = errors(dataset="spell_backward", categories={"3": options})
    assert location == ("categories",)
    assert all(part in message for part in parts)


def test_a_task_that_cannot_be_made_names_environment_and_category():
    with pytest.raises(EnvironmentFault, match="words, category default: gsm_symbolic could not make task 2000"):
        gym("gsm_symbolic").task("default", 2000)


def test_held_out_words_are_not_those_of_training(spelling):
    held_out = {task.key for task in first_tasks(spelling, "3", "anchor", 64)}
    training = {task.key for task in first_tasks(spelling, "3", "train", 500)}
    assert len(held_out) > 20
    assert not held_out & training


def test_the_version_names_adapter_and_library(spelling):
    assert spelling.version.startswith("3+reasoning-gym-")
