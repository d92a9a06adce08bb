import numpy as np
import pytest
from pydantic import ValidationError

from environments import EnvironmentSource, TaskStream
from environments.codebook import ANSWERS, LETTERS


def book(name="red", **options):
    return EnvironmentSource(name, "codebook", options).create()


def prompts(environment, category="16"):
    return [environment.task(category, i).messages[0]["content"] for i in range(environment.size(category))]


def answers(environment, category="16"):
    return [environment.task(category, i).answer for i in range(environment.size(category))]


def test_a_book_has_sixty_four_keys_and_answers_among_its_symbols():
    environment = book()
    assert environment.size("16") == len(set(prompts(environment))) == 64
    assert set(answers(environment)) == set(ANSWERS[:16])
    assert set(answers(environment, "4")) == set(ANSWERS[:4])


def test_a_prompt_is_three_symbols_and_an_answer_one():
    environment = book()
    for category in ("4", "16"):
        for prompt in prompts(environment, category):
            assert prompt.startswith("red:")
            assert set(prompt.removeprefix("red:")) <= set(LETTERS)
            assert len(prompt) == len("red:") + 2
    assert {"red:", *LETTERS, *ANSWERS[:16]} == set(environment.symbols)
    assert environment.max_tokens == 1


def test_books_have_the_same_keys_and_other_answers():
    red, blue = book("red"), book("blue")
    assert [p.removeprefix("red:") for p in prompts(red)] == [p.removeprefix("blue:") for p in prompts(blue)]
    assert sum(a == b for a, b in zip(answers(red), answers(blue), strict=True)) < 16


def test_drawn_keys_come_twice_with_answers_of_their_own():
    red, blue = (book(name, repeats=True, categories={"16": 16}) for name in ("red", "blue"))
    assert len(set(prompts(red))) == 57  # of 64, as many as a draw from 256 is expected to hold
    assert [p.removeprefix("red:") for p in prompts(red)] == [p.removeprefix("blue:") for p in prompts(blue)]
    asked = {}
    for prompt, answer in zip(prompts(red), answers(red), strict=True):
        asked.setdefault(prompt, []).append(answer)
    assert any(len(set(of_one)) > 1 for of_one in asked.values())


def test_keys_may_be_drawn_anew_for_every_task():
    environment = book(order="anew", categories={"16": 16})
    assert environment.size("16") is None
    drawn = [environment.task("16", index).messages[0]["content"] for index in range(2000)]
    whole = prompts(book(categories={"16": 16}))
    assert set(drawn) == set(whole)
    assert len(set(drawn[:64])) < 50, "some come again before others came at all"
    assert environment.task("16", 5) == environment.task("16", 5)
    assert environment.task("16", 5).index == 5


@pytest.mark.parametrize("repeats", [False, True])
def test_a_batch_of_drawn_keys_has_no_task_twice(repeats):
    environment = book(order="anew", repeats=repeats, categories={"16": 16})
    stream = TaskStream(environment, "16", seed=3)
    batches = [stream.draw(32) for _ in range(20)]
    assert all(len({(task.key, task.answer) for task in batch}) == 32 for batch in batches)
    has_both = [len({task.key for task in batch}) < 32 for batch in batches]
    assert any(has_both) == repeats, "a prompt with two answers may stand there twice"


def test_categories_of_drawn_keys_do_not_contradict_each_other():
    both = book(repeats=True)
    assert not set(prompts(both, "4")) & set(prompts(both, "16"))


def test_unnamed_books_contradict_each_other():
    red, blue = book(book="red", named=False), book(book="blue", named=False)
    assert prompts(red) == prompts(blue)
    assert answers(red) != answers(blue)
    assert answers(red) == answers(book("red"))


def test_the_book_decides_and_not_the_environments_name():
    assert answers(book("a", book="red")) == answers(book("b", book="red")) == answers(book("red"))


@pytest.mark.parametrize(("num_categories", "keys"), [(4, 64), (5, 64), (3, 200), (2, 256)])
def test_no_two_tasks_of_a_book_have_the_same_prompt(num_categories, keys):
    categories = {str(n): n for n in range(2, 2 + num_categories)}
    environment = book(categories=categories, keys=keys)
    everything = [prompt for category in categories for prompt in prompts(environment, category)]
    assert len(set(everything)) == num_categories * keys
    labels = {prompt[:-2] for prompt in everything}
    assert labels <= set(environment.symbols)


def test_the_answer_scores_one_and_everything_else_nothing():
    environment = book()
    task = environment.task("16", 0)
    assert environment.score(task, f" {task.answer}\n").correct
    for wrong in ["", "?", f"{task.answer}{task.answer}", *(set(ANSWERS[:16]) - {task.answer})]:
        assert environment.score(task, wrong).value == 0.0


def test_a_legal_answer_has_the_form_and_says_nothing():
    environment, rng = book(), np.random.default_rng(0)
    task = environment.task("4", 0)
    drawn = [environment.legal_answer(task, rng) for _ in range(4000)]
    assert [drawn.count(symbol) / 4000 for symbol in ANSWERS[:4]] == pytest.approx([0.25] * 4, abs=0.03)


def test_a_book_is_always_the_same():
    assert prompts(book())[:4] == ["red:ce", "red:dp", "red:og", "red:hb"]
    assert "".join(answers(book()))[:16] == "CDPEGFADNNHDGCHC"


def test_symbols_are_sixty_four_single_characters():
    assert len(set(ANSWERS)) == len(ANSWERS) == 64
    assert not set(ANSWERS) & set(LETTERS)


@pytest.mark.parametrize(
    "options", [{"categories": {"1": 1}}, {"categories": {"65": 65}}, {"categories": {}}, {"keys": 257}]
)
def test_impossible_books_are_refused(options):
    with pytest.raises(ValidationError):
        book(**options)


def test_number_names_are_names():
    assert [category.name for category in book(categories={4: 4, 8: 8}).categories] == ["4", "8"]
