import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments import TextOptions
from environments.options import ASK_FOR_BOX


@pytest.mark.parametrize(
    ("completion", "raw", "tag"),
    [
        ("42", "42", None),
        (" 42\n", "42", None),
        ("<answer>42</answer>", "<answer>42</answer>", "42"),
        ("so <answer>1</answer> or <answer> 42 </answer>.", None, "42"),
        ("<answer>42</answer> or <answer>1", None, "42"),
        ("</answer>", None, None),
        ("42</answer>", None, None),
        ("</answer><answer>42", None, None),
        ("", "", None),
        ("<answer></answer>", None, ""),
    ],
)
def test_the_answer_is_found(completion, raw, tag):
    if raw is not None:
        assert TextOptions().read(completion) == raw
    assert TextOptions(answer="tag").read(completion) == tag


@pytest.mark.parametrize(
    ("completion", "boxed"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} or \boxed{ 42 }", "42"),
        (r"\boxed {42}", "42"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}} and }", r"\{1, 2\}"),
        (r"{ \boxed{\text{a}} }}", r"\text{a}"),
        (r"\boxed{42} or \boxed{1", "42"),
        (r"\boxed{42} or \boxed{1{", "42"),
        (r"\boxed{1 \boxed{42}", "42"),
        (r"\boxed{\boxed{42}}", "42"),
        (r"\boxed{}", ""),
        (r"\boxed{a{b}", None),
        (r"\boxed 42", None),
        (r"\\boxed{42}", None),
        ("boxed{42}", None),
        ("", None),
    ],
)
def test_the_answer_is_found_in_the_last_whole_box(completion, boxed):
    assert TextOptions(answer="boxed").read(completion) == boxed


@given(
    st.text(st.sampled_from("\\boxed{} a\n"), max_size=60),
    st.text(st.sampled_from("ab(1)+*/ \n"), max_size=20),
)
def test_whatever_comes_before_a_box_the_box_is_found(before, answer):
    options = TextOptions(answer="boxed")
    options.read(before)
    assert options.read(f"{before} \n {options.write(answer)}") == answer.strip()


@pytest.mark.parametrize("piece", ["\\boxed{", "{", "}", "\\boxed ", "\\boxed{}", "\\"])
def test_a_box_is_looked_for_in_time_linear_in_the_reply(piece):
    begun = time.perf_counter()
    TextOptions(answer="boxed").read(piece * 50_000)
    assert time.perf_counter() - begun < 1.0


@pytest.mark.parametrize("answer", ["raw", "tag", "boxed"])
def test_what_is_written_is_read_back(answer):
    options = TextOptions(answer=answer)
    assert options.read(options.write("two words")) == "two words"


def test_only_tags_and_boxes_bring_a_system_prompt_of_their_own():
    assert TextOptions(answer="boxed").conversation("q")[0] == {"role": "system", "content": ASK_FOR_BOX}
    assert [m["role"] for m in TextOptions().conversation("q")] == ["user"]
    assert "<answer>" in TextOptions(answer="tag").conversation("q")[0]["content"]
    assert [m["role"] for m in TextOptions(answer="tag", system="").conversation("q")] == ["user"]
    assert TextOptions(system="Be brief.").conversation("q")[0] == {"role": "system", "content": "Be brief."}
