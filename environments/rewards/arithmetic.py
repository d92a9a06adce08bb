"""Exact arithmetic with + - * / and parentheses: reading an expression, and finding one. Nothing is `eval`ed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations

Number = int | Fraction
Numbers = tuple[int, ...]

DEEPEST = 50  # nested parentheses and signs
TOKEN = re.compile(r"\s*+(?:(0|[1-9][0-9]{0,15}+)(?![0-9.])|([-+*/()]))")


class Malformed(ValueError):
    """A text that is no expression, or one that divides by zero."""


class ArithmeticExpression:
    """An expression as its tokens, and what it comes to.

        sum     = product (("+" | "-") product)*
        product = factor (("*" | "/") factor)*
        factor  = ("+" | "-") factor | "(" sum ")" | number

    Raises Malformed if the text is something else.
    """

    def __init__(self, text: str) -> None:
        self._tokens: list[int | str] = []
        place, end = 0, len(text.rstrip())
        while place < end:
            token = TOKEN.match(text, place)
            if token is None:
                raise Malformed(f"neither a number nor an operator: {text[place : place + 10]!r}")
            self._tokens.append(int(token[1]) if token[1] else token[2])
            place = token.end()

    @property
    def numbers(self) -> list[int]:
        """The numbers, in the order in which they stand."""
        return [token for token in self._tokens if isinstance(token, int)]

    def value(self) -> Fraction:
        """Work it out, exactly; raises Malformed if it is no expression, or divides by zero."""
        value, place = self._sum(0, 0)
        if place < len(self._tokens):
            raise Malformed(f"nothing may follow at {self._tokens[place]!r}")
        return value

    def _sum(self, place: int, depth: int) -> tuple[Fraction, int]:
        value, place = self._product(place, depth)
        while (sign := self._at(place)) in ("+", "-"):
            other, place = self._product(place + 1, depth)
            value = value + other if sign == "+" else value - other
        return value, place

    def _product(self, place: int, depth: int) -> tuple[Fraction, int]:
        value, place = self._factor(place, depth)
        while (sign := self._at(place)) in ("*", "/"):
            other, place = self._factor(place + 1, depth)
            if sign == "/" and not other:
                raise Malformed("it divides by zero")
            value = value * other if sign == "*" else value / other
        return value, place

    def _factor(self, place: int, depth: int) -> tuple[Fraction, int]:
        token = self._at(place)
        if depth > DEEPEST:
            raise Malformed(f"nested deeper than {DEEPEST}")
        if isinstance(token, int):
            return Fraction(token), place + 1
        if token in ("+", "-"):
            value, place = self._factor(place + 1, depth + 1)
            return (value if token == "+" else -value), place
        if token == "(":
            value, place = self._sum(place + 1, depth + 1)
            if self._at(place) == ")":
                return value, place + 1
        raise Malformed("a number or a parenthesis is missing")

    def _at(self, place: int) -> int | str | None:
        return self._tokens[place] if place < len(self._tokens) else None


def expression_for(numbers: Sequence[int], target: int) -> str | None:
    """Find an expression that uses each number once and comes to the target; None where there is none.

    Exhaustive, over all splits of the numbers: the smaller part's values are listed, what the larger would have to be
    follows from them. Whole numbers only come first, which is much faster and nearly always enough; then fractions, for
    up to five numbers.
    """
    ordered = tuple(sorted(numbers))
    whole = _solve(ordered, target, True)
    if whole is not None or len(ordered) > 5:
        return _unwrapped(whole)
    return _unwrapped(_solve(ordered, Fraction(target), False))


@lru_cache(maxsize=10_000)
def _solve(numbers: Numbers, target: Number, whole: bool) -> str | None:
    if len(numbers) <= 2:
        return _values(numbers, whole).get(target)
    for part, rest in _splits(numbers):
        for value, text in _values(part, whole).items():
            for needed, form in _needed(target, value, whole):
                found = _solve(rest, needed, whole)
                if found is not None:
                    return form.format(text, found)
    return None


@lru_cache(maxsize=256)  # some 100 kB each for three numbers
def _values(numbers: Numbers, whole: bool) -> dict[Number, str]:
    """List all that numbers can come to, with an expression for each."""
    if len(numbers) == 1:
        return {numbers[0] if whole else Fraction(numbers[0]): str(numbers[0])}
    found: dict[Number, str] = {}
    for part, rest in _splits(numbers):
        for a, left in _values(part, whole).items():
            for b, right in _values(rest, whole).items():
                for value, form in _results(a, b, whole):
                    found.setdefault(value, form.format(left, right))
    return found


def _splits(numbers: Numbers) -> list[tuple[Numbers, Numbers]]:
    """Cut numbers in two, the first part never the larger."""
    places = range(len(numbers))
    found: dict[tuple[Numbers, Numbers], None] = {}
    for size in range(1, len(numbers) // 2 + 1):
        for chosen in combinations(places, size):
            part = tuple(numbers[i] for i in chosen)
            found[part, tuple(numbers[i] for i in places if i not in chosen)] = None
    return list(found)


def _results(a: Number, b: Number, whole: bool) -> list[tuple[Number, str]]:
    """All that two values can come to."""
    found: list[tuple[Number, str]] = [
        (a + b, "({} + {})"), (a - b, "({} - {})"), (b - a, "({1} - {0})"), (a * b, "({} * {})")
    ]  # fmt: skip
    if b and not (whole and a % b):
        found.append((_divided(a, b, whole), "({} / {})"))
    if a and not (whole and b % a):
        found.append((_divided(b, a, whole), "({1} / {0})"))
    return found


def _needed(target: Number, a: Number, whole: bool) -> list[tuple[Number, str]]:
    """What the other value would have to be, for each way to reach the target from `a`."""
    found: list[tuple[Number, str]] = [
        (target - a, "({} + {})"), (a - target, "({} - {})"), (target + a, "({1} - {0})"), (target * a, "({1} / {0})")
    ]  # fmt: skip
    if not a:
        found.pop()  # nothing may be divided by it
    if a and not (whole and target % a):
        found.append((_divided(target, a, whole), "({} * {})"))
    if target and a and not (whole and a % target):
        found.append((_divided(a, target, whole), "({} / {})"))
    return found


def _divided(a: Number, b: Number, whole: bool) -> Number:
    return a // b if whole else Fraction(a) / b


def _unwrapped(text: str | None) -> str | None:
    """Remove the outermost parentheses, which are always a pair around the whole."""
    return text[1:-1] if text is not None and text.startswith("(") else text
