from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from environments import Category, Environment, Pool, Score, Task
from environments.leaks import Leaks, find_leaks
from environments.leaks.search import NUM_HASHES, RECALL, bands, candidates
from environments.leaks.texts import Text, TextReader, Views, jaccard, without

Given = tuple[str, Pool]  # what a task says and where it is


class Book(Environment):
    """Tasks as they are given, each in the pool that is named."""

    version = "1"

    def __init__(
        self,
        name: str,
        tasks: Mapping[str, Sequence[Given]],
        held_out: Sequence[str] = (),
        ends: bool = True,
        closed: bool = False,
    ) -> None:
        self.name, self.tasks, self.held_out, self.ends, self.closed = name, tasks, held_out, ends, closed

    @property
    def categories(self) -> list[Category]:
        return [Category(name, trainable=name not in self.held_out) for name in self.tasks]

    def size(self, category: str) -> int | None:
        return len(self.tasks[category]) if self.ends else None

    def task(self, category: str, index: int) -> Task:
        own = self.tasks[category]
        content = own[index % len(own)][0]
        return Task(self.name, category, index, ({"role": "user", "content": content},))

    def pool(self, task: Task) -> Pool:
        own = self.tasks[task.category]
        return own[task.index % len(own)][1]

    def score(self, task: Task, completion: str) -> Score:
        return Score.of(0.0)


TEMPLATE = (
    "A conversation between User and Assistant. The Assistant thinks, then answers.\n"
    "User: Using the numbers {numbers}, create an equation that equals {target}. Use each number once.\nAssistant:"
)


def numbers(seed: int, num: int, size: int = 3) -> list[tuple[list[int], int]]:
    rng = np.random.default_rng(seed)
    return [([int(n) for n in rng.integers(1, 100, size)], int(rng.integers(100, 1000))) for _ in range(num)]


def asked(of: tuple[list[int], int], template: str = TEMPLATE) -> str:
    return template.format(numbers=of[0], target=of[1])


def both(*texts: tuple[str, Pool], name: str = "one") -> dict[str, Environment]:
    return {name: Book(name, {"all": texts})}


def filled(*more: Given) -> dict[str, Environment]:
    """An environment of 300 countdown tasks that are nothing alike, and some more."""
    known = numbers(1, 300)
    pools: list[Pool] = ["train"] * 240 + ["anchor"] * 60
    return both(*zip(map(asked, known), pools, strict=True), *more)


# --- what is found, and what is not -------------------------------------------------------------------


def test_a_shared_template_makes_no_leak() -> None:
    found = find_leaks(filled())
    assert (found.num_leaks, found.num_training, found.num_held_out) == (0, 240, 60)


@pytest.mark.parametrize(
    ("change", "how", "similarity"),
    [
        (str.upper, "same text", 1.0),
        (lambda text: text.replace(" ", "  ").replace("\n", " \n"), "same text", 1.0),
        (lambda text: text.replace("A", "\uff21"), "same text", 1.0),  # a full-width A
        (lambda text: text.replace("[48, 52, 76]", "[76, 48, 52]"), "other order", 1.0),
        (lambda text: text.replace("Use each", "Please use each"), "similar", 0.8),
    ],
)
def test_a_task_said_a_little_differently_is_found(change: Callable[[str], str], how: str, similarity: float) -> None:
    original = asked(([48, 52, 76], 888))
    changed = change(original)
    assert changed != original
    found = find_leaks(filled((original, "train"), (changed, "select")))
    (leak,) = found.leaks
    assert (leak.how, leak.training.index, leak.held_out.index, leak.held_out.pool) == (
        how,
        300,
        301,
        "select",
    )
    assert (leak.training.text, leak.held_out.text) == (original, changed)
    assert leak.similarity == similarity
    assert (found.num_leaks, dict(found.by_how)) == (1, {how: 1})


@pytest.mark.parametrize("other", [([48, 52, 77], 888), ([48, 52, 76], 887), ([48, 48, 76], 888)])
def test_one_other_number_of_few_is_another_task(other: tuple[list[int], int]) -> None:
    tasks: tuple[Given, ...] = ((asked(([48, 52, 76], 888)), "train"), (asked(other), "anchor"))
    assert find_leaks(filled(*tasks)).num_leaks == 0


@pytest.mark.parametrize("sign", "+*")
def test_one_other_number_or_sign_of_a_long_problem_is_another_task(sign: str) -> None:
    words = " ".join(story(np.random.default_rng(0), 40))
    text = f"{words} Solve 17 x - 3 = 29."
    others: list[Given] = [(" ".join(story(np.random.default_rng(k), 40)), "train") for k in range(1, 30)]
    assert find_leaks(both(*others, (text, "train"), (text.replace("Solve", "Find"), "anchor"))).num_leaks == 1
    for changed in (text.replace("17", "19"), text.replace("- 3", f"{sign} 3")):
        assert find_leaks(both(*others, (text, "train"), (changed, "anchor"))).num_leaks == 0


def puzzle(rng: np.random.Generator, num_clues: int = 9) -> str:
    """One of a family of logic puzzles: a long template, few names, clues of the same few forms."""
    names, drinks = ["Alice", "Bob", "Carol", "Eric", "Arnold"], ["tea", "milk", "coffee", "water", "beer"]
    clues = [
        f"{number}. The {rng.choice(drinks)} drinker is {rng.choice(['left of', 'right of', 'beside'])} "
        f"{rng.choice(names)}."
        for number in range(1, num_clues + 1)
    ]
    return "\n".join(["There are five houses, each with one person and one drink.", *clues, "Who lives in house 1?"])


def grid(rng: np.random.Generator) -> str:
    """One of a family of rules on rows of digits: nothing but digits differs, and all digits are common."""
    rows = [" ".join(map(str, rng.choice(10, 12, p=[0.55, *[0.05] * 9]))) for _ in range(6)]
    pairs = [f"Input: {a}\nOutput: {b}" for a, b in zip(rows[::2], rows[1::2], strict=True)]
    return "\n\n".join(["Find the rule that maps inputs to outputs.", *pairs, "Apply it to the next input."])


@pytest.mark.parametrize("kind", [puzzle, grid])
def test_puzzles_of_one_template_are_no_leaks_and_a_changed_copy_is_one(
    kind: Callable[[np.random.Generator], str],
) -> None:
    rng = np.random.default_rng(0)
    texts = [kind(rng) for _ in range(300)]
    tasks: list[Given] = [(text, "train") for text in texts[:200]] + [(text, "anchor") for text in texts[200:]]
    assert find_leaks(both(*tasks)).num_leaks == 0
    before, *parts, after = texts[7].split("\n\n" if kind is grid else "\n")
    turned = "\n".join([before, *parts[1:], parts[0], after])
    (leak,) = find_leaks(both(*tasks, (turned, "anchor"))).leaks
    assert (leak.training.index, leak.how) == (7, "other order")
    assert leak.similarity < 1, "only an equal text is"


def story(rng: np.random.Generator, num_words: int) -> list[str]:
    syllables = ["ba", "do", "ki", "mu", "ne", "ro", "su", "ta", "vi", "ze"]
    return ["".join(rng.choice(syllables, 3)) for _ in range(num_words)]


@pytest.mark.parametrize(("num_changed", "similarity"), [(1, 0.902), (2, 0.812), (6, None)])
def test_long_texts_are_compared_by_what_they_share(num_changed: int, similarity: float | None) -> None:
    rng = np.random.default_rng(0)
    stories = [story(rng, 60) for _ in range(50)]
    changed = list(stories[7])
    for place in range(num_changed):
        changed[5 + 9 * place] = "elsewhere"
    tasks: list[Given] = [(" ".join(words), "train") for words in stories]
    found = find_leaks(both(*tasks, (" ".join(changed), "anchor")))
    assert [round(leak.similarity, 3) for leak in found.leaks] == ([] if similarity is None else [similarity])
    assert [leak.training.index for leak in found.leaks] == ([] if similarity is None else [7])


def test_the_same_numbers_asked_otherwise_are_another_task() -> None:
    """The sum of two numbers is not their product, though nothing else than the numbers is left of either."""
    known = numbers(2, 100, 2)
    sums: list[Given] = [(asked(of, "What is the sum of {numbers}?"), "train") for of in known]
    products: list[Given] = [(asked(of, "What is the product of {numbers}?"), "anchor") for of in known]
    assert find_leaks({"one": Book("one", {"sum": sums, "product": products})}).num_leaks == 0


def test_where_every_number_is_common_only_the_same_text_counts() -> None:
    texts = [f"Add {a} and {b}." for a in range(4) for b in range(4)]
    tasks: list[Given] = [(text, "train") for text in texts[:-1]]
    found = find_leaks(both(*tasks, ("add 1  and 2.", "anchor"), (texts[-1], "anchor")))
    assert [(leak.how, leak.held_out.index) for leak in found.leaks] == [("same text", 15)]


def test_words_written_without_spaces_are_compared_too() -> None:
    original = "太郎はりんごを三つ買いました。残りはいくつですか。"
    found = find_leaks(both((original, "train"), (original.replace("か。", "か?"), "anchor")))
    assert found.num_leaks == 1


def test_the_same_task_on_both_sides_is_found_where_an_environment_splits_by_itself() -> None:
    text = asked(([48, 52, 76], 888))
    assert find_leaks(filled((text, "train"), (text, "anchor"))).num_leaks == 1


# --- whose tasks ----------------------------------------------------------------------------------------


def test_all_environments_are_compared_with_each_other() -> None:
    text = asked(([48, 52, 76], 888))
    environments = {
        **filled((text, "train")),
        "two": Book("two", {"given": [*((asked(of), "train") for of in numbers(3, 20)), (text, "anchor")]}),
    }
    (leak,) = find_leaks(environments).leaks
    assert (leak.training.environment, leak.held_out.environment, leak.how) == ("one", "two", "same text")


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("side", ["anchor", "train"])
def test_what_is_alike_but_for_words_of_its_template_is_compared_one_by_one(side: Pool, is_reversed: bool) -> None:
    """The template of one category is what another category's task does not say."""
    said, plain, other = "alpha beta gamma delta", "gamma alpha beta delta", "add now alpha beta gamma delta"
    alike: list[Given] = [(plain, side), (other, side)]
    first: list[Given] = [(f"solve please item{k} thing{k}", "train") for k in range(40)]
    second: list[Given] = [(f"add now part{k} piece{k}", "train") for k in range(40)]
    first.append((said, "train" if side == "anchor" else "anchor"))
    leaks = find_leaks({"both": Book("both", {"a": first, "b": [*second, *(alike[::-1] if is_reversed else alike)]})})
    (leak,) = leaks.leaks
    assert (leak.how, leak.similarity) == ("other order", 1.0)
    assert {leak.held_out.text, leak.training.text} == {said, plain}


def test_a_closed_environment_is_left_out_and_named() -> None:
    text = asked(([48, 52, 76], 888))
    book = Book("book", {"all": [(text, "anchor")]}, closed=True)
    found = find_leaks({**filled((text, "train")), "book": book})
    assert (found.num_leaks, list(found.closed)) == (0, ["book"])


def test_leaks_are_counted_by_environment() -> None:
    text = asked(([48, 52, 76], 888))
    other: list[Given] = [(asked(of), "anchor") for of in numbers(3, 20)]
    environments = {**filled((text, "train")), "two": Book("two", {"given": [*other, (text, "anchor")]})}
    assert find_leaks(environments).by_environment == {"one": (0, 60), "two": (1, 21)}


def test_what_is_never_trained_on_leaks_nothing() -> None:
    text = asked(([48, 52, 76], 888))
    tasks: dict[str, Sequence[Given]] = {"far": [(text, "train")], "near": [(text.upper(), "anchor")]}
    assert find_leaks({"one": Book("one", tasks, held_out=["far"])}).num_leaks == 0
    assert find_leaks({"one": Book("one", tasks)}).num_leaks == 1


def test_two_held_out_tasks_alike_are_no_leak() -> None:
    text = asked(([48, 52, 76], 888))
    assert find_leaks(filled((text, "anchor"), (text.upper(), "final"))).num_leaks == 0


def test_of_big_categories_evenly_spaced_tasks_are_looked_at_and_it_is_said() -> None:
    found = find_leaks(filled(), most=25)
    (looked,) = found.looked
    assert (looked.size, looked.is_part) == (300, True)
    assert (looked.num_training, looked.num_held_out) == (40, 10)


def test_of_a_category_that_never_ends_the_first_tasks_are_looked_at_each_once() -> None:
    known: list[Given] = [(asked(of), "train") for of in numbers(4, 70)]
    (looked,) = find_leaks({"one": Book("one", {"all": known}, ends=False)}).looked
    assert (looked.size, looked.is_part, looked.num_training) == (None, True, 70)


def test_the_worst_come_first_and_all_are_counted() -> None:
    known = numbers(5, 30)
    more: list[Given] = [(asked(of), "train") for of in known]
    more += [(asked((of[0][::-1], of[1])), "anchor") for of in known]
    more += [(asked(known[0]).lower(), "final")]
    found = find_leaks(filled(*more))
    assert found.num_leaks == 31
    assert [leak.how for leak in found.leaks] == ["same text"] * 2 + ["other order"] * 29, (
        "one list reads the same backward"
    )


def test_progress_is_told_in_words() -> None:
    said: list[str] = []
    find_leaks(filled(), tell=said.append)
    assert said[0] == "reading one.all, 0 tasks"
    assert said[-1].startswith("comparing, 0 of 300 sets")


# --- the machinery ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_leave_the_recall_and_stay_within_the_number_of_hashes(threshold: float) -> None:
    num, rows = bands(threshold)
    assert num * rows <= NUM_HASHES
    assert 1 - (1 - threshold**rows) ** num >= RECALL


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([0.5, 0.8, 0.95]))
def test_pairs_above_the_threshold_become_candidates(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    kept = [np.unique(rng.integers(0, 2**63, 60, dtype=np.uint64)) for _ in range(20)]
    num_shared = int(np.ceil(60 * 2 * threshold / (1 + threshold)))
    own = rng.integers(0, 2**63, 60 - num_shared, dtype=np.uint64)
    query = np.unique(np.concatenate([kept[3][:num_shared], own]))
    assert jaccard(query, kept[3]) >= threshold - 0.02
    assert (0, 3) in set(candidates([query], kept, threshold, lambda count: None))


SETS = st.lists(st.integers(0, 30)).map(lambda entries: np.unique(np.array(entries, dtype=np.uint64)))


@given(SETS, SETS)
def test_sets_are_compared_as_sets(a: np.ndarray, b: np.ndarray) -> None:  # type: ignore[type-arg]
    ours, theirs = set(a.tolist()), set(b.tolist())
    assert set(without(a, b).tolist()) == ours - theirs
    assert jaccard(a, b) == (len(ours & theirs) / len(ours | theirs) if ours | theirs else 1.0)


def test_texts_are_equal_whatever_the_run() -> None:
    """Nothing depends on how Python seeds the hashes of strings."""

    def read() -> Text:
        return TextReader().read(("one", "all"), ({"role": "user", "content": "3 + 4 = 7, or not_7?"},))

    assert read().tokens.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 4, 9]
    assert read().ngrams.tolist() == read().ngrams.tolist()
    assert len(read().counted) == 11, "the second 7 is another than the first"


def test_an_empty_text_is_like_nothing() -> None:
    empty = TextReader().read(("one", "all"), ())
    views = Views([empty])
    assert views.words(empty) is None
    assert views.ngrams(empty) is None
    assert get_args(Pool)[0] == "train", "what comes first is what is trained on"


# --- real rows --------------------------------------------------------------------------------------------

SEC = Path(__file__).parents[1] / "data" / "sec"


def real_rows() -> tuple[list[str], list[str]]:
    import pyarrow.parquet as pq

    found = []
    for part in ("train", "test"):
        prompts = pq.read_table(SEC / f"countdown_{part}.parquet", columns=["prompt"])["prompt"].to_pylist()
        found.append([prompt[0]["content"] for prompt in prompts])
    return found[0], found[1]


def found_in(training: Sequence[str], held_out: Sequence[str], threshold: float = 0.8) -> Leaks:
    given: list[Given] = [(text, "train") for text in training]
    given += [(text, "anchor") for text in held_out]
    return find_leaks(both(*given), threshold)


def test_real_countdown_rows_are_clean_and_planted_ones_are_found() -> None:
    training, held_out = real_rows()
    training = training[::3]  # of all levels
    planted = [
        training[10].replace("\n", "\n\n"),
        training[400].replace("Using the numbers", "With the numbers"),
        _turned(training[900]),
    ]
    found = found_in(training, [*held_out, *planted])
    first = len(training) + len(held_out)
    leaks = {leak.held_out.index - first: (leak.training.index, leak.how) for leak in found.leaks}
    assert leaks == {0: (10, "same text"), 1: (400, "similar"), 2: (900, "other order")}
    assert found.num_held_out == 803


def _turned(prompt: str) -> str:
    before, _, rest = prompt.partition("[")
    inside, _, after = rest.partition("]")
    return f"{before}[{', '.join(reversed(inside.split(', ')))}]{after}"
