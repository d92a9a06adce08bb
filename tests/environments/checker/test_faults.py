"""One fault, one finding: what the checker says of environments that break one rule each."""

import random
import signal
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest

import environments.checker
from environments import EnvironmentSource, Score, pool_of
from environments.checker.checker import CHECKS, run_check
from environments.checker.findings import OF_SERVERS, RULES, CheckContext, CheckLimits
from environments.scoring.jobs import play
from tests.environments.checker.bad import FAULTS, Good
from tests.environments.checker.here import FEW, bad, findings_here

# Fault: the rule it breaks. Nothing else may be found at the level of errors.
EXPECTED = {
    "version_number": "build",
    "same_category_twice": "build",
    "categories_as_strings": "build",
    "empty_version": "version",
    "wrong_flag": "attribute",
    "symbols_as_list": "attribute",
    "category_without_name": "category",
    "parameters_that_are_no_json": "category",
    "categories_in_any_order": "category-order",
    "nothing_trainable": "not-trainable",
    "size_zero": "size",
    "size_of_text": "size",
    "size_too_large": "size-honest",
    "not_endless": "size-honest",
    "max_tokens_too_small": "max-tokens",
    "max_tokens_for_longer_tokens": "max-tokens-tight",
    "task_fails": "task-fails",
    "task_raises_beyond_exceptions": "task-fails",
    "task_by_the_clock": "task-same",
    "task_counts_calls": "task-same",
    "task_by_global_random": "random-state",
    "task_seeds_random": "random-state",
    "task_seeds_numpy": "random-state",
    "task_changes_directory": "directory",
    "task_leaves_files": "files",
    "task_changes_variables": "variables",
    "task_changes_signals": "signals",
    "task_leaves_a_timer": "signals",
    "task_as_dict": "task-form",
    "task_of_another_index": "task-form",
    "task_of_another_environment": "task-form",
    "messages_as_list": "task-form",
    "message_as_text": "task-form",
    "message_of_nobody": "task-form",
    "half_a_character": "task-form",
    "answer_as_number": "task-form",
    "empty_prompt": "prompt-empty",
    "assistant_speaks_last": "last-message",
    "task_does_not_pickle": "task-pickle",
    "task_is_heavy": "task-heavy",
    "task_can_be_changed": "task-frozen",
    "key_of_its_own": "key",
    "no_reference_answers": "no-answer",
    "few_tasks": "few-tasks",
    "nothing_to_select_by": "pool-thin",
    "nothing_to_evaluate_on": "pool-held-out",
    "nothing_to_train_on": "pool-train",
    "reference_is_wrong": "reference",
    "reference_is_not_correct": "reference",
    "empty_is_right": "empty",
    "any_number_is_right": "other-answer",
    "the_prompt_is_right": "wrong-reply",
    "lists_are_right": "several-answers",
    "nonsense_is_paid": "paid-wrong",
    "value_of_two": "score-form",
    "value_of_five_without_references": "score-form",
    "value_is_nan": "score-form",
    "value_is_text": "score-form",
    "component_is_nan": "score-form",
    "score_is_a_number": "score-form",
    "no_score": "score-form",
    "score_not_implemented": "raises",
    "score_raises": "score-raises",
    "score_raises_aside": "score-raises",
    "score_raises_aside_and_for_an_answer": "score-raises",
    "score_exits": "score-raises",
    "score_declines": "score-declines",
    "score_declines_always": "score-declines",
    "score_by_chance": "score-same",
    "score_knows_only_its_own_tasks": "score-elsewhere",
    "score_changes_the_task": "score-changes-task",
    "score_is_slow": "score-slow",
    "later_turn_raises": "score-raises",
    "later_turn_ends_without_a_score": "score-form",
    "score_so_far_out_of_range": "score-form",
    "later_turn_by_its_own_chance": "episode-replay",
    "episode_begun_anew_by_others": "episode-replay",
    "episode_shows_another_question": "episode",
    "turns_without_end": "episode-endless",
    "waiting_is_paid": "paid-wrong",
    "rows_left_out": "data-left-out",
    "data_to_mind": "data-remark",
    "one_episode_for_all": "episode-used",
    "episodes_share_what_they_heard": "score-same",
    "episode_is_none": "episode",
    "turn_without_a_message": "episode",
    "legal_moves_paid_too_much": "legal-play",
    "game_kept_in_the_class": "episode-replay",
    "no_legal_answer": "legal-answer",
    "legal_answer_is_the_answer": "gives-away",
    "legal_answer_by_its_own_chance": "legal-answer",
    "closed_without_end": "closed-endless",
}


# What comes with a fault: these findings are as true as the first.
COMPANIONS = {
    "task_by_global_random": {"task-same"},
    "any_number_is_right": {"wrong-reply"},
    "score_knows_only_its_own_tasks": {"reference"},
    "one_episode_for_all": {"score-same", "score-elsewhere", "reference"},
    "episodes_share_what_they_heard": {"score-elsewhere", "episode-replay"},
    "episode_is_none": {"score-raises"},
}


# A reply that cannot be scored costs one sample where scores are found aside.
SEVERITIES = {"score_raises_aside": "warning", "score_declines_always": "error"}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """Put back what faults change."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    handler, timer = signal.getsignal(signal.SIGCHLD), signal.setitimer(signal.ITIMER_REAL, 0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVERGREEN_BAD", "")
    yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    signal.signal(signal.SIGCHLD, handler)
    signal.setitimer(signal.ITIMER_REAL, *timer)


@pytest.mark.parametrize("fault", ["none", "none, closed", "none, several turns", "none, legal moves"])
def test_nothing_is_found_where_nothing_is_wrong(fault):
    assert findings_here(bad(fault)) == []


@pytest.mark.parametrize(("fault", "rule"), EXPECTED.items(), ids=EXPECTED)
def test_one_fault_is_one_finding(fault, rule):
    findings = findings_here(bad(fault))
    (found, *_) = [finding for finding in findings if finding.rule == rule] or [None]
    assert found is not None, [str(finding) for finding in findings]
    assert found.severity == SEVERITIES.get(fault, RULES[rule].severity)
    assert {finding.rule for finding in findings if finding.severity == "error"} <= {rule} | COMPANIONS.get(
        fault, set()
    )


def test_a_bad_value_is_told_with_what_was_returned_and_the_remedy():
    found = next(f for f in findings_here(bad("value_of_five_without_references")) if f.rule == "score-form")
    said = "an empty reply has no score in form: bad value: float above 1; a value lies in 0..1"
    assert (found.severity, found.sentence) == ("error", said)


def test_that_no_reply_at_all_is_scored_is_an_error():
    found = next(f for f in findings_here(bad("score_declines_always")) if f.rule == "score-declines")
    said = "an empty reply is not scored: no judge; no other reply that was tried has a score either"
    assert (found.severity, found.sentence) == ("error", said)


def test_a_finding_names_place_excerpt_count_and_remedy():
    found = next(f for f in findings_here(bad("the_prompt_is_right")) if f.category == "large")
    assert (found.rule, found.index, found.times) == ("wrong-reply", 0, 2)
    assert str(found) == (
        "error: category 'large', task 0: the prompt itself scores 1 and is correct: 'What is 127 + 699?' (2 times); "
        "compare with the answer itself: a policy finds every reply that is paid for"
    )


def test_a_size_of_numpys_is_a_number():
    source = EnvironmentSource("one", "tests.integration.broken_environment:create", {"how": "a size of NumPy's"})
    assert not [f for f in findings_here(source) if f.severity == "error" and f.rule in ("size", "raises", "build")]


def test_every_rule_is_looked_for():
    folder = Path(environments.checker.__file__).parent
    code = "".join(path.read_text() for path in folder.glob("*.py") if path.stem != "findings")
    assert [rule for rule in RULES if f'"{rule}"' not in code] == []
    assert OF_SERVERS.keys() < RULES.keys()


def test_every_fault_is_in_a_table():
    from tests.environments.checker.test_processes import EXPECTED as ELSEWHERE

    faults = {fault for fault in FAULTS if not fault.startswith("none")}
    assert faults == EXPECTED.keys() | ELSEWHERE.keys()


class Listed(FAULTS["none"]):
    """One that knows its pools without making tasks, of twenty tasks that are all looked at."""

    def size(self, category):
        return 20

    def indices(self, category, pool):
        of = [index for index in range(20) if pool_of(self.task(category, index).key) == pool]
        return np.array(of, np.int64)


class MinusOne(Good):
    """One that pays nobody less than nothing, but says so of wrong replies alone."""

    def score(self, task, completion):
        return Score(float(completion.strip() == task.answer) * 2 - 1, correct=False)


def scored(monkeypatch: pytest.MonkeyPatch, *spent: bool) -> CheckContext:
    """Check scores where each budget, one after the other, is spent from the start or never; the last one goes on."""
    monkeypatch.setitem(FAULTS, "minus_one", MinusOne)
    context = CheckContext(bad("minus_one"), FEW, lambda jobs: [play(MinusOne("sums"), job) for job in jobs], str)
    for name in ("build", "categories", "sizes", "tasks"):
        run_check(CHECKS[name], context)
    budgets = chain(spent, repeat(spent[-1]))
    monkeypatch.setattr(context, "budget", lambda: partial(bool, next(budgets)))
    assert "score-form" in {found.rule for found in run_check(CHECKS["scores"], context)}
    return context


def test_a_right_and_a_wrong_reply_are_tried_whatever_the_time(monkeypatch):
    for facts in scored(monkeypatch, True).counts.values():
        assert 3 <= facts.num_tried < facts.num_replies


def test_the_time_for_scores_begins_when_the_process_has_answered(monkeypatch):
    first, second = scored(monkeypatch, True, False, True).counts.values()
    assert first.num_tried == first.num_replies
    assert second.num_tried < second.num_replies


def test_all_tasks_are_counted_where_all_may_be_looked_at(monkeypatch):
    monkeypatch.setitem(FAULTS, "listed", Listed)
    context = CheckContext(bad("listed"), CheckLimits(tasks=8, scan=40, budget_s=5.0), list, lambda words: None)
    for name in ("build", "categories", "sizes", "tasks", "pools"):
        run_check(CHECKS[name], context)
    assert [facts.num_looked_at for facts in context.counts.values()] == [20, 20]
