"""Rows of your own: Parquet, JSON lines, CSV, folders of Hugging Face `datasets`; any column or expression a category.

Files are gone through once, when the environment is first asked for its categories; then rows are read one by one.
Rows that cannot be used are listed in `left_out`, never dropped without a word. Without a held-out file pools follow
from content keys; a held-out file is halved into `anchor` and `select`, and never trained on. See `docs/rows.md`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Self, get_args
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, field_validator, model_validator

from environments.contracts import (
    Category,
    Environment,
    EnvironmentFault,
    Flaw,
    LazyTask,
    Pool,
    Score,
    Task,
    canonical,
    key_of,
)
from environments.display import Tell, Throttle
from environments.options import TextOptions
from environments.rewards import Attempt, Reward, RewardSection, make_reward
from environments.tables.csv_rows import DELIMITERS
from environments.tables.data_files import FoundFiles, find_files
from environments.tables.index import POOLS, Index, Places, build_index
from environments.tables.row_file import InvalidRow, RowFile
from environments.tables.row_parser import (
    Expression,
    NumericColumn,
    RowParser,
    Template,
    find_truth,
    nearest_field,
)
from environments.user_code import is_user_code, module_name

SOURCE = "rows of the user's own; columns as verl, TRL and Hugging Face datasets have them"

FORMAT = "1"  # raised when the same rows mean something else than before
SHOWN = 10  # reasons named when `strict` refuses broken rows


# A column path or a Jinja expression, and a Jinja text: compiled to see whether they can be.
Columns = Annotated[str, AfterValidator(lambda text: Expression(text).text)]
TemplateText = Annotated[str, AfterValidator(lambda text: Template(text).text)]


def _separates(mark: str) -> str:
    if mark not in DELIMITERS:
        raise ValueError(f"fields are separated by one of {', '.join(map(repr, DELIMITERS))}, not {mark!r}")
    return mark


Paths = str | Annotated[list[str], Field(min_length=1)]

ANSWERS = get_args(TextOptions.model_fields["answer"].annotation)


class Config(TextOptions):
    """Options of an environment of rows, beside those of every environment of text answers.

    An expression is a column (`answer`), a path into it (`extra_info.difficulty`), or Jinja over the columns
    (`"long" if numbers | length > 4 else "short"`; `row["my column"]` for other names).
    """

    train: Paths
    """File, folder, or several of them, to train on; relative to the spec's folder."""
    holdout: Paths | None = None
    """The same, only to evaluate on: never trained on. Null: a share of `train`, by content key."""
    split: str = "train"
    """Which split of `train`, where that is a folder of several."""
    holdout_split: str = "test"
    """Which split of `holdout`, where that is a folder of several."""
    delimiter: Annotated[str, AfterValidator(_separates)] = ","
    """What stands between two fields of CSV: `,`, `;`, `"\\t"` (a tab) or `|`."""
    prompt: Columns | None = None
    """Expression of the conversation: a text, or a list of {role, content}; null: the column `prompt`."""
    template: TemplateText | None = None
    """Jinja text over the columns, in place of `prompt`; null: none."""
    category: Columns | None = None
    """Expression of the category; null: one category, `all`."""
    categories: Annotated[list[str], Field(min_length=1)] | None = None
    """The categories that are used, in this order; null: all, by number or name."""
    truth: Columns | None = None
    """Expression of what the reward compares with; null: `reward_model.ground_truth`, or the column `answer`,
    `ground_truth` or `solution`, whichever the first rows have."""
    reference: Columns | None = None
    """Expression of a reply that is worth 1, for warm starts; null: one that the reward works out, if it can."""
    reward: RewardSection
    """What a reply is worth: a reward's name, a map with its options, or a list of several."""
    strict: bool = False
    """Whether rows that cannot be used are an error; if not, they are left out and listed. Prompts that a policy cannot
    read are left out all the same: `validate --strict` refuses those too."""

    @field_validator("answer", mode="before")
    @classmethod
    def _answer_is_no_column(cls, given: Any) -> Any:
        if isinstance(given, str) and given not in ANSWERS:
            raise ValueError(
                f"says how a reply is read: {', '.join(ANSWERS)}. The column of what is right is another option: "
                f"`truth: {given}`"
            )
        return given

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.prompt is not None and self.template is not None:
            raise ValueError("`prompt` and `template` both say what is asked: leave one out")
        if self.categories and len(set(self.categories)) < len(self.categories):
            raise ValueError("`categories` names one twice")
        return self


@dataclass(frozen=True)
class Opened:
    """The files, gone through."""

    files: Sequence[RowFile]
    reader: RowParser
    index: Index


_OPENED: WeakValueDictionary[tuple[str, ...], Opened] = WeakValueDictionary()  # by version and files


class Rows(Environment):
    """Rows as tasks. Scoring needs no file: a task carries what its reward compares with."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.max_tokens, self.max_prompt_tokens = config.max_tokens, config.max_prompt_tokens
        self._config = config
        self._reward: Reward = self._make_reward(config)
        self.scores_in_process = self._reward.in_process
        self.seconds = self._reward.seconds
        self._tell: Tell = lambda text: None
        self._numbers: dict[str, list[NumericColumn]] = {}  # by field

    def open(self, tell: Tell) -> None:
        self._tell = tell
        _ = self._opened

    @cached_property
    def version(self) -> str:  # type: ignore[override]
        """Digest of what the rows mean: the files' content, the options, and the code of a reward of the user's own."""
        not_meant = {"train", "holdout", "split", "holdout_split", "strict"}  # where the files are
        if self._config.delimiter == ",":  # then the digest is that of a release without this option
            not_meant.add("delimiter")
        options = self._config.model_dump_json(exclude=not_meant)
        digest = hashlib.sha256(options.encode())
        for type_ in _types(self._config.model_dump(mode="json")["reward"]):
            # the text of the module of a user's function, which `make_reward` has imported
            module = sys.modules.get(module_name(type_, self._config.folder)) if is_user_code(type_) else None
            if (path := getattr(module, "__file__", None)) is not None:
                digest.update(Path(path).read_text(encoding="utf-8", errors="replace").encode())
        for role, files in zip((b"train", b"holdout"), self._files, strict=True):
            for file in files:
                with file.path.open("rb") as content:
                    digest.update(role + hashlib.file_digest(content, "sha256").digest())
        return f"{FORMAT}+{digest.hexdigest()[:12]}"

    @property
    def categories(self) -> list[Category]:
        categories = self._opened.index.categories.items()
        return [Category(name, trainable=len(places.of("train")) > 0) for name, places in categories]

    @property
    def left_out(self) -> tuple[str, ...]:  # type: ignore[override]
        """Rows that cannot be used: "file:line: reason" of the first thousand, the others counted by reason."""
        return self._opened.index.left_out.lines()

    @property
    def num_left_out(self) -> int:  # type: ignore[override]
        return self._opened.index.left_out.num_rows

    @property
    def flaws(self) -> list[Flaw]:  # type: ignore[override]
        return self._opened.index.left_out.flaws()

    @property
    def remarks(self) -> tuple[str, ...]:  # type: ignore[override]
        """Files of a folder passed over, rows left out on purpose, categories only evaluated for want of rows."""
        training, held_out = self._found
        files = [f"train: {text}" for text in training.remarks] + [f"holdout: {text}" for text in held_out.remarks]
        return (*files, *self._opened.index.remarks)

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]
        """Prompts that come with different truths."""
        return self._opened.index.warnings

    def size(self, category: str) -> int:
        return len(self._places(category))

    def task(self, category: str, index: int) -> Task:
        """Read a row: those to train on first, in the order of the files, then those held out."""
        places, opened = self._places(category), self._opened
        if not 0 <= index < len(places):
            there = f"has no row {index}, only {len(places)}"
            raise EnvironmentFault(f"{self.name}: category {category!r} {there}")
        file, number = opened.files[places.files[index]], int(places.numbers[index])
        try:
            row = file.row(number)
            messages, truth = opened.reader.conversation(row), opened.reader.truth_of(row)
        except (InvalidRow, OSError) as error:
            raise self._changed(f"a row of {file.name} could be read and no longer can ({error})") from error
        if key_of(canonical(messages)) != places.key(index):
            raise self._changed(f"{file.place(number)} asks something else than when the file was gone through")
        data: Mapping[str, Any] = {"truth": truth, "row": row} if self._reward.needs_row else {"truth": truth}

        def reply() -> str | None:
            if self._config.reference is not None:
                return opened.reader.reference_of(row)
            answer = self._reward.reference(truth)
            return None if answer is None else self._config.write(answer)

        fields = {"environment": self.name, "category": category, "index": index}
        return LazyTask(places.key(index), reply, **fields, messages=messages, data=data)

    def pool(self, task: Task) -> Pool | None:
        if self._config.holdout is None:
            return None
        return POOLS[int(self._places(task.category).pools[task.index])]

    def indices(self, category: str, pool: Pool) -> NDArray[np.int64]:
        return self._places(category).of(pool)

    def lengths(self, category: str) -> NDArray[np.int32]:
        return self._places(category).lengths

    def roles(self, category: str) -> tuple[NDArray[np.int32], Sequence[tuple[str, ...]]]:
        return self._places(category).roles, self._opened.index.roles

    def numbers(self, category: str, field: str) -> NDArray[np.float64]:
        """Read a number of every row: a column, or any other expression of rows."""
        places = self._places(category)
        if field not in self._numbers:  # the files once more: the tasks' own read other columns
            files = list(chain(*(found.files for found in self._find_files())))
            try:
                self._numbers[field] = [NumericColumn.read(file, field) for file in files]
            except (EnvironmentFault, OSError, ValueError) as fault:
                raise EnvironmentFault(f"environment {self.name}: {fault}") from fault
        by_file = self._numbers[field]
        found = np.full(len(places), np.nan)
        for number, numbers in enumerate(by_file):
            own = places.files == number
            found[own] = numbers.of(places.numbers[own])
        if np.isnan(found).all():
            words = f"no row has a number at {field!r}; {nearest_field(field, by_file)}"
            raise EnvironmentFault(f"{self.name}, category {category}: {words}")
        return found

    def where(self, task: Task) -> str:
        places = self._places(task.category)
        file = self._opened.files[places.files[task.index]]
        return str(file.place(int(places.numbers[task.index])))

    def answer_in(self, task: Task, completion: str) -> str | None:
        answer = self._config.read(completion)
        return self._reward.canonical(answer) or None if answer else None

    def score(self, task: Task, completion: str) -> Score:
        answer, data = self._config.read(completion), task.data
        attempt = Attempt(completion, answer, data["truth"], task.messages, data.get("row", {}))
        return self._reward.score(attempt)

    def _changed(self, what: str) -> EnvironmentFault:
        remedy = "has the file been changed? Start again, with a file that stays as it is"
        return EnvironmentFault(f"{self.name}: {what}: {remedy}")

    def _make_reward(self, config: Config) -> Reward:
        return make_reward(config.reward, config.folder)

    def _places(self, category: str) -> Places:
        known = self._opened.index.categories
        if category not in known:
            raise EnvironmentFault(f"{self.name} has no category {category!r}; it has: {', '.join(known)}")
        return known[category]

    @cached_property
    def _opened(self) -> Opened:
        files = list(chain(*self._files))
        with self._faults("", ": a file cannot be read"):
            # of several environments that make the same of the same files, the first goes through them
            key = self.version, *chain.from_iterable((str(file.path), file.name) for file in files)
            opened = _OPENED.get(key) or _OPENED.setdefault(key, self._open(files))
        left_out = opened.index.left_out
        if self._config.strict and left_out.num_rows:
            flaws = "".join(f"\n  {flaw}" for flaw in left_out.flaws()[:SHOWN])
            raise EnvironmentFault(
                f"environment {self.name}: `strict` refuses its files: {left_out.num_rows:,} rows cannot be used; mend"
                f" them, or leave `strict` out to go on without them:{flaws}"
            )
        return opened

    def _open(self, files: Sequence[RowFile]) -> Opened:
        config, check, needs_row = self._config, self._reward.check, self._reward.needs_row
        check_others, truth_in = (self._reward.check_row, self._reward.truth_in) if needs_row else (None, None)
        texts = {"category": config.category, "truth": config.truth, "reference": config.reference}
        category, truth, reference = (None if text is None else Expression(text, key) for key, text in texts.items())
        template = None if config.template is None else Template(config.template)
        prompt, truth = template or Expression(config.prompt or "prompt", "prompt"), truth or find_truth(files, check)
        ask, system = config.conversation, config.system
        reader = RowParser(prompt, ask, system, category, truth, check, reference, check_others, truth_in)
        for file in files:
            file.narrow(None if needs_row else reader.columns(with_category=True))
        say = Throttle(lambda text: self._tell(f"{self.name}: {text}"))
        index = build_index(files, len(self._files[0]), reader, config.categories, say)
        for file in files:
            file.narrow(None if needs_row else reader.columns(with_category=False))
        return Opened(files, reader, index)

    @property
    def _files(self) -> tuple[list[RowFile], list[RowFile]]:
        training, held_out = self._found
        return training.files, held_out.files

    @cached_property
    def _found(self) -> tuple[FoundFiles, FoundFiles]:
        return self._find_files()

    def _find_files(self) -> tuple[FoundFiles, FoundFiles]:
        config = self._config
        training = self._find("train", config.train, config.split)
        return training, self._find("holdout", config.holdout, config.holdout_split)

    def _find(self, role: str, given: str | list[str] | None, split: str) -> FoundFiles:
        with self._faults(f": {role}", f": {role} cannot be read"):
            return (
                FoundFiles() if given is None else find_files(given, split, self._config.folder, self._config.delimiter)
            )

    @contextmanager
    def _faults(self, place: str, unreadable: str) -> Iterator[None]:
        try:
            yield
        except EnvironmentFault as fault:
            raise EnvironmentFault(f"environment {self.name}{place}: {fault}") from fault
        except OSError as error:
            raise EnvironmentFault(f"environment {self.name}{unreadable}: {error}") from error


def create(name: str, config: Config) -> Rows:
    return Rows(name, config)


def _types(section: Any) -> Iterator[str]:
    if isinstance(section, Mapping):
        if isinstance(section.get("type"), str):
            yield section["type"]
        section = list(section.values())
    if isinstance(section, list):
        for one in section:
            yield from _types(one)
