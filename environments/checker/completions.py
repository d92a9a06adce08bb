"""What the referee replies to tasks: the reference answer, nothing, wrong answers, and texts that break verifiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from environments.contracts import Task
from environments.options import FRAMES

REFERENCE, EMPTY, OTHER, SEVERAL, PROMPT, NOUGHT = (
    "the reference answer", "an empty reply", "another task's answer", "several answers at once", "the prompt itself",
    "a bare 0",
)  # fmt: skip

NUM_EMPTY, NUM_OTHER, NUM_SEVERAL, NUM_HOSTILE = 8, 16, 4, 2  # tasks of a category that are tried

# No right answer to anything, and each has broken a verifier somewhere: parsers, evaluators, regular expressions.
HOSTILE = {
    "white space": " \n\t ",
    "a NUL character": "\x00",
    "unicode": "\u202e\u0661\u0660\U0001f600e\u0301\ufffd",
    "a very long reply": "lorem ipsum " * 10_000,
    "a long number": "9" * 10_000,
    "a huge power": "9**9**9",
    "a tower of brackets": "(" * 5_000,
    "not a number": "nan",
    "an infinite number": "1e999",
    "an unclosed quote": "\"'`{[(<",
    "a null of JSON": "null",
    "a format field": "%s {0} {x.y} ${x} \\1",
}


@dataclass(frozen=True)
class TrialReply:
    """One reply to one task."""

    task: Task
    kind: str
    completion: str


def trials(tasks: Sequence[Task]) -> list[TrialReply]:
    """List what is tried in a category: everything with the first task, then with the next, as time allows."""
    tried = [TrialReply(task, REFERENCE, task.answer) for task in tasks if task.answer is not None]
    tried += [TrialReply(task, EMPTY, "") for task in tasks[:NUM_EMPTY]]
    tried += _others(tasks)
    tried += [
        TrialReply(task, NOUGHT, _framed(task, "0"))
        for task in tasks[:NUM_OTHER]
        if not _is_answer(task, "0")
    ]
    for task in tasks[:NUM_HOSTILE]:
        texts = {**HOSTILE, PROMPT: task.messages[-1]["content"]}
        tried += [
            TrialReply(task, kind, _framed(task, text))
            for kind, text in texts.items()
            if not _is_answer(task, text)
        ]
    return sorted(tried, key=lambda trial: trial.task.index)


def _others(tasks: Sequence[Task]) -> Iterator[TrialReply]:
    """Answer with what is right elsewhere, alone and around the right answer."""
    answers = list(dict.fromkeys(task.answer for task in tasks if task.answer))
    for number, task in enumerate(tasks[:NUM_OTHER]):
        wrong = [answer for answer in answers if not _is_answer(task, answer)]
        if task.answer is None or not wrong:
            continue
        yield TrialReply(task, OTHER, wrong[number % len(wrong)])
        if number < NUM_SEVERAL:
            yield TrialReply(task, SEVERAL, "\n".join([wrong[0], task.answer, wrong[-1]]))


def _is_answer(task: Task, text: str) -> bool:
    return task.answer is not None and task.answer.strip().casefold() == text.strip().casefold()


def _framed(task: Task, text: str) -> str:
    """Put a text between the marks in which the verifier looks for an answer, if it does."""
    answer = task.answer or ""
    for begin, end in FRAMES:
        if answer.startswith(begin) and answer.endswith(end):
            return f"{begin}{text}{end}"
    return text
