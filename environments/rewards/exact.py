"""Equality of texts: the answer is the truth, or one of several.

Both are compared without outer white space and in Unicode's normal form C (an accented letter is the same whether
written as one character or two; only texts of up to 2,000 characters are brought to it, as that can take long). Numbers
among the truths are compared as they are written, a whole one without a point: 1.0, which is what a table makes of 1
where the column has gaps, is `1`; the text "1.0" stays. An answer beyond 100,000 characters is worth 0.
"""

from __future__ import annotations

import unicodedata
from typing import Any

from environments.contracts import Score
from environments.options import Options
from environments.rewards.contracts import AnswerReward, Attempt, is_text_or_number, one_or_several

SOURCE = "exact match, as in SQuAD (arXiv 1606.05250), without its removal of articles and punctuation"

NORMALISED = 2_000  # characters; normalisation takes the square of a run of combining marks: 2 ms here


class Config(Options):
    """Options of exact equality."""

    ignore_case: bool = False
    """Whether capitals and small letters are alike."""
    ignore_space: bool = False
    """Whether all white space is left out before comparing: `a b` is `ab`."""


class Exact(AnswerReward):
    """1 for the truth or one of several, else 0."""

    in_process = True

    def __init__(self, config: Config) -> None:
        self._config = config

    def judge(self, answer: str, attempt: Attempt) -> Score:
        said = self._normal(answer)
        return Score.of(float(any(said == self._normal(text) for text in _texts(attempt.truth))))

    def canonical(self, answer: str) -> str:
        return self._normal(answer)

    def check(self, truth: Any) -> None:
        """Refuse what is no text, and a text that an empty answer would equal."""
        texts = _texts(truth)
        if not texts:
            raise ValueError("expected a text, a number or a list of those as truth, found an empty list")
        if not all(self._normal(text) for text in texts):
            raise ValueError(f"expected a text that is not empty as truth, found {truth!r}")

    def reference(self, truth: Any) -> str:
        return _texts(truth)[0]

    def _normal(self, text: str) -> str:
        text = "".join(text.split()) if self._config.ignore_space else text.strip()
        if not text.isascii() and len(text) <= NORMALISED:
            text = unicodedata.normalize("NFC", text)
        return text.casefold() if self._config.ignore_case else text


def _texts(truth: Any) -> list[str]:
    for one in (found := one_or_several(truth)):
        if not is_text_or_number(one):
            remedy = "; of true and false: `COLUMN | string | lower`" if isinstance(one, bool) else ""
            raise ValueError(f"expected a text, a number or a list of those as truth, found {one!r}{remedy}")
    return [str(int(one)) if isinstance(one, float) and one.is_integer() else str(one) for one in found]


def create(config: Config) -> Exact:
    return Exact(config)
