"""The referee's rules: a name, how bad it is to break it, and the remedy. What broke it is the finding's sentence.

An error would spoil a run or its numbers, a warning costs time or surprises, a note is worth knowing.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]


class Rule(NamedTuple):
    """How bad it is, and what to do."""

    severity: Severity
    remedy: str


RULES: dict[str, Rule] = {
    # the environment's code as such
    "build": Rule("error", "mend the factory, or give it other options"),
    "build-slow": Rule("warning", "build quickly: every scoring process builds it again"),
    "build-heavy": Rule("warning", "keep less in memory: every scoring process holds a copy"),
    "raises": Rule("error", "mend the environment: this ends a run"),
    "hangs": Rule("error", "make it come back: nothing can interrupt it in a run"),
    "ends-process": Rule("error", "never end the process: raise an exception that says what is wrong"),
    "prints": Rule("warning", "write nothing to the terminal: it disturbs what the run prints"),
    "random-state": Rule("error", "use a generator of your own: numpy.random.default_rng([seed, index])"),
    "directory": Rule("error", "leave the working directory alone: open files by their full path"),
    "files": Rule("warning", "write no files, or write them into a temporary folder and remove it"),
    "variables": Rule("warning", "leave the process's environment variables alone: other parts of a run read them"),
    "left-out": Rule("note", "mend the error first, then check again"),
    # what it says of itself
    "version": Rule("error", "set version to a string such as '1', and raise it when the meaning changes"),
    "attribute": Rule("error", "give the attribute the type that environments.Environment says"),
    "category": Rule("error", "return environments.Category objects: string names, plain parameters"),
    "category-order": Rule("error", "list the categories in the same order each time, new ones last"),
    "not-trainable": Rule("warning", "make a category trainable, unless it is only ever to be evaluated"),
    "size": Rule("error", "return a whole number of at least 1, or None for endless"),
    "size-honest": Rule("error", "let size(category) say how many indices work, None if all do"),
    "max-tokens": Rule("warning", "raise max_tokens, or leave it out so that the sampler's counts"),
    "max-tokens-tight": Rule("note", "fine for a policy with longer tokens; otherwise raise max_tokens"),
    # tasks
    "task-fails": Rule("error", "let task(category, index) return a Task for every index below the size"),
    "task-slow": Rule("warning", "make tasks faster, or lay them out when building: a step needs one for every group"),
    "task-form": Rule("error", "give Task the fields that environments.Task describes"),
    "task-frozen": Rule("error", "keep Task frozen: use it as it is, or derive a frozen dataclass from it"),
    "task-pickle": Rule("error", "put plain data into the task: it is sent to the scoring processes"),
    "task-heavy": Rule("warning", "put less into the task: all of it is sent along with every score"),
    "task-same": Rule("error", "make task(category, index) depend on its arguments alone: no clock, no global"
                               " generator, no order of a set, no count of earlier calls"),
    "prompt-empty": Rule("error", "ask something: the last message must have text"),
    "last-message": Rule("warning", "let the conversation end with the user's message"),
    "no-answer": Rule("note", "set Task.answer where there is one: a warm start learns from it, and it is tested"),
    # the split
    "key": Rule("error", "leave Task.key as it is: the hash of the conversation decides who may train on it"),
    "pool-train": Rule("error", "give the category more distinct tasks, or mark it trainable=False"),
    "pool-held-out": Rule("error", "give the category more distinct tasks: a tenth of them is for evaluation"),
    "pool-thin": Rule("warning", "give the category more distinct tasks: a tenth goes to each of these pools"),
    "few-tasks": Rule("note", "widen the category's options if it is meant to be learnt and not memorised"),
    "scan-short": Rule("note", "make tasks faster to have more of them counted"),
    # scores
    "reference": Rule("error", "make Task.answer a reply that scores 1 and is correct"),
    "empty": Rule("error", "score an empty reply as wrong: an untrained policy writes many of them"),
    "wrong-reply": Rule("error", "compare with the answer itself: a policy finds every reply that is paid for"),
    "paid-wrong": Rule("warning", "give little for what answers nothing: a policy writes whatever is paid best"),
    "other-answer": Rule("error", "let the score depend on the task that was asked"),
    "several-answers": Rule("warning", "read one answer from a reply: a policy learns to list them all"),
    "score-form": Rule("error", "return Score.of(value) with a value from 0 to 1, finite components by name"),
    "score-raises": Rule("error", "catch what cannot be read and score it 0: unscorable replies teach nothing"),
    "score-declines": Rule("warning", "score what cannot be read as 0: unscorable is for the trouble of a verifier"),
    "score-hangs": Rule("error", "bound the verifier's work: refuse replies that are too long or too deep"),
    "score-crashes": Rule("error", "refuse replies that the verifier does not survive before it sees them"),
    "score-same": Rule("error", "make score depend on task and completion alone: no generator, no clock, no memory"),
    "score-elsewhere": Rule("error", "let score read nothing but the task and what every process builds alike"),
    "score-changes-task": Rule("error", "copy what you change: a task is shared by all episodes of its group"),
    "score-slow": Rule("warning", "make scoring faster, or set scores_in_process = False so that it runs aside"),
    "score-near-limit": Rule("warning", "make scoring faster, or raise scoring.timeout_s to 20 times a score"),
    "cut-off": Rule("error", "report this with the environment: a scoring process could not be ended in time"),
    # episodes
    "episode": Rule("error", "let start(task) return a new Episode with the task's messages, and step a Turn"),
    "episode-used": Rule("error", "make a new Episode at each start, with no state outside of it"),
    "episode-replay": Rule("error", "let a turn depend on the task and the completions so far alone"),
    "episode-endless": Rule("warning", "end after a number of turns, whatever the policy writes"),
    # closed environments
    "legal-answer": Rule("error", "let legal_answer(task, rng) draw a reply of the right form, from rng alone"),
    "gives-away": Rule("error", "draw the legal answer without looking at the task's own: a warm start learns it"),
    "closed-endless": Rule("warning", "give a closed environment's categories a size: it is there to be memorised"),
}  # fmt: skip
