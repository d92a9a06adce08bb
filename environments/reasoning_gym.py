"""Any data set of reasoning_gym: procedural puzzles with verifiers; a category is a named set of its options.

A category may give ranges of options instead, `parameters`: a box in which a teacher chooses. `levels` takes the
levels of the library's own curriculum as categories.
Tasks never end unless a category gives `size`. Partial credit is `value` and never makes a task `correct`.
"""

from __future__ import annotations

import difflib
import io
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, nullcontext, redirect_stdout
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import version
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from environments.boxes import Box
from environments.contracts import CORRECT_AT, Category, Environment, EnvironmentFault, Score, Task
from environments.options import TextOptions
from environments.parameter_ranges import box_of, options_of, spread
from environments.rg_levels import LEVEL, level_options

SOURCE = "https://github.com/open-thought/reasoning-gym, arXiv 2505.24760"

ADAPTER_VERSION = "2"
ENDLESS = 2**31 - 1  # what a data set is told as its size; costs nothing where tasks are made by index
BOX = "box"  # the category of an environment's own `parameters`
KEPT_CELLS = 1024  # building a data set takes from .01 ms (gcd) to 20 ms (spell_backward, .3 MB)
KEPT_TASKS = 4096  # making a task anew costs from .01 ms (spell_backward) to 200 ms (knight_swap)

# These lay out all tasks when they are built, or refuse an index beyond their size (0.1.25, all 104 looked at).
LAID_OUT = frozenset({"acre", "gsm_symbolic", "list_functions", "word_ladder"})
LAID_OUT_SIZE = 2000

# These draw from `random` or `numpy.random`, print, or write files, while they make a task (0.1.25, all looked at).
DISTURBING = frozenset({"bf", "codeio", "list_functions", "pool_matrix"})

# These print while they score (0.1.25).
PRINTING = frozenset({"tower_of_hanoi"})

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
    {
        "ab",
        "chain_sum",
        "circuit_logic",
        "color_cube_rotation",
        "dice",
        "emoji_mystery",
        "family_relationships",
    }
    | {"figlet_font", "game_of_life_halting", "letter_jumble", "needle_haystack", "number_sorting"}
    | {"palindrome_generation", "path_star", "products", "self_reference", "sentence_reordering"}
    | {"spell_backward", "word_sorting", "zebra_puzzles"}
)


def _same_text(answer: str, reference: str) -> bool:
    return answer.strip().lower() == reference.strip().lower()


def _same_number(answer: str, reference: str) -> bool:
    return abs(Fraction(answer.replace(",", "")) - Fraction(reference)) <= 1e-4


def _same_numbers(answer: str, reference: str) -> bool:
    return sorted(re.findall(r"\d+", answer)) == sorted(re.findall(r"\d+", reference))


def _is_number(answer: str, reference: str) -> bool:
    return "nan" not in answer.lower()


# Here wrong answers can get all of the credit (0.1.25): `spell_backward` adds up 1/n for n letters, which rounds to 1
# for an answer that is too long at n = 6, 7, 9, ...; `letter_jumble` and `figlet_font` do not mind what follows; "0" is
# a prefix of every probability; `game_of_life_halting` tests that the answer is not empty; `puzzle24` does not look at
# the numbers it gave; to `complex_arithmetic` nothing is nearer than "nan". So these are also compared with the
# reference answer, and a wrong one gets the credit beside: what `spell_backward` means to give, or nothing.
MOST_PARTIAL_CREDIT = 0.8
GENEROUS: Mapping[str, tuple[Callable[[str, str], bool], float]] = {
    "coin_flip": (_same_number, 0.0),
    "complex_arithmetic": (_is_number, 0.0),
    "figlet_font": (_same_text, MOST_PARTIAL_CREDIT),
    "game_of_life_halting": (_same_text, 0.0),
    "letter_jumble": (_same_text, MOST_PARTIAL_CREDIT),
    "puzzle24": (_same_numbers, 0.0),
    "spell_backward": (_same_text, MOST_PARTIAL_CREDIT),
}


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
        known = sorted(set(_library().DATASETS) - {"composite"})  # a mixture is several environments
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
                _check_options(info.data["dataset"], name, options)
        return categories

    @field_validator("levels")
    @classmethod
    def _are_there(cls, levels: int | list[int] | None, info: ValidationInfo) -> int | list[int] | None:
        if levels is not None and "dataset" in info.data:
            for name, options in level_options(_library(), info.data["dataset"], levels).items():
                if name in (info.data.get("categories") or {}):
                    raise ValueError(
                        f"makes a category {name!r}, and there is one already: give that one another name"
                    )
                _check_options(info.data["dataset"], name, options)
        return levels

    @field_validator("parameters")
    @classmethod
    def _make_a_box(cls, ranges: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if ranges is not None and "dataset" in info.data:
            if BOX in (info.data.get("categories") or {}):
                raise ValueError(
                    f"makes a category {BOX!r}, and there is one already: give that one another name"
                )
            _check_options(info.data["dataset"], BOX, {"parameters": ranges})
        return ranges

    @property
    def option_sets(self) -> dict[str, dict[str, Any]]:
        """The options of every category there is."""
        box = {} if self.parameters is None else {BOX: {"parameters": self.parameters}}
        own = {} if self.levels is None else level_options(_library(), self.dataset, self.levels)
        return {**(self.categories or {}), **own, **box} or {"default": {}}


class ReasoningGym(Environment):
    """One data set, built once for each category, and for each cell of a box when it is asked for."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.version = f"{ADAPTER_VERSION}+reasoning-gym-{version('reasoning-gym')}"
        self.max_tokens, self.max_prompt_tokens = config.max_tokens, config.max_prompt_tokens
        self._config = config
        self._option_sets = config.option_sets
        self._boxes = {
            category: _box(config.dataset, category, options)
            for category, options in self._option_sets.items()
            if "parameters" in options
        }
        self._datasets = {
            category: self._build(category) for category in self._option_sets if category not in self._boxes
        }
        self._cell_dataset = lru_cache(maxsize=KEPT_CELLS)(self._build)
        self.scores_in_process = config.dataset in REVIEWED or _inherits_comparison(config.dataset)
        self._task = lru_cache(maxsize=KEPT_TASKS)(self._generate)

    def open(self, tell: Callable[[str], None]) -> None:
        """Make a task at every corner of every box: a data set may accept options that leave it nothing to ask."""
        for category, box in self._boxes.items():
            for cell in box.corners():
                self.task(category, box.index(cell, 0))

    @property
    def categories(self) -> list[Category]:
        """The named option sets of the spec, in its order; a box tells its ranges."""
        return [
            Category(
                name,
                trainable=options.get("trainable", True),
                parameters=_without(("trainable", "parameters"), options) | options.get("parameters", {}),
            )
            for name, options in self._option_sets.items()
        ]

    def box(self, category: str) -> Box | None:
        """Give the box of a category with `parameters`."""
        return self._boxes.get(category)

    def size(self, category: str) -> int | None:
        """Give the `size` of the option set, or of a data set that lays out all its tasks; else endless."""
        laid_out = LAID_OUT_SIZE if self._config.dataset in LAID_OUT else None
        size: int | None = self._option_sets[category].get("size", laid_out)
        return size

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
        entry = task.data["entry"]
        value = self._value(task.category, task.index, answer, entry)
        same, credit = GENEROUS.get(self._config.dataset, (None, 0.0))
        if same is not None and value >= CORRECT_AT and not same(answer, entry["answer"]):
            value = credit
        return Score.of(value)

    def _value(self, category: str, index: int, answer: str, entry: dict[str, Any]) -> float:
        """Ask the library what an answer is worth."""
        prints = self._config.dataset in PRINTING
        try:
            with redirect_stdout(io.StringIO()) if prints else nullcontext():
                return float(self._dataset(category, index).score_answer(answer, entry))
        except UNREADABLE:
            if self._config.dataset not in RAISING:
                raise
            return 0.0

    def _dataset(self, category: str, index: int) -> Any:
        """Find the data set that a task is of."""
        box = self._boxes.get(category)
        return self._datasets[category] if box is None else self._cell_dataset(category, box.cell(index))

    def _build(self, category: str, cell: int | None = None) -> Any:
        size = self.size(category)
        options = {"seed": self._config.seed, **_without_ours(self._option_sets[category])}
        if cell is not None:
            options |= spread(self._boxes[category].values(cell))
        return _library().create_dataset(
            self._config.dataset, **{**options, "size": ENDLESS if size is None else size}
        )

    def _entry(self, category: str, index: int) -> dict[str, Any]:
        contained = self._config.dataset in DISTURBING
        with _undisturbed(self._config.seed + index) if contained else nullcontext():
            entry: dict[str, Any] = self._dataset(category, index)[index]
        return entry

    def _generate(self, category: str, index: int) -> Task:
        try:
            entry = self._entry(category, index)
        except Exception as error:  # foreign code; whoever chose the options can do something about it
            box = self._boxes.get(category)
            at = "" if box is None else f" at {_told(box.values(box.cell(index)))}"
            raise EnvironmentFault(
                f"{self.name}, category {category}: {self._config.dataset} could not make task {index}{at}"
                f" ({type(error).__name__}: {error}); change the category's options"
            ) from error
        answer = None if entry["answer"] is None else self._config.write(entry["answer"])
        messages = self._config.conversation(entry["question"])
        return Task(self.name, category, index, messages, answer, {"entry": entry})


def create(name: str, config: Config) -> ReasoningGym:
    """Build the environment of a spec's entry."""
    return ReasoningGym(name, config)


def _library() -> ModuleType:
    try:
        with _undisturbed(0):  # something that it imports draws from `random`
            import reasoning_gym.factory
    except ModuleNotFoundError as error:
        raise EnvironmentFault(
            f"environments of type reasoning_gym need the package reasoning-gym ({error});"
            " install it with: pip install 'evergreen-rl[reasoning-gym]'"
        ) from error
    return reasoning_gym.factory  # type: ignore[no-any-return]


def _inherits_comparison(dataset: str) -> bool:
    """Say whether answers are scored by the base class: equal, or containing the reference answer."""
    library = _library()
    inherited: bool = library.DATASETS[dataset][0].score_answer is library.ProceduralDataset.score_answer
    return inherited


def _without_ours(options: Mapping[str, Any]) -> dict[str, Any]:
    return _without(("trainable", "parameters", LEVEL), options)


def _without(keys: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in keys}


def _check_options(dataset: str, category: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that the data set does not have, or a value that it refuses, naming the category."""
    if not isinstance(options.get("trainable", True), bool):
        raise ValueError(f"category {category!r}: trainable is true or false, not {options['trainable']!r}")
    level = options.get(LEVEL, 0)
    if isinstance(level, bool) or not isinstance(level, int | float):
        raise ValueError(f"category {category!r}: level is a number, not {level!r}")
    for option in _without_ours(options):
        _check_known(dataset, category, option)
    if "parameters" in options:
        return _check_corners(dataset, category, options)
    try:
        _try(dataset, _without_ours(options))
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"category {category!r}: {dataset} refuses its options: {error}") from error


def _try(dataset: str, options: Mapping[str, Any]) -> None:
    """Have the data set check its options; two of them (0.1.25) check none."""
    made = _library().DATASETS[dataset][1](**options)
    if hasattr(made, "validate"):
        made.validate()


def _check_known(dataset: str, category: str, option: str) -> None:
    known = sorted(_library().DATASETS[dataset][1].__dataclass_fields__)
    if option not in known:
        near = difflib.get_close_matches(option, known, n=1)
        hint = f"did you mean {near[0]}? It has" if near else "it has"
        raise ValueError(
            f"category {category!r}: {dataset} has no option {option!r}; {hint}: {', '.join(known)}"
        )


def _check_corners(dataset: str, category: str, options: Mapping[str, Any]) -> None:
    """Refuse a box where the data set refuses one of its corners, naming it."""
    box, fixed = _box(dataset, category, options), _without_ours(options)
    for cell in box.corners():
        corner = spread(box.values(cell))
        try:
            _try(dataset, {**fixed, **corner})
        except (AssertionError, TypeError, ValueError) as error:
            raise ValueError(
                f"category {category!r}: {dataset} refuses the corner {_told(corner)} of its parameters: {error};"
                " narrow a range, set what depends on it to fit all of it, or join names by '+' to keep them equal"
            ) from error


def _box(dataset: str, category: str, options: Mapping[str, Any]) -> Box:
    """Make the box of a category's ranges, or say why this data set can have none like it."""
    if dataset in LAID_OUT:
        raise ValueError(
            f"category {category!r}: {dataset} lays out all its tasks when it is built, and a box would do that for"
            " every value; give `categories` instead of `parameters`"
        )
    try:
        box = box_of(options["parameters"], lambda option: _kind(dataset, option) is float)
    except ValueError as error:
        raise ValueError(f"category {category!r}: {error}") from error
    if "size" in options:
        raise ValueError(f"category {category!r}: a box never ends; leave out its size")
    for option in (option for name in box.names for option in options_of(name)):
        _check_known(dataset, category, option)
        if option in options:
            raise ValueError(f"category {category!r}: {option} has a value and a range; keep one of them")
        if option in ("seed", "size") or _kind(dataset, option) is None:
            raise ValueError(
                f"category {category!r}: {option} is no number that {dataset} asks its questions by, so it can have no"
                " range; give `categories` with its values"
            )
    for name, whole in zip(box.names, box.whole, strict=True):
        if not whole and any(_kind(dataset, option) is int for option in options_of(name)):
            raise ValueError(
                f"category {category!r}: {name} takes whole numbers; write the range without a point"
            )
    return box


def _kind(dataset: str, option: str) -> type | None:
    """Say what numbers an option takes, by its declaration and default: int, float, or None: it takes none."""
    declared = _library().DATASETS[dataset][1].__dataclass_fields__.get(option)
    if declared is None:
        return None
    if declared.type is float or isinstance(declared.default, float):
        return float
    return int if declared.type in (int, int | None) else None


def _told(values: Mapping[str, int | float]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in values.items())


@contextmanager
def _undisturbed(seed: int) -> Iterator[None]:
    """Lend the library the global generators, seeded, and take them back; keep its prints and files to itself.

    So a task is a function of its index here too. Costs .1 ms and more, hence only where it is needed.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(io.StringIO()):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
