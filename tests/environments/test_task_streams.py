import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments import EnvironmentFault, EnvironmentSource, TaskStream, pool_of, training_roster
from tests.environments import fakes


def training_indices(fake, size):
    return {i for i in range(size) if pool_of(fake.task("easy", i).key) == "train"}


@pytest.mark.parametrize("size", [None, 100])
def test_only_training_tasks_are_drawn(size):
    stream = TaskStream(fakes.create("fake", size=size), "easy", seed=1)
    assert {pool_of(task.key) for task in stream.draw(300)} == {"train"}


@pytest.mark.parametrize("size", [None, 100])
def test_the_same_seed_draws_the_same_and_another_draws_differently(size):
    fake = fakes.create("fake", size=size)
    first, again, other = (TaskStream(fake, "easy", seed).draw(20) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_no_task_comes_back_before_all_were_used():
    fake = fakes.create("fake", size=50)
    stream, there = TaskStream(fake, "easy", seed=0), training_indices(fake, 50)
    drawn = [stream.draw(1)[0].index for _ in range(3 * len(there))]
    epochs = [drawn[i : i + len(there)] for i in range(0, len(drawn), len(there))]
    assert [set(epoch) for epoch in epochs] == [there] * 3
    assert epochs[0] != epochs[1]


def test_a_draw_over_the_end_of_an_epoch_holds_no_task_twice():
    fake = fakes.create("fake", size=50)
    stream, there = TaskStream(fake, "easy", seed=0), training_indices(fake, 50)
    for _ in range(20):
        indices = [task.index for task in stream.draw(len(there) - 3)]
        assert len(set(indices)) == len(indices)


@pytest.mark.parametrize("size", [None, 10])
def test_a_category_smaller_than_the_draw_repeats_all_it_has_evenly(size):
    fake = fakes.create("fake", size=size, distinct=10)
    tasks = TaskStream(fake, "easy", seed=3).draw(30)
    there = training_indices(fake, 10)
    assert {int(task.answer or "") for task in tasks} == there
    counts = [sum(task.answer == str(i) for task in tasks) for i in there]
    assert len(tasks) == 30
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("size", [None, 100])
def test_keys_already_in_the_batch_are_avoided(size):
    fake = fakes.create("fake", size=size, distinct=100)
    avoid = {task.key for task in TaskStream(fake, "easy", seed=5).draw(20)}
    drawn = TaskStream(fake, "easy", seed=5).draw(20, avoid)
    assert not avoid & {task.key for task in drawn}


def test_when_all_is_to_be_avoided_the_order_goes_on_as_if_nothing_was():
    fake = fakes.create("fake", size=20)
    plain = TaskStream(fake, "easy", seed=5).draw(6)
    avoid = {fake.task("easy", index).key for index in range(20)}
    assert TaskStream(fake, "easy", seed=5).draw(6, avoid) == plain


@given(st.sampled_from([None, 5, 40]), st.integers(0, 2**40), st.lists(st.integers(1, 12), max_size=6))
def test_a_stream_goes_on_where_its_state_was_taken(size, seed, draws):
    fake = fakes.create("fake", size=size)
    stream = TaskStream(fake, "easy", seed)
    for n in draws:
        stream.draw(n)
    state = json.loads(json.dumps(stream.state()))
    assert set(state) == {"position", "epoch"}
    copy = TaskStream(fake, "easy", seed)
    copy.load_state(state)
    assert copy.draw(9) == stream.draw(9)


def test_a_batch_of_a_codebook_holds_no_key_twice_and_two_hold_all():
    stream = TaskStream(EnvironmentSource("red", "codebook").create(), "16", seed=0)
    first, second = stream.draw(32), stream.draw(32)
    assert len({task.key for task in first + second}) == 64


@pytest.mark.parametrize("size", [None, 1])
def test_a_category_without_a_training_task_says_what_to_do(size):
    name = next(name for name in map(str, range(100)) if pool_of(key_of(name)) != "train")
    fake = fakes.create("fake", categories=[name], size=size, distinct=1)
    with pytest.raises(EnvironmentFault, match=f"fake, category {name}: .*wider options"):
        TaskStream(fake, name, seed=0).draw(1)


def key_of(category):
    return fakes.create("fake", categories=[category]).task(category, 0).key


@pytest.mark.parametrize("draws", [TaskStream, lambda fake, category, seed: training_roster(fake, category, seed, 9)])
def test_a_size_whose_order_would_fill_the_memory_is_refused(draws):
    said = "huge, category easy: its size is more than 100,000,000: let it be endless instead"
    with pytest.raises(EnvironmentFault, match=said):
        draws(fakes.create("huge", size=10**12), "easy", 0)
