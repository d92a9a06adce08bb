"""Multiple choice: the letter of the right option, however it is written, or the option's text.

The truth is a letter (`B`) or, where it is a whole number that is no letter itself, a place counted from 0; so is the
text `1.0`, which CSV has where the column has gaps. The text `1`, which could be a label, is refused.

An answer begins with a letter: alone (`b`), in brackets or bold (`(B)`, `\\text{B}`, `**B**`), or with a point, colon
or bracket behind it (`B.`, `B) Paris`); `Answer:`, `Option` or `The answer is` may stand before it. What follows is not
looked at, so the first letter counts and listing all of them is a guess at the first. Where `options` says where they
are in a row, an answer that no letter of them leads may also be the text of an option: equal to it but for case, white
space and a last full stop, and to no other option. Where the labels there are numbers, as in some rows of ARC, each
stands for the letter of its place: in the truth, and in an answer that is no option's text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from environments.contracts import Score
from environments.options import Options
from environments.rewards.contracts import AnswerReward, Attempt
from environments.tables.row_file import InvalidRow
from environments.tables.row_parser import Expression

SOURCE = "multiple choice, as in ARC (arXiv 1803.05457) and MMLU (arXiv 2009.03300)"

WHOLE_FLOAT = re.compile(r"\d+\.0", re.ASCII)  # what a table writes for a place where the column has gaps
_OPEN, _CLOSE = r"(?:\\text|\\mathrm|\\textbf)?+[(\[{]++", r"[)\]}.:,]"
_LEAD = r"(?:(?:the\s++)?+(?:final\s++|correct\s++)?+(?:answer|option|choice)(?:\s++is)?+\s*+:?+\s*+)?+"


class Config(Options):
    """Options of multiple choice."""

    letters: str = Field(default="ABCDEFGHIJ", min_length=2, max_length=100)
    """The letters of the options, in order; digits are possible too. Case does not matter unless both are there."""
    options: str | None = None
    """Expression of the options' texts: a list in the order of the letters, a map from letter to text, ARC's
    `{text: [...], label: [...]}` or CommonsenseQA's `[{label: A, text: ...}, ...]`; labels are letters, or numbers in
    the place of all of them; null: only letters are read."""

    @field_validator("letters")
    @classmethod
    def _are_different(cls, letters: str) -> str:
        if len(set(letters)) < len(letters) or not letters.isalnum():
            raise ValueError(f"expected different letters or digits, like ABCD, not {letters!r}")
        return letters

    @field_validator("options")
    @classmethod
    def _is_expression(cls, options: str | None) -> str | None:
        return None if options is None else Expression(options).text


class Choice(AnswerReward):
    """1 for the right letter or the right option's text, else 0."""

    in_process = True

    def __init__(self, config: Config) -> None:
        self._letters = config.letters
        self._options = None if config.options is None else Expression(config.options, "options")
        self._any_case = len(set(config.letters.upper())) == len(config.letters)
        self.needs_row = config.options is not None
        flags = re.IGNORECASE if self._any_case else re.NOFLAG
        letter = f"([{config.letters}])"
        self._pattern = re.compile(_led_by(letter), flags)

    def judge(self, answer: str, attempt: Attempt) -> Score:
        right, answer = self._letter(attempt.truth), answer.replace("*", "").strip()
        found = self._pattern.match(answer)
        letter = None if found is None else found[1] or found[2]
        is_letter = letter is not None and self._same(letter, right)
        return Score.of(float(is_letter or (self.needs_row and self._option_of(answer, letter, attempt.row) == right)))

    def canonical(self, answer: str) -> str:
        """Give the letter; where none leads, the text without case, outer white space and a last full stop."""
        found = self._pattern.match(answer.replace("*", "").strip())
        if found is None:
            return _plain(answer)
        letter = found[1] or found[2]
        return letter.upper() if self._any_case else letter

    def check(self, truth: Any) -> None:
        self._letter(truth)

    def check_row(self, row: Mapping[str, Any]) -> None:
        """Refuse a row whose options are not there, or have labels that are neither letters nor numbers."""
        self._texts(self._pairs(row))

    def truth_in(self, truth: Any, row: Mapping[str, Any]) -> Any:
        """Give the letter of a truth that is one of the numbers by which a row labels its options.

        Raises InvalidRow for a truth that is none of the options.
        """
        if self._options is None:
            return truth
        text = str(truth).strip()
        text = text.removesuffix(".0") if WHOLE_FLOAT.fullmatch(text) else text
        try:
            pairs = self._pairs(row)
            letters = [letter for letter, _ in self._texts(pairs)]
            found = self._numbers([label for label, _ in pairs]).get(text, truth)
            right = self._letter(found)
        except ValueError:  # which `check` and `check_row` tell
            return truth
        if right not in letters:
            there = ", ".join(letters) or "none at all"
            raise InvalidRow("the truth is none of the options", f"{truth!r} means {right}; there are {there}")
        return found

    def reference(self, truth: Any) -> str:
        return self._letter(truth)

    def _letter(self, truth: Any) -> str:
        if not isinstance(truth, bool) and isinstance(truth, str | int | float):
            text = str(truth).strip()
            is_place = not isinstance(truth, str) or WHOLE_FLOAT.fullmatch(text) is not None
            text = text.removesuffix(".0") if is_place else text
            for letter in self._letters:
                if self._same(text, letter):
                    return letter
            if is_place and text.isdecimal() and int(text) < len(self._letters):
                return self._letters[int(text)]
        wanted = f"one of the letters {self._letters} or a place from 0, as a number (of a text: `COLUMN | int(-1)`),"
        raise ValueError(f"expected {wanted} as truth, found {truth!r}")

    def _same(self, one: str, letter: str) -> bool:
        return one == letter or (self._any_case and one.upper() == letter.upper())

    def _option_of(self, answer: str, led_by: str | None, row: Mapping[str, Any]) -> str | None:
        """Give the letter of the option whose text an answer is, or else whose number; None if an option's leads it."""
        said, pairs = _plain(answer), self._pairs(row)
        texts = self._texts(pairs)
        if led_by is not None and any(self._same(led_by, letter) for letter, _ in texts):
            return None
        found = [letter for letter, text in texts if _plain(text) == said]
        if found:
            return found[0] if len(found) == 1 else None
        number = NUMBERED.match(answer)
        return self._numbers([label for label, _ in pairs]).get(number[1] or number[2]) if number else None

    def _numbers(self, labels: Sequence[object]) -> dict[str, str]:
        """Give the letters by the numbers that are labels, in their order; none where a letter is among the labels."""
        texts = [str(label).strip() for label in labels]
        are_numbers = all(text.isdecimal() for text in texts) and len(set(texts)) == len(texts) <= len(self._letters)
        if not are_numbers or any(self._same(text, letter) for text in texts for letter in self._letters):
            return {}
        return dict(zip(texts, self._letters, strict=False))

    def _texts(self, pairs: Sequence[tuple[object, object]]) -> list[tuple[str, str]]:
        """Give the options that are there, each as its letter and text."""
        numbers = self._numbers([label for label, _ in pairs])
        # a null is what Parquet has where other rows have a letter more
        there = [(label, str(text)) for label, text in pairs if text is not None]
        return [(numbers.get(str(label).strip()) or self._label(label), text) for label, text in there]

    def _pairs(self, row: Mapping[str, Any]) -> list[tuple[object, object]]:
        """Give the options of a row, each as its label and text, as they stand there."""
        if self._options is None:
            return []
        try:
            options = self._options(row)
        except InvalidRow as invalid:
            raise ValueError(str(invalid)) from invalid
        if isinstance(options, Mapping) and set(options) == {"text", "label"}:  # ARC's
            labels, texts = options["label"], options["text"]
            if not isinstance(labels, list) or not isinstance(texts, list) or len(labels) != len(texts):
                raise ValueError(f"expected as many labels as texts in the options, found {options!r}")
            return list(zip(labels, texts, strict=True))
        if isinstance(options, list | tuple):
            are_labelled = [isinstance(one, Mapping) and {"text", "label"} <= set(one) for one in options]
            if options and all(are_labelled):  # CommonsenseQA's
                return [(one["label"], one["text"]) for one in options]
            if any(isinstance(one, Mapping | list) for one in options):
                raise ValueError(f"expected texts as options, or {{label, text}} in all of them, found {options!r}")
            return list(zip(self._letters, options, strict=False))
        if isinstance(options, Mapping):
            return list(options.items())
        raise ValueError(f"expected a list or a map of options at {self._options.text!r}, found {options!r}")

    def _label(self, label: object) -> str:
        for letter in self._letters:
            if self._same(str(label).strip(), letter):
                return letter
        raise ValueError(f"expected the letters {self._letters} as labels of the options, found {label!r}")


def _led_by(label: str) -> str:
    """Give the pattern of an answer that a label leads, in one of two groups."""
    return rf"(?i:{_LEAD})(?:{_OPEN}{label}{_CLOSE}|{label}(?:{_CLOSE}|\Z))"


NUMBERED = re.compile(_led_by(r"(\d{1,3})"), re.ASCII)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".")


def create(config: Config) -> Choice:
    return Choice(config)
