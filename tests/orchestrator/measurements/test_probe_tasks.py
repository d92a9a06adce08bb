"""What a linear probe can read off its tasks, and what is said where it cannot."""

from __future__ import annotations

from environments import Task
from orchestrator.measurements.probe_options import ProbeOptions
from orchestrator.measurements.probe_tasks import left_out, nothing_to_tell


def linear(label: str) -> ProbeOptions:
    return ProbeOptions.model_validate({"kind": "linear", "environment": "maze", "label": label})


def tasks(*colours: str | None) -> list[Task]:
    messages = ({"role": "user", "content": "which?"},)
    return [Task("maze", "small", place, messages, data={"colour": one}) for place, one in enumerate(colours)]


def test_all_is_read_off_where_every_class_has_a_task_for_each_fold() -> None:
    some = tasks(*["red"] * 5, *["blue"] * 5)
    assert (nothing_to_tell(linear("colour"), some), left_out(linear("colour"), some)) == (None, None)


def test_it_says_how_many_tasks_and_classes_are_left_out() -> None:
    some = tasks(*["red"] * 9, *["blue"] * 5, *["green"] * 4, None, None)
    assert nothing_to_tell(linear("colour"), some) is None
    assert left_out(linear("colour"), some) == (
        "its score is of 14 of 20 tasks, and of 2 of 3 classes of `colour`: it leaves out classes of fewer than 5 "
        "tasks and 2 tasks without one"
    )
    assert left_out(linear("colour"), some[:14] + some[18:]) == (
        "its score is of 14 of 16 tasks, and of 2 of 2 classes of `colour`: it leaves out 2 tasks without one"
    )


def test_it_says_what_there_is_to_read_off_where_a_label_is_of_no_task() -> None:
    some = tasks("red", "blue")
    assert nothing_to_tell(linear("color"), some) == (
        "no held-out task of maze has 'color': `label` may be category, answer and colour. Did you mean 'colour'?"
    )
    assert nothing_to_tell(linear("answer"), some) == "no held-out task of maze has an answer: say another `label`"


def test_more_items_help_only_where_there_are_two_classes() -> None:
    of_one, of_two = (nothing_to_tell(linear("colour"), tasks(*own)) for own in (["red"] * 9, ["red"] * 9 + ["blue"]))
    assert of_one is not None
    assert of_one.endswith("say another `label`")
    assert of_two is not None
    assert of_two.endswith("say another `label`, or more than 256 `items`")
