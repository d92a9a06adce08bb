"""Any data set of reasoning_gym: procedural puzzles with verifiers; a category is a named set of its options.

A category may give ranges of options instead, `parameters: {min_value + max_value: [1, 90]}`: a box in which a teacher
chooses; a dimension may set several options to the same value, their names joined by "+". `levels: 4` takes the levels
of the library's own curriculum as categories; where one gives an option as a range, a level reaches from the easiest
value to its own (the library's default). Tasks never end unless a category gives `size`. Partial credit is `value` and
never makes a task `correct`.
"""

from __future__ import annotations

import difflib
import io
import json
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext, redirect_stdout, suppress
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import version
from tempfile import TemporaryDirectory
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from environments.boxes import Box, Values
from environments.contracts import (
    CORRECT_AT,
    Category,
    Environment,
    EnvironmentFault,
    Score,
    Task,
)
from environments.display import Tell
from environments.options import TextOptions
from environments.surroundings import import_apart

SOURCE = "https://github.com/open-thought/reasoning-gym, arXiv 2505.24760"

ADAPTER_VERSION = "3"
ENDLESS = 2**31 - 1  # what a data set is told as its size; costs nothing where tasks are made by index
BOX = "box"  # the category of an environment's own `parameters`
KEPT_CELLS = 1024  # building a data set takes from .01 ms (gcd) to 20 ms (spell_backward, .3 MB)
KEPT_TASKS = 4096  # making a task anew costs from .01 ms (spell_backward) to 200 ms (knight_swap)
LEVEL = "level"  # the key that holds a category's level, beside the options
OURS = ("trainable", "parameters", LEVEL)  # keys of a category that are no options of the data set
JOIN = "+"
MOST_PARAMETERS = 6  # so that every corner can be tried
REFUSALS = (AssertionError, TypeError, ValueError)  # what a data set raises at options

# These lay out all tasks when they are built, or refuse an index beyond their size (0.1.25, all 104 looked at).
LAID_OUT = frozenset({"acre", "gsm_symbolic", "list_functions", "word_ladder"})
LAID_OUT_SIZE = 2000  # of these

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
RAISING = frozenset({"boxnet", "coin_flip", "game_of_life", "prime_factorization"})
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

# These hand an answer to `eval`, their own or the one in sympy's `parse_expr` (0.1.25, all read), and what is run there
# may do what we may do. So an answer is a row of the tokens that a legal one needs, or it is wrong and no verifier sees
# it. Safe are those of lists, which call nothing that there is, and those of algebra, which name only what stands in
# NAMED, in the task's own answer or is a variable: no string, and no dot but in a number. ASCII, as Python reads other
# letters of a name as these.
SUM = re.compile(r"[-+()0-9\s]|\*(?!\*)|/(?!/)", re.ASCII)
ALGEBRA = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+|[A-Za-z][A-Za-z0-9_]*|[-+*/(),\s]", re.ASCII)
EVALUATED: Mapping[str, re.Pattern[str]] = {
    "binary_matrix": re.compile(r"[0-9\[\](),\s]", re.ASCII),
    "countdown": SUM,
    "intermediate_integration": ALGEBRA,
    "n_queens": re.compile(r"[Q_'\"\[\](),\s]", re.ASCII),
    "polynomial_multiplication": ALGEBRA,
    "puzzle24": SUM,
    "simple_integration": ALGEBRA,
    "spiral_matrix": re.compile(r"[-0-9\[\](),\s]", re.ASCII),
    "string_insertion": re.compile(r"[A-E'\"\[\](),\s]", re.ASCII),
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
VARIABLE = re.compile(r"(?![NOQS]\b)[A-Za-z][0-9]*")  # those four are functions of sympy
NAMED = frozenset(
    {"Abs", "abs", "exp", "ln", "log", "pi", "sqrt"}
    | {f"{arc}{name}{h}" for arc in ("", "a") for name in ("sin", "cos", "tan", "cot", "sec", "csc") for h in ("", "h")}
)


def is_evaluated_safely(dataset: str, answer: str, reference: str) -> bool:
    """Say whether nothing can happen when the data set's verifier evaluates this answer."""
    tokens = EVALUATED.get(dataset)
    if tokens is None:
        return True
    if "".join(tokens.findall(answer)) != answer:
        return False
    named = set(NAME.findall(answer)) if tokens is ALGEBRA else set[str]()
    return all(VARIABLE.fullmatch(name) for name in named - NAMED - set(NAME.findall(reference)))


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


class Config(TextOptions):
    """Options of a reasoning_gym environment, beside those of every environment of text answers."""

    dataset: str
    """Name of the data set, as reasoning_gym has it."""
    categories: dict[str, dict[str, Any]] | None = Field(default=None, min_length=1)
    """Category name: options of the data set; `size` makes the category finite, `trainable: false` held out only,
    `level` orders it for bandits that go by levels. Null, as `levels` and `parameters` are: one, `default`."""
    levels: int | list[int] | None = None
    """Levels of the library's own curriculum for the data set, how many or which: `3` and `[0, 1, 2]` make the
    categories `level-0`, `level-1`, `level-2`. Ranges reach from the easiest value to the level's own.
    Null: none of them."""
    parameters: dict[str, list[int | float]] | None = None
    """Options with ranges, `max_value: [10, 90]`, both ends taken: makes a category `box`, in which
    `curriculum.teacher` chooses the values. Names joined by `+` get one value. A category's options take it too.
    Null: no box."""
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

    @field_validator("categories", "levels", "parameters")
    @classmethod
    def _are_accepted(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None or "dataset" not in info.data:  # otherwise its own error says enough
            return value
        own, made = info.data.get("categories") or {}, value
        if info.field_name == "levels":
            made = level_options(library(), info.data["dataset"], value)
        elif info.field_name == "parameters":
            made = {BOX: {"parameters": value}}
        for name, options in made.items():
            if name in own:
                there = "and there is one already: give that one another name"
                raise ValueError(f"makes a category {name!r}, {there}")
            check_options(info.data["dataset"], name, options)
        return value

    @property
    def option_sets(self) -> dict[str, dict[str, Any]]:
        """The options of every category there is."""
        box = {} if self.parameters is None else {BOX: {"parameters": self.parameters}}
        own = {} if self.levels is None else level_options(library(), self.dataset, self.levels)
        return {**(self.categories or {}), **own, **box} or {"default": {}}


class ReasoningGym(Environment):
    """One data set, built for each category, and each cell of a box, when a task of it is first made or scored."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.version = f"{ADAPTER_VERSION}+reasoning-gym-{version('reasoning-gym')}"
        self.max_tokens, self.max_prompt_tokens = config.max_tokens, config.max_prompt_tokens
        self._config = config
        self._option_sets = config.option_sets
        boxes = {name: options for name, options in self._option_sets.items() if "parameters" in options}
        self._boxes = {name: box_of_category(config.dataset, options) for name, options in boxes.items()}
        self._datasets = dict[str, Any]()
        self._cell_dataset = lru_cache(maxsize=KEPT_CELLS)(self._build)
        # the base class looks whether an answer is the reference answer, or contains it
        own, base = library().DATASETS[config.dataset][0], library().ProceduralDataset
        self.scores_in_process = config.dataset in REVIEWED or own.score_answer is base.score_answer
        self._task = lru_cache(maxsize=KEPT_TASKS)(self._generate)

    def open(self, tell: Tell) -> None:
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
        laid_out = LAID_OUT_SIZE if self._config.dataset in LAID_OUT else None
        return self._option_sets[category].get("size", laid_out)

    def task(self, category: str, index: int) -> Task:
        return self._task(category, index)

    def answer_in(self, task: Task, completion: str) -> str | None:
        return self._config.read(completion) or None

    def score(self, task: Task, completion: str) -> Score:
        """Score by the data set's verifier and the entry that the task carries.

        A reply without the tags is worth 0, and so is one that a verifier would run and that is not safe to run.
        """
        answer = self._config.read(completion)
        entry, dataset = task.data["entry"], self._config.dataset
        if answer is None or not is_evaluated_safely(dataset, answer, entry["answer"]):
            return Score.of(0.0)
        value, silent = 0.0, redirect_stdout(io.StringIO()) if dataset in PRINTING else nullcontext()
        verifier = self._dataset(task.category, task.index)
        with silent, suppress(*UNREADABLE if dataset in RAISING else ()):
            value = float(verifier.score_answer(answer, entry))
        same, credit = GENEROUS.get(dataset, (None, 0.0))
        if same is not None and value >= CORRECT_AT and not same(answer, entry["answer"]):
            value = credit
        return Score.of(value)

    def _dataset(self, category: str, index: int) -> Any:
        if (box := self._boxes.get(category)) is not None:
            return self._cell_dataset(category, box.cell(index))
        if category not in self._datasets:
            self._datasets[category] = self._build(category)
        return self._datasets[category]

    def _build(self, category: str, cell: int | None = None) -> Any:
        size = self.size(category)
        options = {"seed": self._config.seed, **of_the_data_set(self._option_sets[category])}
        if cell is not None:
            options |= spread(self._boxes[category].values(cell))
        options["size"] = ENDLESS if size is None else size
        return built(self._config.dataset, options)

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


# --- the library, and the options of its data sets -------------------------------------------------------


def library() -> Any:
    """Import `reasoning_gym.factory`; raises EnvironmentFault if it is not installed."""
    return import_apart("reasoning_gym.factory", "reasoning-gym", "reasoning_gym")  # what it imports draws numbers


_BUILT: WeakValueDictionary[str, Any] = WeakValueDictionary()  # by data set and options


def built(dataset: str, options: Mapping[str, Any]) -> Any:
    """Build a data set, or give the one that another environment or category built with the same options."""
    key = json.dumps([dataset, options], sort_keys=True, default=repr)
    found = _BUILT.get(key)
    if found is None:
        found = _BUILT[key] = library().create_dataset(dataset, **options)
    return found


@contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Lend the library the global generators, seeded, and keep its prints and files to itself; costs .1 ms and more."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(io.StringIO()):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def of_the_data_set(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the keys of a category that are ours."""
    return {key: value for key, value in options.items() if key not in OURS}


def level_options(library: Any, dataset: str, levels: int | list[int]) -> dict[str, dict[str, Any]]:
    """Options of each level by its category, `level` among them; a number means that many, from 0."""
    if not library.has_curriculum(dataset):
        raise ValueError(f"{dataset} has no levels of its own; write `categories` with the options of each")
    fields = library.create_curriculum(dataset).attributes.values()
    there = [_of_level(library, dataset, n) for n in range(max(len(field.levels) for field in fields))]
    if len(there) > 1 and there[-1] == there[-2]:  # as with ranges that end there
        there.pop()
    wanted = list(range(levels)) if isinstance(levels, int) else levels
    if not wanted or len(set(wanted)) < len(wanted) or not all(0 <= level < len(there) for level in wanted):
        raise ValueError(
            f"{dataset} has levels 0 to {len(there) - 1}: expected some of them, each once, or how many from 0, not"
            f" {levels!r}"
        )
    return {f"{LEVEL}-{level}": {**there[level], LEVEL: level} for level in wanted}


def _of_level(library: Any, dataset: str, level: int) -> dict[str, Any]:
    """Options that a level sets; one that has no such level is set to its last."""
    curriculum = library.create_curriculum(dataset)
    curriculum.set_global_level(level)
    made, places = curriculum.generate_configuration(), ("field_name", "lower_field_name", "upper_field_name")
    fields = curriculum.attributes.values()
    names = [getattr(field, place) for field in fields for place in places if hasattr(field, place)]
    return {name: getattr(made, name) for name in names}


def _options_of(name: str) -> list[str]:
    return [part.strip() for part in name.split(JOIN)]


def spread(values: Values) -> Values:
    return {option: value for name, value in values.items() for option in _options_of(name)}


def values_text(values: Values) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in values.items())


def box_of_category(dataset: str, options: Mapping[str, Any]) -> Box:
    """Make the box of a category's ranges: whole where both ends are and no option is real; or ValueError."""
    if dataset in LAID_OUT:
        raise ValueError(
            f"{dataset} lays out all its tasks when it is built, and a box would do that for"
            " every value; give `categories` instead of `parameters`"
        )
    ranges = options["parameters"]
    if not isinstance(ranges, Mapping) or not 0 < len(ranges) <= MOST_PARAMETERS:
        raise ValueError(
            f"parameters names 1 to {MOST_PARAMETERS} options with their ranges, like {{max_value: [10, 90]}},"
            f" not {ranges!r}"
        )
    for name, ends in ranges.items():
        if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(map(_is_number, ends)):
            raise ValueError(f"{name}: expected a range [least, most], two numbers, found {ends!r}")
    named = [option for name in ranges for option in _options_of(name)]
    twice = sorted({option for option in named if named.count(option) > 1})
    if twice:
        raise ValueError(f"the option {twice[0]!r} has two ranges; keep one")
    kinds = {name: [_kind(dataset, option) for option in _options_of(name)] for name in ranges}
    low, high = zip(*ranges.values(), strict=True)
    whole = [float not in kinds[name] and {type(end) for end in ranges[name]} == {int} for name in ranges]
    box = Box(names=tuple(ranges), low=low, high=high, whole=tuple(whole))
    if "size" in options:
        raise ValueError("a box never ends; leave out its size")
    for option in named:
        _check_known(dataset, option)
        if option in options:
            raise ValueError(f"{option} has a value and a range; keep one of them")
        if option in ("seed", "size") or _kind(dataset, option) is None:
            raise ValueError(
                f"{option} is no number that {dataset} asks its questions by, so it can have no"
                " range; give `categories` with its values"
            )
    for name, is_whole in zip(box.names, box.whole, strict=True):
        if not is_whole and int in kinds[name]:
            raise ValueError(f"{name} takes whole numbers; write the range without a point")
    return box


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(dataset: str, option: str) -> type | None:
    """Say what numbers an option takes, by its declaration and default: int, float, or None: it takes none."""
    declared = library().DATASETS[dataset][1].__dataclass_fields__.get(option)
    if declared is None:
        return None
    if declared.type is float or isinstance(declared.default, float):
        return float
    return int if declared.type in (int, int | None) else None


def check_options(dataset: str, category: str, options: Mapping[str, Any]) -> None:
    """Check the options of a category, and every corner where they make a box; ValueError names category and fault."""
    try:
        _check_options(dataset, options)
    except ValueError as error:
        raise ValueError(f"category {category!r}: {error}") from error


def _check_options(dataset: str, options: Mapping[str, Any]) -> None:
    if not isinstance(options.get("trainable", True), bool):
        raise ValueError(f"trainable is true or false, not {options['trainable']!r}")
    if not _is_number(level := options.get(LEVEL, 0)):
        raise ValueError(f"level is a number, not {level!r}")
    own = of_the_data_set(options)
    for option in own:
        _check_known(dataset, option)
    if "parameters" not in options:
        try:
            return _try(dataset, own)
        except REFUSALS as error:
            raise ValueError(f"{dataset} refuses its options: {error}") from error
    box = box_of_category(dataset, options)
    for cell in box.corners():
        corner = spread(box.values(cell))
        try:
            _try(dataset, {**own, **corner})
        except REFUSALS as error:
            raise ValueError(
                f"{dataset} refuses the corner {values_text(corner)} of its parameters: {error};"
                " narrow a range, set what depends on it to fit all of it, or join names by '+' to keep them equal"
            ) from error


def _check_known(dataset: str, option: str) -> None:
    known = sorted(library().DATASETS[dataset][1].__dataclass_fields__)
    if option not in known:
        near = difflib.get_close_matches(option, known, n=1)
        hint = f"did you mean {near[0]}? It has" if near else "it has"
        raise ValueError(f"{dataset} has no option {option!r}; {hint}: {', '.join(known)}")


def _try(dataset: str, options: Mapping[str, Any]) -> None:
    """Have the data set check its options; two of them (0.1.25) check none."""
    made = library().DATASETS[dataset][1](**options)
    if hasattr(made, "validate"):
        made.validate()


def create(name: str, config: Config) -> ReasoningGym:
    return ReasoningGym(name, config)
