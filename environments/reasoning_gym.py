"""Any data set of reasoning_gym: procedural puzzles with verifiers; a category is a named set of its options.

A category may give ranges of options instead, `parameters`: a box in which a teacher chooses. `levels` takes the
levels of the library's own curriculum as categories.
Tasks never end unless a category gives `size`. Partial credit is `value` and never makes a task `correct`.
"""

from __future__ import annotations

import difflib
import io
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout, suppress
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from environments.boxes import Box
from environments.contracts import CORRECT_AT, Category, Environment, EnvironmentFault, Score, Task
from environments.options import TextOptions
from environments.rg_options import (
    LAID_OUT,
    box_of_category,
    check_options,
    level_options,
    library,
    of_the_data_set,
    spread,
    undisturbed,
    values_text,
)

SOURCE = "https://github.com/open-thought/reasoning-gym, arXiv 2505.24760"

ADAPTER_VERSION = "2"
ENDLESS = 2**31 - 1  # what a data set is told as its size; costs nothing where tasks are made by index
BOX = "box"  # the category of an environment's own `parameters`
KEPT_CELLS = 1024  # building a data set takes from .01 ms (gcd) to 20 ms (spell_backward, .3 MB)
KEPT_TASKS = 4096  # making a task anew costs from .01 ms (spell_backward) to 200 ms (knight_swap)
LAID_OUT_SIZE = 2000  # of the data sets that are `LAID_OUT`

# These draw from `random` or `numpy.random`, print, or write files, while they make a task (0.1.25, all looked at).
DISTURBING = frozenset({"bf", "codeio", "list_functions", "pool_matrix"})

PRINTING = frozenset({"tower_of_hanoi"})  # while they score (0.1.25)

# These walk through sets of strings while they make a task, so that questions or answers depend on how the process
# seeds the hashes of strings (0.1.25, all made in two processes and compared).
HASH_ORDERED = frozenset(
    {"intermediate_integration", "isomorphic_strings", "knight_swap", "polynomial_multiplication"}
    | {"ransom_note", "word_ladder"}
)

# These raise where they cannot read an answer (0.1.25): such an answer is wrong, not unscorable.
RAISING = frozenset({"boxnet", "coin_flip", "prime_factorization"})
UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

# Scorers read line by line (0.1.25): they compare strings and numbers, in time linear in the answer, and evaluate no
# text. Data sets that inherit the base class's comparison need no entry; any other is scored in a killable process.
REVIEWED = frozenset(
    {"ab", "chain_sum", "circuit_logic", "color_cube_rotation", "dice", "emoji_mystery"}
    | {"family_relationships", "figlet_font", "game_of_life_halting", "letter_jumble"}
    | {"needle_haystack", "number_sorting"}
    | {"palindrome_generation", "path_star", "products", "self_reference", "sentence_reordering"}
    | {"spell_backward", "word_sorting", "zebra_puzzles"}
)


def _same_text(answer: str, reference: str) -> bool:
    return answer.strip().lower() == reference.strip().lower()


# Here wrong answers can get all of the credit (0.1.25): `spell_backward` adds up 1/n for n letters, which rounds to 1
# for an answer that is too long at n = 6, 7, 9, ...; `letter_jumble` and `figlet_font` do not mind what follows; "0" is
# a prefix of every probability; `game_of_life_halting` tests that the answer is not empty; `puzzle24` does not look at
# the numbers it gave; to `complex_arithmetic` nothing is nearer than "nan". So these are also compared with the
# reference answer, and a wrong one gets the credit beside: what `spell_backward` means to give, or nothing.
MOST_PARTIAL_CREDIT = 0.8
NUMBER = re.compile(r"\d+")
GENEROUS: Mapping[str, tuple[Callable[[str, str], bool], float]] = {
    "coin_flip": (
        lambda answer, truth: abs(Fraction(answer.replace(",", "")) - Fraction(truth)) <= 1e-4,
        0.0,
    ),
    "complex_arithmetic": (lambda answer, truth: "nan" not in answer.lower(), 0.0),
    "figlet_font": (_same_text, MOST_PARTIAL_CREDIT),
    "game_of_life_halting": (_same_text, 0.0),
    "letter_jumble": (_same_text, MOST_PARTIAL_CREDIT),
    "puzzle24": (lambda answer, truth: sorted(NUMBER.findall(answer)) == sorted(NUMBER.findall(truth)), 0.0),
    "spell_backward": (_same_text, MOST_PARTIAL_CREDIT),
}


def _check_new(category: str, options: dict[str, Any], info: ValidationInfo) -> None:
    if category in (info.data.get("categories") or {}):
        there = "and there is one already: give that one another name"
        raise ValueError(f"makes a category {category!r}, {there}")
    check_options(info.data["dataset"], category, options)


class Config(TextOptions):
    """Options of a reasoning_gym environment, beside those of every environment of text answers."""

    dataset: str
    """Name of the data set, as reasoning_gym has it."""
    categories: dict[str, dict[str, Any]] | None = Field(default=None, min_length=1)
    """Category name: options of the data set; `size` makes the category finite, `trainable: false` held out only,
    `level` orders it for bandits that go by levels. None given, nor `levels`, nor `parameters`: one, `default`."""
    levels: int | list[int] | None = None
    """Levels of the library's own curriculum for the data set, how many or which: `3` and `[0, 1, 2]` make the
    categories `level-0`, `level-1`, `level-2`. Ranges reach from the easiest value to the level's own."""
    parameters: dict[str, list[int | float]] | None = None
    """Options with ranges, `max_value: [10, 90]`, both ends taken: makes a category `box`, in which
    `curriculum.teacher` chooses the values. Names joined by `+` get one value. A category's options take it too."""
    seed: int = Field(default=0, ge=0, lt=2**30)
    """Seed of the generator. Not the run's seed: task number i is the same task in every run."""

    @field_validator("dataset")
    @classmethod
    def _is_known(cls, dataset: str) -> str:
        known = sorted(set(library().DATASETS) - {"composite"})  # a mixture is several environments
        if dataset not in known:
            near = difflib.get_close_matches(dataset, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
            raise ValueError(f"reasoning_gym has no data set {dataset!r}; {hint}")
        if dataset in HASH_ORDERED and sys.flags.hash_randomization:
            raise ValueError(
                f"the tasks of {dataset} depend on how Python seeds the hashes of strings, and would differ from"
                " process to process; set the environment variable PYTHONHASHSEED=0, also for every resume"
            )
        return dataset

    @field_validator("categories")
    @classmethod
    def _are_accepted(cls, categories: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if "dataset" in info.data:  # otherwise its own error says enough
            for name, options in (categories or {}).items():
                check_options(info.data["dataset"], name, options)
        return categories

    @field_validator("levels")
    @classmethod
    def _are_there(cls, levels: int | list[int] | None, info: ValidationInfo) -> int | list[int] | None:
        if levels is not None and "dataset" in info.data:
            for name, options in level_options(library(), info.data["dataset"], levels).items():
                _check_new(name, options, info)
        return levels

    @field_validator("parameters")
    @classmethod
    def _make_a_box(cls, ranges: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if ranges is not None and "dataset" in info.data:
            _check_new(BOX, {"parameters": ranges}, info)
        return ranges

    @property
    def option_sets(self) -> dict[str, dict[str, Any]]:
        """The options of every category there is."""
        box = {} if self.parameters is None else {BOX: {"parameters": self.parameters}}
        own = {} if self.levels is None else level_options(library(), self.dataset, self.levels)
        return {**(self.categories or {}), **own, **box} or {"default": {}}


class ReasoningGym(Environment):
    """One data set, built once for each category, and for each cell of a box when it is asked for."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.version = f"{ADAPTER_VERSION}+reasoning-gym-{version('reasoning-gym')}"
        self.max_tokens, self.max_prompt_tokens = config.max_tokens, config.max_prompt_tokens
        self._config = config
        self._option_sets = config.option_sets
        self._boxes, self._datasets = dict[str, Box](), dict[str, Any]()
        for category, options in self._option_sets.items():
            if "parameters" in options:
                self._boxes[category] = box_of_category(config.dataset, options)
            else:
                self._datasets[category] = self._build(category)
        self._cell_dataset = lru_cache(maxsize=KEPT_CELLS)(self._build)
        # the base class looks whether an answer is the reference answer, or contains it
        own, base = library().DATASETS[config.dataset][0], library().ProceduralDataset
        self.scores_in_process = config.dataset in REVIEWED or own.score_answer is base.score_answer
        self._task = lru_cache(maxsize=KEPT_TASKS)(self._generate)

    def open(self, tell: Callable[[str], None]) -> None:
        """Make a task at every corner of every box: a data set may accept options that leave it nothing to ask."""
        for category, box in self._boxes.items():
            for cell in box.corners():
                self.task(category, box.index(cell, 0))

    @property
    def categories(self) -> list[Category]:
        """The named option sets of the spec, in its order; a box tells its ranges."""
        found = []
        for name, options in self._option_sets.items():
            own = {key: value for key, value in options.items() if key not in ("trainable", "parameters")}
            ranges = options.get("parameters", {})
            found.append(Category(name, options.get("trainable", True), {**own, **ranges}))
        return found

    def box(self, category: str) -> Box | None:
        return self._boxes.get(category)

    def size(self, category: str) -> int | None:
        """Give the `size` of the option set, or of a data set that lays out all its tasks; else endless."""
        laid_out = LAID_OUT_SIZE if self._config.dataset in LAID_OUT else None
        return self._option_sets[category].get("size", laid_out)

    def task(self, category: str, index: int) -> Task:
        """Make a task, or find it among the `KEPT_TASKS` last used. Its `answer` is a reply that scores 1."""
        return self._task(category, index)

    def score(self, task: Task, completion: str) -> Score:
        """Score a completion with the data set's verifier; a reply without the tags asked for is worth 0.

        The entry travels with the task, so nothing is generated again.
        """
        answer = self._config.read(completion)
        if answer is None:
            return Score.of(0.0)
        entry, dataset = task.data["entry"], self._config.dataset
        value, silent = 0.0, redirect_stdout(io.StringIO()) if dataset in PRINTING else nullcontext()
        with silent, suppress(*UNREADABLE if dataset in RAISING else ()):
            value = float(self._dataset(task.category, task.index).score_answer(answer, entry))
        same, credit = GENEROUS.get(dataset, (None, 0.0))
        if same is not None and value >= CORRECT_AT and not same(answer, entry["answer"]):
            value = credit
        return Score.of(value)

    def _dataset(self, category: str, index: int) -> Any:
        box = self._boxes.get(category)
        return self._datasets[category] if box is None else self._cell_dataset(category, box.cell(index))

    def _build(self, category: str, cell: int | None = None) -> Any:
        size = self.size(category)
        options = {"seed": self._config.seed, **of_the_data_set(self._option_sets[category])}
        if cell is not None:
            options |= spread(self._boxes[category].values(cell))
        options["size"] = ENDLESS if size is None else size
        return library().create_dataset(self._config.dataset, **options)

    def _generate(self, category: str, index: int) -> Task:
        contained = self._config.dataset in DISTURBING
        try:
            with undisturbed(self._config.seed + index) if contained else nullcontext():
                entry: dict[str, Any] = self._dataset(category, index)[index]
        except Exception as error:  # foreign code; whoever chose the options can do something about it
            box = self._boxes.get(category)
            at = "" if box is None else f" at {values_text(box.values(box.cell(index)))}"
            raise EnvironmentFault(
                f"{self.name}, category {category}: {self._config.dataset} could not make task {index}{at}"
                f" ({type(error).__name__}: {error}); change the category's options"
            ) from error
        answer = None if entry["answer"] is None else self._config.write(entry["answer"])
        messages = self._config.conversation(entry["question"])
        return Task(self.name, category, index, messages, answer, {"entry": entry})


def create(name: str, config: Config) -> ReasoningGym:
    return ReasoningGym(name, config)
