import pytest

from environments import TextOptions


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


@pytest.mark.parametrize("answer", ["raw", "tag"])
def test_what_is_written_is_read_back(answer):
    options = TextOptions(answer=answer)
    assert options.read(options.write("two words")) == "two words"


def test_only_tags_bring_a_system_prompt_of_their_own():
    assert [m["role"] for m in TextOptions().conversation("q")] == ["user"]
    assert "<answer>" in TextOptions(answer="tag").conversation("q")[0]["content"]
    assert [m["role"] for m in TextOptions(answer="tag", system="").conversation("q")] == ["user"]
    assert TextOptions(system="Be brief.").conversation("q")[0] == {"role": "system", "content": "Be brief."}
