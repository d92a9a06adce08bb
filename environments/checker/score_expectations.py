"""What scores ought to be: 1 for the reference answer, less for everything else."""

from __future__ import annotations

from collections.abc import Sequence

from environments.checker.completions import (
    EMPTY,
    HOSTILE,
    NOUGHT,
    OTHER,
    PROMPT,
    REFERENCE,
    SEVERAL,
    TrialReply,
)
from environments.checker.context import CheckContext
from environments.checker.findings import shown
from environments.checker.rules import Severity
from environments.contracts import CORRECT_AT, Score
from environments.foreign_text import clean
from environments.scoring.jobs import NO_REPLY

MOSTLY = 0.5  # share of other tasks' answers that are correct, beyond which scores do not depend on the task
MOST_FOR_NOTHING = 0.5  # a larger value for a reply without sense is worth more than honest attempts

Results = Sequence[tuple[TrialReply, Score]]


def find(
    bench: CheckContext, rule: str, words: str, trial: TrialReply, severity: Severity | None = None
) -> None:
    """Add a finding about one reply."""
    # Elsewhere a reply that cannot be scored costs one sample; in process, or if it is right, it costs a run.
    is_survived = trial.kind not in (REFERENCE, EMPTY) and not bench.environment.scores_in_process
    if severity is None and is_survived and rule in ("score-raises", "score-hangs", "score-crashes"):
        severity = "warning"
    task = trial.task
    bench.find(rule, f"{trial.kind} {words}", task.category, task.index, shown(trial.completion), severity)


def judge(bench: CheckContext, category: str, results: Results) -> None:
    """Compare the scores of a category with what they ought to be."""
    for trial, score in results:
        if score.reason is not None:
            _judge_unscorable(bench, trial, score.reason)
        elif trial.kind == REFERENCE and not (score.correct and (score.value or 0) >= CORRECT_AT):
            find(bench, "reference", _scores(score), trial)
        elif trial.kind == EMPTY and _is_right(score):
            find(bench, "empty", _scores(score), trial)
        elif _is_nonsense(trial) and trial.kind != NOUGHT and _is_right(score):
            find(bench, "wrong-reply", _scores(score), trial)
        elif _is_nonsense(trial) and not score.correct and (score.value or 0) > MOST_FOR_NOTHING:
            find(bench, "paid-wrong", _scores(score), trial)
    _judge_share(bench, "other-answer", OTHER, category, results)
    _judge_share(bench, "several-answers", SEVERAL, category, results)


def _is_right(score: Score) -> bool:
    """Say whether a score is full, or counts as correct: a wrong reply may have neither."""
    return bool(score.correct) or (score.value is not None and score.value >= CORRECT_AT)


def _is_nonsense(trial: TrialReply) -> bool:
    """Say whether a reply answers nothing; a bare 0 may be right by chance."""
    return trial.kind in HOSTILE or trial.kind in (EMPTY, PROMPT, NOUGHT)


def _scores(score: Score) -> str:
    return f"scores {score.value:.6g} and is {'' if score.correct else 'not '}correct"


def _judge_unscorable(bench: CheckContext, trial: TrialReply, reason: str) -> None:
    if reason.startswith("raised "):
        find(bench, "score-raises", f"cannot be scored: scoring {clean(reason)}", trial)
    elif reason not in ("bad value", "no score", NO_REPLY):  # they break the form, which is looked at there
        severity: Severity | None = "error" if trial.kind == REFERENCE else None
        find(bench, "score-declines", f"is not scored: {shown(reason)}", trial, severity)


def _judge_share(bench: CheckContext, rule: str, kind: str, category: str, results: Results) -> None:
    """Judge replies that may be right for some tasks, but not for most."""
    tried = [(trial, score) for trial, score in results if trial.kind == kind and score.reason is None]
    right = [(trial, score) for trial, score in tried if _is_right(score)]
    if len(tried) > 1 and len(right) / len(tried) > MOSTLY:
        find(bench, rule, f"is correct for {len(right)} of {len(tried)} tasks", right[0][0])
